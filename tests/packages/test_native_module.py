"""The packet engines' module is one for every CPython, and asks no more of a system than docs/install.md says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import wardgate_native

ROOT = Path(__file__).parents[2]
MODULE = next(Path(wardgate_native.__file__).parent.glob("*.so"))
ALLOWED = re.compile(r"lib(c|m|gcc_s)\.so\.\d+|ld-linux-[\w-]+\.so\.\d+")
"""Libraries that PEP 600 (manylinux) lets a wheel expect of a system, as far as Rust asks for them."""


def test_it_is_for_the_stable_abi() -> None:
    assert MODULE.name.endswith(".abi3.so")
    asked = _printed("objdump", "-T", str(MODULE))
    # Names with an underscore in front of `Py` are CPython's own business, and change with its version.
    assert "PyObject_" in asked
    assert not re.findall(
        r"\*UND\*.* (_Py_(?!NoneStruct|TrueStruct|FalseStruct|Dealloc|IncRef|DecRef)\w+)", asked
    )


def test_it_needs_the_c_library_that_the_page_names_and_no_other() -> None:
    needed = re.findall(r"NEEDED\s+(\S+)", _printed("objdump", "-p", str(MODULE)))
    assert [name for name in needed if ALLOWED.fullmatch(name) is None] == []
    versions = {
        tuple(map(int, one.split(".")))
        for one in re.findall(r"GLIBC_([\d.]+)", _printed("objdump", "-T", str(MODULE)))
    }
    (named,) = re.findall(r"glibc (\d+)\.(\d+)", (ROOT / "docs" / "install.md").read_text())
    assert max(versions)[:2] <= tuple(map(int, named))


def test_its_wheel_is_installed_by_pip_and_names_the_systems_that_it_suits(
    dist: Path, tmp_path: Path
) -> None:
    (wheel,) = dist.glob("wardgate_native-*.whl")
    assert re.search(r"-cp311-abi3-manylinux_2_\d+_\w+\.whl$", wheel.name)
    place = tmp_path / "packages"
    pip = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-index", "--no-deps"]
    _printed(*pip, "--target", str(place), str(wheel))
    program = f"import sys; sys.path.insert(0, {str(place)!r}); import wardgate_native; print(wardgate_native.__file__)"
    assert _printed(sys.executable, "-I", "-S", "-c", program).startswith(str(place))
    assert f"  {wheel.name}\n" in (dist / "SHA256SUMS").read_text()


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
