"""The runner of `make mutants`, on a tree of a few lines: what it calls found, survived and invalid."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .runner import ROOT, mutants

pytestmark = pytest.mark.slow

ADD = "def add(a, b):\n    return a + b\n\n\ndef double(a):\n    return 2 * a\n"
TEST_ADD = "from wardgate.sums.add import add, double\n\n\ndef test_adds():\n    assert add(1, 2) == 3\n"
TEST_DOUBLE = "from wardgate.sums.add import double\n\n\ndef test_doubles():\n    assert double(3) == 6\n"
TEST_BROKEN = "def test_never_passes():\n    assert False\n"
NEVER = "tests/unit/sums/test_broken.py"


# Lies in the tree as `pytest` and answers as pytest does, in a twentieth of its time.
STAND_IN = """
import runpy, sys
from pathlib import Path
passed, paths = 0, [Path(word) for word in sys.argv[1:] if word.startswith("tests/")]
if not all(path.exists() for path in paths):
    sys.exit(4)
for file in [one for path in paths for one in ([path] if path.is_file() else sorted(path.rglob("test_*.py")))]:
    for name, test in runpy.run_path(str(file)).items():
        if name.startswith("test_"):
            test()  # exit code 1 when it raises
            passed += 1
print(f"{passed} passed")
sys.exit(0 if passed else 5)
"""


@pytest.fixture(name="tree")
def _tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mutants.os, "cpu_count", lambda: 1)  # no parallel runs within a gate
    tree = tmp_path / "tree"
    for name, text in {
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        "src/pytest.py": STAND_IN,
        "src/wardgate/__init__.py": "",
        "src/wardgate/sums/__init__.py": "",
        "src/wardgate/sums/add.py": ADD,
        "tests/unit/sums/test_add.py": TEST_ADD,
        "tests/unit/sums/test_double.py": TEST_DOUBLE,
        "tests/property/test_laws.py": "def test_nothing_yet():\n    pass\n",
        "tests/mutants/.keep": "",
    }.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


def write_list(tree: Path, *entries: dict[str, str]) -> None:
    usual = {
        "file": "src/wardgate/sums/add.py",
        "fault": "sums are wrong",
        "gate": "tests/unit/sums/test_add.py",
    }
    text = ""
    for entry in entries:
        text += "[[mutant]]\n"
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in {**usual, **entry}.items())
    (tree / "tests/mutants/sums.toml").write_text(text)


def outcomes(tree: Path, tmp_path: Path, *arguments: str) -> tuple[int, dict[str, tuple[str, str | None]]]:
    """Exit code, and what became of each fault and by which gate."""
    report = tmp_path / "report.json"
    code = mutants.main(["--root", str(tree), "--jobs", "1", "--json", str(report), *arguments])
    return code, {one["id"]: (one["outcome"], one["found_by"]) for one in json.loads(report.read_text())}


MINUS = {"id": "minus", "before": "a + b", "after": "a - b"}
WRONG_GATE = {"id": "triple", "before": "2 * a", "after": "3 * a"}
UNSEEN = {"id": "unseen", "before": "def double(a):", "after": "def double(a, _=None):"}


@pytest.mark.timeout(120)
def test_tells_what_was_found_by_which_gate_and_what_was_not(tree: Path, tmp_path: Path) -> None:
    write_list(tree, MINUS, WRONG_GATE, UNSEEN)
    code, came = outcomes(tree, tmp_path)
    assert came == {
        "minus": ("found", "tests/unit/sums/test_add.py"),
        "triple": ("elsewhere", "tests/unit/sums"),
        "unseen": ("SURVIVED", None),
    }
    assert code == 1
    assert (tree / "src/wardgate/sums/add.py").read_text() == ADD


@pytest.mark.timeout(120)
def test_wider_gates_can_be_left_out(tree: Path, tmp_path: Path) -> None:
    write_list(tree, MINUS, WRONG_GATE)
    assert outcomes(tree, tmp_path, "--gate-only") == (
        1,
        {"minus": ("found", "tests/unit/sums/test_add.py"), "triple": ("SURVIVED", None)},
    )


WAITS = """
import sys
from pathlib import Path
from wardgate.sums.add import add
runs = Path(__file__).with_name("runs")
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
"""
IN_VAIN = (
    "def test_waits():\n    if add(1, 2) != 3:\n"
    "        sys.exit('Failed: Timeout (>20.0s) from pytest-timeout.')\n"
)
ONCE_ON_A_BUSY_MACHINE = (
    "def test_waits():\n    if len(runs.read_text()) == 2:\n        sys.exit('Failed: Timeout (>20.0s)')\n"
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        pytest.param(IN_VAIN, ("waited", "tests/unit/sums/test_waits.py"), id="for the fault"),
        pytest.param(ONCE_ON_A_BUSY_MACHINE, ("SURVIVED", None), id="for the machine"),
    ],
)
def test_a_time_limit_alone_finds_nothing(
    tree: Path, tmp_path: Path, body: str, outcome: tuple[str, str | None]
) -> None:
    (tree / "tests/unit/sums/test_waits.py").write_text(WAITS + body)
    write_list(tree, {**MINUS, "gate": "tests/unit/sums/test_waits.py"})
    assert outcomes(tree, tmp_path, "--gate-only")[1] == {"minus": outcome}


ENDLESS = """
import os, time
from pathlib import Path
from wardgate.sums.add import add
def test_endless():
    if add(1, 2) != 3:
        Path(__file__).with_name("written").write_text(str(os.getpid()))
        Path(__file__).with_name("written").rename(Path(__file__).with_name("process"))
        time.sleep(600)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_told_to_end_takes_its_gates_along(tree: Path, number: signal.Signals) -> None:
    (tree / "tests/unit/sums/test_endless.py").write_text(ENDLESS)
    write_list(tree, {**MINUS, "gate": "tests/unit/sums/test_endless.py"}, WRONG_GATE)
    run = subprocess.Popen(
        [sys.executable, ROOT / "scripts/mutants.py", "--root", tree, "--jobs", "1"], stderr=subprocess.PIPE
    )
    copy = tree / ".cache/mutants/0/tree"
    while not (copy / "tests/unit/sums/process").exists():
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(number)
    _, said = run.communicate()
    assert run.returncode == 128 + number
    assert said.endswith(f"mutants: stopped by {number.name}\n".encode())
    with pytest.raises(ProcessLookupError):
        os.kill(int((copy / "tests/unit/sums/process").read_text()), 0)
    assert (copy / "src/wardgate/sums/add.py").read_text() == ADD


@pytest.mark.timeout(120)
def test_what_was_imported_before_a_fault_was_planted_is_not_what_its_tests_import(
    tree: Path, tmp_path: Path
) -> None:
    """Should a package of others bring a module of the tree along, a child reads it anew."""
    (tree / "tests/mutants/preloaded.txt").write_text("there_is_no_such_package\nwardgate.sums.add\njson\n")
    counts = (
        "import sys\nfrom wardgate.sums.add import add\n\n\ndef test_adds():\n    assert add(1, 2) == 3\n"
    )
    counts += "    assert 'json' in sys.modules\n"
    (tree / "tests/unit/sums/test_add.py").write_text(counts)
    write_list(tree, MINUS, {**MINUS, "id": "zero", "after": "0"}, UNSEEN)
    _, came = outcomes(tree, tmp_path, "--gate-only")
    assert [outcome for outcome, _ in came.values()] == ["found", "found", "SURVIVED"]


@pytest.mark.timeout(120)
def test_all_found_is_success(tree: Path, tmp_path: Path) -> None:
    write_list(tree, MINUS, UNSEEN)
    assert outcomes(tree, tmp_path, "--only", "sums/min*") == (
        0,
        {"minus": ("found", "tests/unit/sums/test_add.py")},
    )


@pytest.mark.timeout(120)
def test_an_entry_that_proves_nothing_is_invalid(tree: Path, tmp_path: Path) -> None:
    (tree / NEVER).write_text(TEST_BROKEN)
    (tree / "tests/unit/sums/test_empty.py").write_text("")
    write_list(
        tree,
        {"id": "twice", "before": "return", "after": "yield"},
        {"id": "nowhere", "before": "c * d", "after": "c"},
        {"id": "unchanged", "before": "a + b", "after": "a + b"},
        {"id": "syntax", "before": "a + b", "after": "a +"},
        {**MINUS, "id": "fails-anyway", "gate": NEVER},
        {**MINUS, "id": "no-tests", "gate": "tests/unit/sums/test_empty.py"},
        {**MINUS, "id": "no-such-gate", "gate": "tests/unit/sums/test_gone.py"},
    )
    code, came = outcomes(tree, tmp_path)
    assert {outcome for outcome, _ in came.values()} == {"invalid"}
    assert len(came) == 7
    assert code == 1


@pytest.mark.timeout(120)
def test_a_fault_of_the_same_length_within_a_second_is_seen(tree: Path, tmp_path: Path) -> None:
    """Bytecode of the whole file must not be taken for that of the faulty one, nor the other way round."""
    write_list(tree, MINUS, {"id": "times", "before": "a + b", "after": "a * b"}, UNSEEN)
    _, came = outcomes(tree, tmp_path, "--only", "minus", "--only", "times")
    assert [outcome for outcome, _ in came.values()] == ["found", "found"]
    _, came = outcomes(tree, tmp_path, "--only", "unseen")
    assert came["unseen"] == ("SURVIVED", None)


@pytest.mark.timeout(120)
def test_a_copy_left_with_a_fault_is_repaired(tree: Path, tmp_path: Path) -> None:
    write_list(tree, MINUS, UNSEEN)
    outcomes(tree, tmp_path, "--only", "minus")
    copy = tree / ".cache/mutants/0/tree/src/wardgate/sums"
    (copy / "add.py").write_text(ADD.replace("a + b", "a - b"))
    (copy / "left.py").write_text("")
    assert outcomes(tree, tmp_path, "--only", "unseen")[1] == {"unseen": ("SURVIVED", None)}
    assert (copy / "add.py").read_text() == ADD
    assert not (copy / "left.py").exists()


@pytest.mark.timeout(120)
def test_a_cache_by_a_relative_path_is_where_gates_run(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_list(tree, MINUS)
    assert outcomes(tree, tmp_path, "--gate-only", "--cache", "copies")[1]["minus"][0] == "found"
    assert (tmp_path / "copies/0/tree/src").is_dir()


@pytest.mark.timeout(120)
def test_pytest_itself_answers_as_its_stand_in(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they cost seconds to load
    write_list(tree, MINUS, {**MINUS, "id": "no-tests", "gate": "tests/unit/sums/test_add.py -k nothing"})
    (tree / "src/pytest.py").unlink()
    _, came = outcomes(tree, tmp_path)
    assert [outcome for outcome, _ in came.values()] == ["found", "invalid"]


def test_a_badly_formed_list_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for entries, complaint in (
        ([MINUS, MINUS], "minus is the id of 2 entries"),
        ([{**MINUS, "note": "more"}], "minus: wants the texts after, before"),
    ):
        write_list(tree, *entries)
        assert mutants.main(["--root", str(tree)]) == 2
        assert complaint in capsys.readouterr().err


def test_lists_without_running(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_list(tree, MINUS, UNSEEN)
    assert mutants.main(["--root", str(tree), "--list"]) == 0
    assert "sums/minus\n    sums are wrong" in capsys.readouterr().out
    assert mutants.main(["--root", str(tree), "--only", "nothing"]) == 2


def test_rust_stays_in_one_place_and_goes_first() -> None:
    def fault(name: str, gate: str) -> "mutants.Mutant":
        return mutants.Mutant(name, "area", "file", "before", "after", "fault", gate)

    python, other = fault("a", "tests/unit/a.py"), fault("b", "tests/unit/b.py")
    rust, later = fault("c", "cargo:wardgate-stun"), fault("d", "cargo:wardgate-io")
    assert list(mutants.chores([python, rust, other, later])) == [[[rust], [later]], [[python]], [[other]]]


RUST = "pub fn add(a: u8, b: u8) -> u8 {\n    a + b\n}\n\n#[test]\nfn adds() {\n    assert_eq!(add(1, 2), 3);\n}\n"


@pytest.mark.timeout(120)
def test_a_fault_in_rust_is_compiled_before_it_is_judged(tree: Path, tmp_path: Path) -> None:
    crate = tree / "native/crates/sums"
    (crate / "src").mkdir(parents=True)
    (crate / "src/lib.rs").write_text(RUST)
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "wardgate-sums"\nversion = "0.1.0"\nedition = "2024"\n'
    )
    (tree / "native/Cargo.toml").write_text('[workspace]\nresolver = "2"\nmembers = ["crates/*"]\n')
    (tree / "native/Cargo.lock").write_text(
        'version = 4\n\n[[package]]\nname = "wardgate-sums"\nversion = "0.1.0"\n'
    )
    rust = {"file": "native/crates/sums/src/lib.rs", "gate": "cargo:wardgate-sums adds"}
    write_list(
        tree,
        {**MINUS, **rust, "after": "b - a"},
        {**UNSEEN, **rust, "before": "pub fn add", "after": "#[inline]\npub fn add"},
        {**MINUS, **rust, "id": "mistyped", "after": "a + c"},
        {**MINUS, **rust, "id": "empty", "gate": "cargo:wardgate-sums no_such_test"},
    )
    assert outcomes(tree, tmp_path) == (
        1,
        {
            "minus": ("found", "cargo:wardgate-sums adds"),
            "unseen": ("SURVIVED", None),
            "mistyped": ("invalid", None),
            "empty": ("invalid", None),
        },
    )
