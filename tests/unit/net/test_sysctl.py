# ruff: noqa: ASYNC240 - small temporary files
from pathlib import Path

import pytest

from wardgate.net.privileges import buffer_limits
from wardgate.net.reconciler import Reconciler
from wardgate.net.sysctl import Sysctl


@pytest.fixture
def parameter(tmp_path: Path) -> Path:
    made = tmp_path / "net/ipv4/ip_forward"
    made.parent.mkdir(parents=True)
    made.write_text("0\n")
    return made


def keeping(proc_sys: Path) -> Reconciler:
    return Reconciler([Sysctl("net/ipv4/ip_forward", "1", is_necessary=True, proc_sys=proc_sys)])


async def test_a_parameter_is_set_kept_and_given_back(tmp_path: Path, parameter: Path) -> None:
    host = keeping(tmp_path)
    await host.establish()
    after_start = parameter.read_text()
    parameter.write_text("0\n")
    await host.check()
    after_check = parameter.read_text()
    await host.undo()

    assert (after_start, after_check, parameter.read_text()) == ("1", "1", "0")
    assert str(host.conditions[0]) == "net.ipv4.ip_forward: put back 1 time"


async def test_what_was_right_before_us_stays(tmp_path: Path, parameter: Path) -> None:
    parameter.write_text("1\n")
    host = keeping(tmp_path)
    await host.establish()
    await host.undo()

    assert parameter.read_text() == "1\n"


async def test_a_third_value_is_somebody_elses_wish_at_the_end(tmp_path: Path, parameter: Path) -> None:
    host = keeping(tmp_path)
    await host.establish()
    parameter.write_text("2\n")
    await host.undo()

    assert parameter.read_text() == "2\n"


async def test_a_parameter_that_went_with_its_interface_is_no_trouble_at_the_end(
    tmp_path: Path, parameter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = keeping(tmp_path)
    await host.establish()
    parameter.unlink()
    await host.undo()

    assert not caplog.records


async def test_a_parameter_that_is_not_there_is_noted(tmp_path: Path) -> None:
    host = keeping(tmp_path)
    await host.establish()

    assert not host.is_ready
    assert str(host.conditions[0]).startswith("net.ipv4.ip_forward: No such file or directory")


async def test_buffer_limits_are_raised_never_lowered_and_given_back(tmp_path: Path) -> None:
    core = tmp_path / "net/core"
    core.mkdir(parents=True)
    (core / "rmem_max").write_text("212992\n")
    (core / "wmem_max").write_text("99999999\n")
    host = Reconciler(buffer_limits(tmp_path))
    await host.establish()
    raised = [(core / name).read_text().strip() for name in ("rmem_max", "wmem_max")]
    await host.undo()

    assert raised == ["16777216", "99999999"]
    assert (core / "rmem_max").read_text() == "212992"


async def test_a_container_without_buffer_limits_is_no_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Reconciler(buffer_limits(tmp_path))
    await host.establish()

    assert host.is_ready
    assert caplog.records == []


async def test_a_process_that_takes_over_puts_back_what_was_there_before_the_first(
    tmp_path: Path, parameter: Path
) -> None:
    before = parameter.read_text().strip()
    first, second = keeping(tmp_path), keeping(tmp_path)
    await first.establish()
    assert parameter.read_text().strip() != before
    second.inherit(first.bequeath())
    await second.establish()
    await second.undo()

    assert parameter.read_text().strip() == before


async def test_what_was_not_changed_is_not_told(tmp_path: Path) -> None:
    assert keeping(tmp_path).bequeath() == {}
