import socket
from pathlib import Path

from wardgate.net.service_manager import notify


def test_the_state_reaches_the_service_manager(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        notify("READY=1", environment={"NOTIFY_SOCKET": address})

        assert manager.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_happens() -> None:
    notify("READY=1", environment={})
