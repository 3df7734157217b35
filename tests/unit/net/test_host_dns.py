# ruff: noqa: ASYNC240 - small temporary files
import logging
import os
import socket
from pathlib import Path

import pytest

from wardgate.net import host_dns as host_dns_module
from wardgate.net.errors import HostRefused
from wardgate.net.host_dns import HostDns, Method, ResolvConf, SystemdResolved, UnmanagedDns, usual_method
from wardgate.net.reconciler import Reconciler
from wardgate.net.resolv_conf import FOREIGN_MAGIC, MAGIC, name_servers, rewritten

ORIGINAL = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch old.example\noptions ndots:5 timeout:1\n"
SENTINELS = ("100.100.111.1",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "resolv.conf"
    made.write_text(ORIGINAL)
    return made


class Run:
    """One run of a client over a file."""

    def __init__(self, path: Path) -> None:
        self.dns = ResolvConf(path)
        self.host = Reconciler(self.dns.settings)

    async def take_over(self, sentinels: tuple[str, ...] = SENTINELS, search: str | None = None) -> None:
        await self.host.establish()  # as at the start of a process
        self.dns.want(sentinels, search)
        await self.host.establish()

    async def servers(self) -> list[str]:
        return [str(one) for one in await self.dns.system_resolvers()]


def backup(path: Path) -> Path:
    return path.with_name("resolv.conf.before-wardgate")


async def test_the_original_stays_beside_the_file_and_comes_back(path: Path) -> None:
    run = Run(path)
    await run.take_over(search="corp.example")
    during, kept = path.read_text(), backup(path).read_text()
    await run.host.undo()

    assert during.startswith(MAGIC + "\n")
    assert "nameserver 100.100.111.1\nsearch corp.example old.example\noptions ndots:5 timeout:1\n" in during
    assert kept == ORIGINAL
    assert path.read_text() == ORIGINAL
    assert sorted(os.listdir(path.parent)) == ["resolv.conf"]


async def test_a_crashed_run_is_undone_by_the_next(path: Path) -> None:
    await Run(path).take_over()
    second = Run(path)
    await second.host.establish()
    restored = path.read_text()
    await second.take_over(("100.100.111.2",))

    assert restored == ORIGINAL
    assert backup(path).read_text() == ORIGINAL
    assert "100.100.111.2" in path.read_text()


async def test_what_a_published_client_left_is_undone_and_its_file_goes(path: Path) -> None:
    path.write_text(f"{FOREIGN_MAGIC}\nnameserver 100.100.111.1\n")
    foreign = path.with_name("resolv.conf.before-firezone")
    foreign.write_text(ORIGINAL)
    run = Run(path)
    servers = await run.servers()
    await run.host.establish()

    assert servers == ["192.0.2.53", "2001:db8::53"]
    assert path.read_text() == ORIGINAL
    assert not foreign.exists()


async def test_a_published_clients_file_without_its_original_is_left_alone(path: Path) -> None:
    path.write_text(f"{FOREIGN_MAGIC}\nnameserver 100.100.111.1\n")
    await Run(path).host.establish()

    assert path.read_text().startswith(FOREIGN_MAGIC)


async def test_dhcp_rewrites_it_the_new_servers_count_and_come_back_at_the_end(path: Path) -> None:
    run = Run(path)
    await run.take_over()
    leased = "nameserver 198.51.100.1\nsearch hotel.example\n"
    path.write_text(leased)
    await run.host.check()
    during = path.read_text()
    servers = await run.servers()
    await run.host.undo()

    assert "nameserver 100.100.111.1\nsearch hotel.example" in during
    assert servers == ["198.51.100.1"]
    assert path.read_text() == leased
    assert run.host.conditions[0].repairs == 1


async def test_a_user_who_deletes_the_first_line_keeps_the_edits(path: Path) -> None:
    run = Run(path)
    await run.take_over()
    edited = path.read_text().removeprefix(MAGIC + "\n") + "nameserver 192.0.2.99\n"
    path.write_text(edited)
    await run.host.check()
    run.dns.want(("100.100.111.2",), None)
    await run.host.establish()
    await run.host.undo()

    assert path.read_text() == edited
    assert not backup(path).exists()


@pytest.mark.parametrize("damage", ["nameserver 192.0.2.99\n", ""])
async def test_our_file_without_our_servers_is_written_again(path: Path, damage: str) -> None:
    run = Run(path)
    await run.take_over()
    whole = path.read_text()
    path.write_text(f"{MAGIC}\n{damage}")
    await run.host.check()

    assert path.read_text() == whole
    assert backup(path).read_text() == ORIGINAL


async def test_a_missing_file_is_made_and_is_missing_again_at_the_end(path: Path) -> None:
    path.unlink()
    run = Run(path)
    await run.take_over()
    during = path.read_text()
    servers = await run.servers()
    await run.host.undo()

    assert "nameserver 100.100.111.1" in during
    assert servers == []
    assert os.listdir(path.parent) == []


async def test_a_file_that_vanishes_while_we_run_comes_back(path: Path) -> None:
    run = Run(path)
    await run.take_over()
    path.unlink()
    await run.host.check()

    assert "nameserver 100.100.111.1" in path.read_text()


@pytest.mark.parametrize("dangles", [False, True])
async def test_a_link_is_replaced_and_not_written_through(path: Path, dangles: bool) -> None:
    target = path.parent / "run" / "stub-resolv.conf"
    target.parent.mkdir()
    if not dangles:
        target.write_text("nameserver 127.0.0.53\nsearch lan.example\n")
    path.unlink()
    path.symlink_to("run/stub-resolv.conf")
    run = Run(path)
    await run.take_over()
    during, servers = path.read_text(), await run.servers()
    await run.host.undo()

    assert "nameserver 100.100.111.1" in during
    assert ("search lan.example" in during) is not dangles
    assert servers == ([] if dangles else ["127.0.0.53"])
    assert os.readlink(path) == "run/stub-resolv.conf"
    assert target.exists() is not dangles
    if not dangles:
        assert target.read_text() == "nameserver 127.0.0.53\nsearch lan.example\n"
    assert sorted(os.listdir(path.parent)) == ["resolv.conf", "run"]


async def test_a_link_that_is_put_there_again_is_taken_over_again(path: Path) -> None:
    run = Run(path)
    await run.take_over()
    target = path.parent / "nm-resolv.conf"
    target.write_text("nameserver 198.51.100.7\n")
    path.unlink()
    path.symlink_to(target)
    await run.host.check()

    assert not path.is_symlink()
    assert await run.servers() == ["198.51.100.7"]
    await run.host.undo()
    assert path.is_symlink()


async def test_bytes_that_are_no_utf8_survive(path: Path) -> None:
    original = b"# r\xe9seau\nnameserver 192.0.2.53\noptions timeout:1\n"
    path.write_bytes(original)
    run = Run(path)
    assert await run.servers() == ["192.0.2.53"]
    assert await UnmanagedDns(path).system_resolvers() == await run.dns.system_resolvers()
    await run.take_over()
    await run.host.undo()

    assert path.read_bytes() == original


async def test_without_sentinels_the_file_stays_untouched(path: Path) -> None:
    await Run(path).take_over(())

    assert path.read_text() == ORIGINAL


async def test_a_gateway_beside_a_client_asks_the_hosts_own_servers(path: Path) -> None:
    gateway = UnmanagedDns(path)
    before = await gateway.system_resolvers()
    await Run(path).take_over()

    assert await gateway.system_resolvers() == before
    assert [str(one) for one in before] == ["192.0.2.53", "2001:db8::53"]


async def test_an_unreadable_file_is_warned_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dns = UnmanagedDns(tmp_path / "missing")
    for _ in range(3):
        assert await dns.system_resolvers() == ()

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_file_that_cannot_be_written_is_refused_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(HostRefused, match="--dns-control disabled"):
        await Run(tmp_path / "missing" / "resolv.conf").take_over()


def test_nonsense_lines_are_no_name_servers() -> None:
    assert name_servers("nameserver\nnameserver x\n#nameserver 192.0.2.1\nnameserver fe80::1%eth0\n") == ()


@pytest.mark.parametrize(
    ("original", "ours", "line"),
    [
        ("search a.example b.example\n", None, "search a.example b.example"),
        ("search a.example\ndomain b.example\n", "corp.example", "search corp.example b.example"),
        ("search corp.example a.example\n", "corp.example", "search corp.example a.example"),
        ("options edns0\noptions trust-ad\n", None, "options ndots:1 edns0 trust-ad"),
    ],
)
def test_search_and_options_of_the_original_are_kept(original: str, ours: str | None, line: str) -> None:
    assert line in rewritten(original, SENTINELS, ours).splitlines()


def test_without_any_search_domain_there_is_no_search_line() -> None:
    assert "search" not in rewritten("nameserver 192.0.2.53\n", SENTINELS, None)


class Resolved:
    """Stands for resolvectl; `lines` is what `resolvectl dns` prints."""

    def __init__(self) -> None:
        self.lines = "Global: 192.0.2.1\nLink 2 (eth0): 192.0.2.53 2001:db8::53\nLink 9 (wardgate):\n"
        self.calls: list[tuple[str, ...]] = []
        self.fails = False

    async def __call__(self, *arguments: str) -> str:
        if self.fails:
            raise OSError("resolvectl dns failed: no such unit")
        self.calls.append(arguments)
        if arguments[:2] == ("dns", "wardgate"):
            self.lines = self.lines.replace("(wardgate):", f"(wardgate): {' '.join(arguments[2:])}")
        return self.lines if arguments == ("dns",) else ""


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> Resolved:
    made = Resolved()
    monkeypatch.setattr(host_dns_module, "_resolvectl", made)
    return made


async def test_systemd_resolved_is_told_again_when_it_has_forgotten(resolved: Resolved, path: Path) -> None:
    dns: HostDns = SystemdResolved("wardgate", path)
    host = Reconciler(dns.settings)
    dns.want(SENTINELS, None)
    await host.establish()
    first = [call for call in resolved.calls if call != ("dns",)]
    resolved.lines = resolved.lines.replace(" 100.100.111.1", "")
    await host.check()

    assert first == [
        ("dns", "wardgate", "100.100.111.1"),
        ("domain", "wardgate", "~."),
        ("llmnr", "wardgate", "true"),
        ("flush-caches",),
    ]
    assert "(wardgate): 100.100.111.1" in resolved.lines
    assert host.conditions[0].repairs == 1
    assert [str(one) for one in await dns.system_resolvers()] == ["192.0.2.1", "192.0.2.53", "2001:db8::53"]


async def test_a_failing_resolvectl_is_a_warning_and_resolv_conf_names_the_servers(
    resolved: Resolved, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resolved.fails = True
    dns = SystemdResolved("wardgate", path)
    host = Reconciler(dns.settings)
    dns.want(SENTINELS, None)
    await host.establish()
    await host.check()

    assert host.is_ready
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert [str(one) for one in await dns.system_resolvers()] == ["192.0.2.53", "2001:db8::53"]


@pytest.fixture
def resolvectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_dns_module.shutil, "which", lambda tool: f"/usr/bin/{tool}")


@pytest.mark.usefixtures("resolvectl")
def test_systemd_resolved_is_chosen_where_it_runs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(tmp_path / "resolve"))
        service.listen()
        assert usual_method(tmp_path / "resolve") is Method.SYSTEMD_RESOLVED


@pytest.mark.usefixtures("resolvectl")
def test_a_stopped_systemd_resolved_is_not_chosen_for_the_files_it_left(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(tmp_path / "resolve"))
    assert (tmp_path / "resolve").exists()
    assert usual_method(tmp_path / "resolve") is Method.RESOLV_CONF


@pytest.mark.usefixtures("resolvectl")
def test_a_host_without_systemd_resolved_keeps_resolv_conf(tmp_path: Path) -> None:
    assert usual_method(tmp_path / "nothing") is Method.RESOLV_CONF


def test_without_resolvectl_a_running_service_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_dns_module.shutil, "which", lambda _tool: None)
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(tmp_path / "resolve"))
        service.listen()
        assert usual_method(tmp_path / "resolve") is Method.RESOLV_CONF
