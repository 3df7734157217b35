# ruff: noqa: ASYNC240 - small temporary files
from pathlib import Path

import pytest

from wardgate.net.errors import HostRefused
from wardgate.net.host_dns import MAGIC, ResolvConf, Untouched, name_servers, rewritten

ORIGINAL = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch old.example\noptions ndots:5 timeout:1\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "resolv.conf"
    made.write_text(ORIGINAL)
    return made


async def test_applying_keeps_the_original_beside_the_file(path: Path) -> None:
    await ResolvConf(path).apply(("100.100.111.1",), "corp.example")

    assert path.with_name("resolv.conf.before-firezone").read_text() == ORIGINAL
    assert path.read_text().startswith(MAGIC + "\n")
    assert "nameserver 100.100.111.1\nsearch corp.example\noptions ndots:1 timeout:1\n" in path.read_text()


async def test_restoring_brings_the_original_back_and_keeps_the_backup(path: Path) -> None:
    control = ResolvConf(path)
    await control.apply(("100.100.111.1",), None)
    await control.restore()

    assert path.read_text() == ORIGINAL
    assert path.with_name("resolv.conf.before-firezone").exists()


async def test_a_crashed_run_is_undone_by_the_next(path: Path) -> None:
    await ResolvConf(path).apply(("100.100.111.1",), None)
    next_run = ResolvConf(path)
    await next_run.restore()
    await next_run.apply(("100.100.111.2",), None)

    assert path.with_name("resolv.conf.before-firezone").read_text() == ORIGINAL
    assert "100.100.111.2" in path.read_text()


async def test_a_user_who_removes_the_first_line_keeps_his_edits(path: Path) -> None:
    control = ResolvConf(path)
    await control.apply(("100.100.111.1",), None)
    path.write_text("nameserver 192.0.2.99\n")
    await control.apply(("100.100.111.2",), None)
    await control.restore()

    assert path.read_text() == "nameserver 192.0.2.99\n"


async def test_without_sentinels_the_file_stays_untouched(path: Path) -> None:
    await ResolvConf(path).apply((), None)

    assert path.read_text() == ORIGINAL


async def test_system_resolvers_are_those_of_the_original(path: Path) -> None:
    control = ResolvConf(path)
    before = await control.system_resolvers()
    await control.apply(("100.100.111.1",), None)

    assert [str(one) for one in before] == ["192.0.2.53", "2001:db8::53"]
    assert await control.system_resolvers() == before
    assert await Untouched(path).system_resolvers() != before


async def test_a_file_that_cannot_be_written_is_refused_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(HostRefused, match="--dns-control disabled"):
        await ResolvConf(tmp_path / "missing" / "resolv.conf").apply(("100.100.111.1",), None)


def test_nonsense_lines_are_no_name_servers() -> None:
    assert name_servers("nameserver\nnameserver x\n#nameserver 192.0.2.1\nnameserver fe80::1%eth0\n") == ()


def test_without_a_search_domain_there_is_no_search_line() -> None:
    assert "search" not in rewritten(ORIGINAL, ("100.100.111.1",), None)
