import json
from pathlib import Path

import pytest

from wardgate.net.device_id import Hardware, device_id, device_name, hardware, operating_system


def chosen(configured: str | None, stored_in: Path, machine_id: Path) -> str:
    return device_id(
        configured,
        stored_in=stored_in,
        derive=lambda content: f"derived from {content!r}",
        draw=lambda: "drawn",
        machine_id=machine_id,
    )


def test_the_setting_wins_then_the_file_then_the_machine_id_then_a_draw(tmp_path: Path) -> None:
    stored, machine = tmp_path / "state" / "id.json", tmp_path / "machine-id"
    drawn = chosen(None, stored, machine)
    kept = chosen(None, stored, machine)
    machine.write_bytes(b"abc\n")
    stored.unlink()
    derived = chosen(None, stored, machine)
    stored.write_text(json.dumps({"id": "stored"}))

    assert (drawn, kept) == ("drawn", "drawn")
    assert derived == "derived from b'abc\\n'"
    assert chosen(None, stored, machine) == "stored"
    assert chosen("set", stored, machine) == "set"


def test_a_drawn_id_is_not_for_others_to_read(tmp_path: Path) -> None:
    stored = tmp_path / "id.json"
    chosen(None, stored, tmp_path / "machine-id")

    assert stored.stat().st_mode & 0o777 == 0o640


def test_an_unreadable_file_counts_as_absent(tmp_path: Path) -> None:
    stored, machine = tmp_path / "id.json", tmp_path / "machine-id"
    stored.write_text("{")
    machine.write_bytes(b"abc\n")

    assert chosen(None, stored, machine).startswith("derived")


def test_the_operating_system_is_read_from_os_release(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian GNU/Linux"\nVERSION_ID="13"\n')

    assert operating_system(release).name == "Debian GNU-Linux"
    assert operating_system(release).version == "13"


def test_bytes_that_are_no_utf8_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, machine = tmp_path / "os-release", tmp_path / "machine-id"
    release.write_bytes(b'NAME="Distribution fran\xe7aise"\nVERSION_ID="1"\n')
    machine.write_bytes(b"\xff\xfe\n")
    monkeypatch.setattr("platform.node", lambda: "b\udce2timent")

    assert operating_system(release).name == "Distribution fran\ufffdaise"
    assert device_name(None) == "b?timent"
    assert chosen(None, tmp_path / "id", machine) == "derived from b'\\xff\\xfe\\n'"


def test_a_stored_id_that_is_no_text_is_none(tmp_path: Path) -> None:
    stored, machine = tmp_path / "id", tmp_path / "machine-id"
    stored.write_bytes(b'{"id": "\xff"}')
    machine.write_bytes(b"abc\n")

    assert chosen(None, stored, machine) == "derived from b'abc\\n'"


def test_the_firmwares_identifiers_are_told(tmp_path: Path) -> None:
    (tmp_path / "product_serial").write_text("PF3ABCDE\n")
    (tmp_path / "product_uuid").write_text("4c4c4544-0042-4a10-8052-b4c04f4d3033\n")
    assert hardware(tmp_path) == Hardware("PF3ABCDE", "4c4c4544-0042-4a10-8052-b4c04f4d3033")


@pytest.mark.parametrize(
    "text",
    [
        b"123456789\n", b"To Be Filled By O.E.M.\n", b"Default string", b"0", b"00000000-0000-0000-0000-000000000000",
        b"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", b"", b"  \n", b"\xff\xfe", b"a\x07b", b"x" * 300,
    ],
)  # fmt: skip
def test_what_many_devices_share_or_nobody_can_read_is_no_identifier(tmp_path: Path, text: bytes) -> None:
    for name in ("product_serial", "product_uuid"):
        (tmp_path / name).write_bytes(text)
    assert hardware(tmp_path) == Hardware()


def test_a_host_without_firmware_tables_has_no_identifiers(tmp_path: Path) -> None:
    assert hardware(tmp_path / "none") == Hardware()
