"""What the shell is offered, and that a real shell asks for it rightly."""

import shutil
import subprocess
import sys

import pytest

from wardgate.cli.commands.tree import ROOT
from wardgate.cli.completion import suggest
from wardgate.cli.main import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ga"], {"gateway"}),
        (["--v"], {"--version"}),
        (["admin", "gateway"], {"gateways", "gateway-tokens"}),
        (["admin", "sites", "s"], {"show"}),
        (
            ["admin", "clients", ""],
            {"list", "show", "update", "verify", "unverify", "set-hostname", "delete"},
        ),
        (["admin", "resources", "create", "--ty"], {"--type"}),
        (["admin", "resources", "create", "--type", ""], {"dns", "ip", "cidr"}),
        (["admin", "resources", "create", "--name", ""], set()),
        (["admin", "actors", "update", "--no-d"], {"--no-disabled"}),
        (["admin", "sites", "list", "--output", "j"], {"json"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["db", "c"], {"copy"}),
        (["db", "copy", "--t"], {"--to"}),
        (["init", "--account-s"], {"--account-slug"}),
        (["nonsense", ""], set()),
    ],
)
def test_the_shell_is_offered_what_may_come_next(words: list[str], offered: set[str]) -> None:
    assert {word for word, _told in suggest(words)} == offered


@pytest.mark.parametrize("command", [one.name for one in ROOT.children()])
def test_every_command_offers_its_options_each_with_a_word_on_it(command: str) -> None:
    offered = suggest([command, "-"])
    assert offered
    assert all(told for _word, told in offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_the_program(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", shell])
    assert ended.value.code == 0
    assert "wardgate __complete" in capsys.readouterr().out


@pytest.mark.timeout(120)  # a process of its own
def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "bash"])
    bash = shutil.which("bash")
    assert bash is not None
    script = f"""
        wardgate() {{ {sys.executable} -m wardgate.cli.main "$@"; }}
        {capsys.readouterr().out}
        COMP_WORDS=(wardgate admin resources create --type ''); COMP_CWORD=5
        _wardgate
        printf '%s ' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["dns", "ip", "cidr"]


@pytest.mark.parametrize(
    ("typed", "inserted"),
    [
        ("''", ["Berlin", "New\\ York", "R\\&D\\ \\$HOME"]),
        ("'New\\ Y'", ["Berlin", "New\\ York", "R\\&D\\ \\$HOME"]),
        ("'\"New Y'", ["Berlin", "New York", "R&D $HOME"]),
        ('"\'New Y"', ["Berlin", "New York", "R&D $HOME"]),
    ],
)
def test_bash_quotes_names_and_takes_them_back(
    typed: str, inserted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "bash"])
    bash = shutil.which("bash")
    assert bash is not None
    script = f"""
        wardgate() {{
            printf '<%s>' "${{@: -1}}" >&2
            printf '%s\\ta site\\n' Berlin 'New York' 'R&D $HOME'
        }}
        {capsys.readouterr().out.replace("2>/dev/null", "")}
        COMP_WORDS=(wardgate admin sites show {typed}); COMP_CWORD=4
        _wardgate
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == inserted
    assert done.stderr == ("<>" if typed == "''" else "<New Y>")
