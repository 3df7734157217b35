import errno
import os
from pathlib import Path

import pytest

from wardgate.net.errors import HostRefused
from wardgate.net.privileges import Capability, client_needs, require, tunnel_refusal


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.EBUSY, "--interface"),
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EACCES, "/dev/net/tun may not be opened"),
        (errno.ENOENT, "modprobe tun"),
        (errno.EIO, "cannot be opened"),
    ],
)
def test_each_refusal_names_its_cure(code: int, cure: str) -> None:
    assert cure in str(tunnel_refusal(OSError(code, "reason"), "wardgate"))


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def status(directory: Path, *capabilities: Capability) -> Path:
    path = directory / "status"
    bits = sum(1 << capability.value for capability in capabilities)
    path.write_text(f"Name:\tpython\nCapPrm:\t{2**40:016x}\nCapEff:\t{bits:016x}\n")
    return path


@pytest.mark.usefixtures("somebody")
def test_one_sentence_names_what_is_lacking_and_how_to_give_it(tmp_path: Path) -> None:
    needs = [Capability.CAP_NET_ADMIN, Capability.CAP_NET_BIND_SERVICE]

    require("wardgate client", needs, status=status(tmp_path, *needs))
    with pytest.raises(HostRefused) as refusal:
        require("wardgate client", needs, status=status(tmp_path, Capability.CAP_NET_ADMIN))
    assert str(refusal.value) == (
        "`wardgate client` needs root or CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, and lacks CAP_NET_BIND_SERVICE: "
        "run it with sudo, or as a service with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE"
    )


def test_root_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    require("wardgate client", list(Capability), status=status(tmp_path))


@pytest.mark.parametrize(
    ("first_open", "needs_it"), [("1024", True), ("54", True), ("53", False), ("0", False)]
)
def test_port_53_needs_a_capability_unless_the_host_has_opened_it(
    tmp_path: Path, first_open: str, needs_it: bool
) -> None:
    setting = tmp_path / "ip_unprivileged_port_start"
    setting.write_text(f"{first_open}\n")

    needs = client_needs(writes=None, first_open_port=setting)

    assert (Capability.CAP_NET_BIND_SERVICE in needs) is needs_it
    assert Capability.CAP_NET_ADMIN in needs


@pytest.mark.parametrize("is_writable", [True, False])
def test_resolv_conf_needs_a_capability_unless_its_directory_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_writable: bool
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: is_writable)

    needs = client_needs(writes=tmp_path / "resolv.conf", first_open_port=tmp_path / "missing")

    assert (Capability.CAP_DAC_OVERRIDE in needs) is not is_writable
