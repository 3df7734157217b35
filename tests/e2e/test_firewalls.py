"""Gateways on hosts whose firewall is ufw's or firewalld's, as their packages set it up (docs/host.md)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.on_hosts import bus_settings, reached, succeeds
from support.unpacked import ROOT
from wardgate.lab.host import Host, wait_until
from wardgate.lab.installation import WEB4, Installation

NETWORK = f"http://{WEB4}/get"
NAME = "http://app.internal.example/get"
BUS_SOCKET = "/var/lib/bus"
BUS = f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={BUS_SOCKET}"
_LINKED_AT_INSTALLATION = ("iptables", "ip6tables")
_RULE_FILES = ("before", "before6", "after", "after6", "user", "user6")

pytestmark = pytest.mark.may_log(
    r"gateway on gateway: somebody else changed a setting of the host; it was put back"
)


@pytest.fixture(scope="module")
def gateway_host(shared: Installation, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The gateway's host, on which the unpacked packages are where installed ones would be."""
    if "overlay" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no overlay file system")
    host = shared.gateway_site.host
    linked = tmp_path_factory.mktemp("linked")
    (linked / "sbin").mkdir()
    for name in _LINKED_AT_INSTALLATION:
        for suffix in ("", "-restore", "-save"):
            (linked / "sbin" / f"{name}{suffix}").symlink_to("xtables-nft-multi")
    layers = {"/usr": f"{linked}:{ROOT}/usr:/usr"}
    if (ROOT / "lib").exists():  # packages of a Debian whose /lib is not a part of /usr yet
        layers["/usr/lib"] = f"{ROOT}/lib:/usr/lib"
    for target, lower in layers.items():
        host.run("mount", "-t", "overlay", "-o", f"lowerdir={lower}", "overlay", target)
    for folder in ("ufw", "firewalld", "default"):
        shutil.copytree(ROOT / "etc" / folder, host.etc / folder, dirs_exist_ok=True)
    settings = host.etc / "firewalld" / "firewalld.conf"
    settings.write_text(
        settings.read_text().replace("NftablesTableOwner=yes", "NftablesTableOwner=no")  # docs/host.md
    )
    defaults = ROOT / "usr" / "share" / "ufw"
    shutil.copy(defaults / "ufw.conf", host.etc / "ufw")
    for name in _RULE_FILES:
        shutil.copy(defaults / "iptables" / f"{name}.rules", host.etc / "ufw")
    host.run("mkdir", "-p", "/var/lib/ufw")
    return host


@pytest.fixture
def ufw(gateway_host: Host) -> Iterator[Callable[[], None]]:
    """The firewall at work; call it to have its rules set anew."""
    gateway_host.run("ufw", "--force", "enable")
    yield lambda: discard(gateway_host.run("ufw", "reload"))
    gateway_host.run("ufw", "--force", "disable")
    gateway_host.run("nft", "flush", "ruleset")  # it leaves chains that accept; the gateway puts its own back


@pytest.fixture
def firewalld(gateway_host: Host) -> Iterator[Callable[[], None]]:
    """The firewall at work; call it to have its rules set anew."""
    (gateway_host.etc / "bus.conf").write_text(bus_settings(BUS_SOCKET))
    bus = gateway_host.start("bus", "dbus-daemon", "--config-file=/etc/bus.conf", "--nofork")
    wait_until(lambda: succeeds(gateway_host, "test", "-S", BUS_SOCKET), "the bus", limit_s=45)
    service = gateway_host.start("firewalld", "env", BUS, "firewalld", "--nofork", "--nopid")
    command = ("env", BUS, "firewall-cmd")
    wait_until(lambda: succeeds(gateway_host, *command, "--state"), "firewalld", limit_s=60, every_s=0.5)
    yield lambda: discard(gateway_host.run(*command, "--reload"))
    service.stop()
    bus.stop()


@pytest.mark.parametrize(("firewall", "table"), [("ufw", "ip filter"), ("firewalld", "inet firewalld")])
def test_what_policies_grant_passes_and_nothing_of_ours_stays(
    cone: Installation, gateway_host: Host, firewall: str, table: str, request: pytest.FixtureRequest
) -> None:
    set_anew: Callable[[], None] = request.getfixturevalue(firewall)
    listing = ("nft", "list", "table", *table.split())
    assert reached(cone, NETWORK)
    assert '"wardgate"' in gateway_host.run(*listing), "the firewall let nothing pass by itself"
    set_anew()
    assert reached(cone, NAME)
    cone.restart_ends()  # the way through the firewall is found anew
    assert reached(cone, NETWORK)
    cone.gateway.stop()
    assert '"wardgate"' not in gateway_host.run(*listing)
    cone.mend()


def discard(_: object) -> None:
    """What a command printed is of no use."""
