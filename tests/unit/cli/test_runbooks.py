"""The commands that `docs/runbooks/` prints are run as they stand there, but for the places; what needs a running
portal and its REST API is looked at in `tests/unit/cli/admin`.
"""

import re
import shlex
from pathlib import Path

import pytest

from wardgate.cli.main import main

pytestmark = pytest.mark.slow

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks"
DATA, BACKUPS = "/var/lib/wardgate", "/var/backups/wardgate"
USERS = re.compile(r"(sudo |sudo -u wardgate-portal |)([a-z].*)")
NUMBER = re.compile(r"\d+ rows of \d+ tables")


def printed(page: str) -> list[tuple[str, str]]:
    """Return each command of a page's console blocks with what is printed below it."""
    found = []
    for block in re.findall(
        r"^ *```console\n(.*?)^ *```", (RUNBOOKS / page).read_text(), re.DOTALL | re.MULTILINE
    ):
        text = re.sub(r"\\\n\s*", "", block)
        for part in re.split(r"^ *\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            sudo, words = USERS.fullmatch(command).groups()  # type: ignore[union-attr]
            assert words.startswith("install") or "-u wardgate-portal" in sudo or "admin" in words, (
                f"{command}: only the service's user may"
            )
            found.append((words, output.strip()))
    return found


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("WARDGATE_DATABASE_URL", raising=False)
    return {DATA: str(tmp_path / "data"), BACKUPS: str(tmp_path / "backups")}


def run(command: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    for place, here in places.items():
        command = command.replace(place, here)
    program, *words = shlex.split(command)
    if program == "install":
        assert words[:-1] == ["-d", "-m", "700", "-o", "wardgate-portal", "-g", "wardgate-portal"], command
        Path(words[-1]).mkdir(mode=0o700)
        return ""
    assert program == "wardgate", command
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in (0, None), command
    return capsys.readouterr().out.strip()


def begun(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Path:
    run(
        "wardgate init --account-name Acme --account-slug acme --admin-email ada@acme.example", places, capsys
    )
    return Path(places[DATA])


def test_backing_up_and_restoring_goes_as_it_is_printed(
    places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = begun(places, capsys)
    make_place, back_up, verify, make_data, restore = printed("backup-and-restore.md")
    for command, output in (make_place, back_up, verify):
        shown = run(command, places, capsys).replace(places[BACKUPS], BACKUPS)
        assert NUMBER.sub("", shown) == NUMBER.sub("", output)
    before = (data / "secret.key").read_bytes()
    data.rename(data.with_name("data.broken"))
    run(make_data[0], places, capsys)
    run(restore[0], places, capsys)
    assert (data / "secret.key").read_bytes() == before


def test_a_new_key_is_drawn_as_it_is_printed(
    places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = begun(places, capsys)
    former = (data / "secret.key").read_bytes()
    (data / "secret.key").rename(data / "secret.key.former")
    init, *_ = printed("lost-secret-key.md")
    run(init[0], places, capsys)
    assert (data / "secret.key").read_bytes() != former


@pytest.mark.parametrize("page", sorted(path.name for path in RUNBOOKS.glob("*.md")))
def test_what_stands_in_a_line_is_a_command_with_options_that_there_are(
    page: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` behind a command is answered if the words before it are a command."""
    inline = re.findall(
        r"`(?:sudo )?wardgate ([a-z -]+?)(?: [A-Z/<].*?| --.*?)?`", (RUNBOOKS / page).read_text()
    )
    for words in inline:
        with pytest.raises(SystemExit) as ended:
            main([*words.split(), "--help"])
        assert ended.value.code == 0, words
        capsys.readouterr()
