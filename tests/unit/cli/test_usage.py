"""One dialect of wrong usage, whichever parser found it; and what is meant by a word that is nearly right."""

import pytest

import wardgate
from wardgate.cli import explain
from wardgate.cli.admin import names
from wardgate.cli.admin.catalogue import NOUNS
from wardgate.cli.command_line import read
from wardgate.cli.commands.tree import ROOT
from wardgate.cli.completion import suggest
from wardgate.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explian"], "did you mean 'explain'?"),
        (["no\x1b[31m"], "there is no command 'no"),
        (["explain", "--resorce", "x"], "--resource"),
        (["explain", "--actor", "x"], "--resource"),
        (["explain", "--resource", "x"], "give --actor or --client"),
        (["completion", "tcsh"], "'fish'"),
        (["db", "upgrad"], "did you mean 'upgrade'?"),
        (["admin", "sitse", "list"], "did you mean 'sites'?"),
        (["admin", "sites", "lst"], "did you mean 'list'?"),
        (["admin", "sites", "frobnicate"], "there are list, show, create"),
        (["admin", "sites", "create", "--nmae", "x", "--name", "y"], "did you mean '--name'?"),
        (["admin", "actors", "list", "--type", "x"], "service_account"),
        (["explain", "--actor", "x", "--res", "y"], "there is no option '--res'"),
        (["admin", "sites", "list", "--", "--help"], "there is no option '--'"),
    ],
)
def test_wrong_usage_is_one_line_with_the_cure_and_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("wardgate: ")
    assert error.count("\n") == 1
    assert error.strip().isprintable()
    assert said in error
    assert "--help`)" in error


@pytest.mark.parametrize("part", ["client", "gateway", "relay"])
def test_run_says_what_a_part_does_anyway(part: str) -> None:
    words = ["--api-url", "wss://portal.example.org", "--check"]
    assert read(ROOT, [part, "run", *words]) == read(ROOT, [part, *words])
    assert read(ROOT, [part, "run", "--help"]).wants_help


def test_the_word_of_the_published_client_is_known() -> None:
    assert read(ROOT, ["client", "standalone", "--exit"]).given == {"exit": True}


@pytest.mark.parametrize("words", [[], ["gateway"], ["client", "run"], ["admin", "sites", "list"]])
def test_every_command_tells_its_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{wardgate.__version__}\n")


def test_a_command_that_is_none_has_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gatway", "--version"])
    assert ended.value.code == 2
    assert "did you mean 'gateway'?" in capsys.readouterr().err


def test_help_is_help_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--help"])
    assert ended.value.code == 0
    assert "Exit codes" in capsys.readouterr().out
    assert set(explain.EXIT_CODES.values()) == {0, 6, 7}


@pytest.mark.parametrize(
    ("words", "noun"),
    [
        (["admin", "sites", "delete"], "sites"),
        (["admin", "gateways", "list", "--site"], "sites"),
        (["admin", "policies", "create", "--group"], "groups"),
        (["admin", "members", "add", "--group", "x"], "actors"),
        (["admin", "api-tokens", "create", "--api-client"], "api-clients"),
        (["explain", "--client"], "clients"),
        (["admin", "sites", "list"], None),
        (["admin", "sites", "create", "--name"], None),
        (["explain", "--remote-ip"], None),
        (["portal"], None),
    ],
)
def test_where_a_name_may_stand_names_are_completed(
    words: list[str], noun: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "names_of", lambda wanted, _given: [(wanted, "")])
    offered = {word for word, _ in suggest([*words, ""])}
    assert offered & {one.name for one in NOUNS} == ({noun} if noun else set())


def test_names_are_offered_and_a_portal_that_fails_offers_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"data": [{"name": "Berlin"}, {"name": "Bern"}, {"name": "b\x1bad"}, {"name": None}]}
    monkeypatch.setattr(names, "_ask", lambda _path, _given, **_options: answer)
    assert ("Berlin", "site") in suggest(["admin", "sites", "delete", "Ber"])
    assert [word for word, _ in suggest(["admin", "sites", "delete", "b"])] == []

    def fails(*_arguments: object, **_options: object) -> None:
        raise OSError

    monkeypatch.setattr(names, "_ask", fails)
    assert suggest(["admin", "sites", "delete", "Ber"]) == []
