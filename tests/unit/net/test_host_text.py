from ipaddress import ip_address
from pathlib import Path

from wardgate.model.addresses import IpAddress
from wardgate.net.host_text import read_host_text, write_host_text
from wardgate.net.name_lookup import NameLookup


def test_any_bytes_survive_a_round_trip(tmp_path: Path) -> None:
    path, content = tmp_path / "file", bytes(range(256))
    path.write_bytes(content)
    write_host_text(path, read_host_text(path))

    assert path.read_bytes() == content


async def test_a_hosts_file_with_a_latin_1_comment_still_names_the_portal(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"192.0.2.1 portal\n192.0.2.9 imprimante # b\xe2timent\n")

    async def no_servers() -> tuple[IpAddress, ...]:
        return ()

    assert await NameLookup(no_servers, hosts=hosts).addresses("portal") == {ip_address("192.0.2.1")}
