#!/usr/bin/env python3
"""Build what is installed elsewhere: a directory with a Python of its own, as an archive and as Debian packages.

Usage: package.py [--output DIR] [--no-debs] [--print-inputs]

The archive `wardgate-VERSION-MACHINE.tar.gz` unpacks to a directory of the same name that may lie anywhere:

  bin/wardgate        starts the program (deploy/wardgate.sh)
  python/             the interpreter that built it, its standard library and the locked packages; every shared library
                      beside the C library's own is in it, found by paths relative to whoever loads it
  share/              systemd units, sysusers, licence

`wardgate_native-VERSION-cp311-abi3-manylinux_….whl` is the packet engines alone, for whoever has a Python already.

Debian packages: `wardgate` is that directory under /usr/lib/wardgate; `wardgate-client`, `-gateway`, `-relay` and
`-portal` add a service each. The portal's brings the archive too, so that it can serve it (`/install/gateway.sh`).

Nothing is built again whose inputs have not changed. Needs: the virtual environment with the extension module
(bootstrap.py --native), cargo, and `patchelf`, `strip` and `dpkg-deb`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from bootstrap import ROOT, VENV, fail, run, say, step

VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
MACHINE: Final = platform.machine()
DEBIAN_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}
NAME: Final = f"wardgate-{VERSION}-{MACHINE}"
DEPLOY: Final = ROOT / "deploy"
LOCKS: Final = (ROOT / "requirements" / "portal.txt", ROOT / "requirements" / "peer.txt")
PARTS: Final = ("client", "gateway", "relay", "portal")
STAMP_TIME: Final = 1_767_225_600
"""Of every file in the archive, seconds since 1970: the same inputs make the same bytes."""

# The C library belongs to the host: its parts go together, and with the kernel.
HOST_LIBRARIES: Final = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|anl|nss_.*|mvec))\.so.*")
UNUSED_MODULES: Final = (
    "test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "config-*", "site-packages",
    "venv",
)  # fmt: skip
UNUSED_EXTENSIONS: Final = re.compile(
    r"(_tkinter|nis|_crypt|spwd|_curses.*|readline|_g?dbm|ossaudiodev|_test.*|_ctypes_test|_xxtestfuzz|xx.*)\."
)


FINDS_PACKAGES: Final = '''"""Finds the packages beside the standard library: Debian's Python looks elsewhere."""

import os
import site
import sys

_packages = os.path.join(os.path.dirname(__file__), "site-packages")
if _packages not in sys.path:
    site.addsitedir(_packages)
'''


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR")
    parser.add_argument("--no-debs", action="store_true", help="make no Debian packages")
    options = parser.parse_args()
    for command, package in (("patchelf", "patchelf"), ("strip", "binutils"), ("dpkg-deb", "dpkg")):
        if shutil.which(command) is None:
            fail(f"{command} is missing; Debian: apt-get install {package}")
    archive = build_archive(options.output)
    made = [archive, build_wheel(options.output)]
    if not options.no_debs:
        made += build_debs(options.output, archive)
    write_checksums(options.output, made)
    for path in made:
        say(f"{path.stat().st_size / 1e6:6.1f} MB  {os.path.relpath(path)}")


def build_archive(output: Path) -> Path:
    archive = output / f"{NAME}.tar.gz"
    inputs = digest_of(
        python_inputs(), *LOCKS, Path(__file__), *files_of(ROOT / "src"), *native_module(), *files_of(DEPLOY)
    )
    stamp = output / "work" / "archive.inputs"
    if archive.exists() and stamp.exists() and stamp.read_text() == inputs:
        return archive
    tree = output / "work" / NAME
    shutil.rmtree(tree, ignore_errors=True)
    step(f"{NAME}: the program with a Python of its own")
    shutil.copytree(build_python(output / "work"), tree / "python", symlinks=True)
    packages = tree / "python" / "lib" / python_name() / "site-packages"
    shutil.copytree(
        ROOT / "src" / "wardgate", packages / "wardgate", ignore=shutil.ignore_patterns("__pycache__")
    )
    (native,) = {path.parent for path in native_module()}
    shutil.copytree(native, packages / native.name, ignore=shutil.ignore_patterns("__pycache__"))
    strip(packages / native.name)
    compile_modules(tree, packages / "wardgate", packages / native.name)
    program = tree / "bin" / "wardgate"
    program.parent.mkdir()
    shutil.copy(DEPLOY / "wardgate.sh", program)
    program.chmod(0o755)
    share = tree / "share"
    shutil.copytree(DEPLOY / "systemd", share / "systemd")
    shutil.copytree(DEPLOY / "sysusers.d", share / "sysusers.d")
    shutil.copy(ROOT / "LICENSE", share / "LICENSE")
    prove(program)
    pack(tree, archive)
    stamp.write_text(inputs)
    return archive


def build_wheel(output: Path) -> Path:
    """Make a wheel of the packet engines: for CPython from 3.11 on, on systems that its name tells (PEP 600)."""
    stamp = output / "work" / "wheel.inputs"
    inputs = digest_of(*native_module(), Path(__file__))
    wheels = list(output.glob("wardgate_native-*.whl"))
    if len(wheels) != 1 or not stamp.exists() or stamp.read_text() != inputs:
        for former in wheels:
            former.unlink()
        step("the packet engines as a wheel")
        search = f"{os.environ.get('PATH', '')}:{Path.home() / '.cargo' / 'bin'}"
        command = [str(VENV / "bin" / "maturin"), "build", "--release", "--quiet"]
        run([*command, "--out", str(output)], {**os.environ, "PATH": search}, directory=ROOT / "native")
        wheels = list(output.glob("wardgate_native-*.whl"))
        stamp.write_text(inputs)
    (wheel,) = wheels
    if "-abi3-manylinux" not in wheel.name:
        fail(f"{wheel.name} suits no other system than this one")
    return wheel


def build_python(work: Path) -> Path:
    """Make the interpreter with its standard library and the locked packages, in a cache by their digest."""
    made = work / f"python-{digest_of(python_inputs(), *LOCKS, Path(__file__))[:16]}"
    if made.exists():
        return made
    for former in work.glob("python-*"):
        shutil.rmtree(former)
    tree = work / "draft"
    shutil.rmtree(tree, ignore_errors=True)
    library = tree / "lib" / python_name()
    library.parent.mkdir(parents=True)
    standard = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(standard, library, ignore=shutil.ignore_patterns(*UNUSED_MODULES, "__pycache__"))
    for extension in (library / "lib-dynload").iterdir():
        if UNUSED_EXTENSIONS.match(extension.name):
            extension.unlink()
    (library / "sitecustomize.py").write_text(FINDS_PACKAGES)
    (tree / "bin").mkdir()
    executable = tree / "bin" / "python3"
    shutil.copy(Path(sys.base_prefix) / "bin" / python_name(), executable)
    step("locked Python packages for it")
    uv = [
        str(VENV / "bin" / "uv"),
        "pip",
        "install",
        "-q",
        "--python",
        sys.executable,
        "--require-hashes",
        "--no-deps",
    ]
    uv += ["--link-mode=copy", "--target", str(library / "site-packages")]
    run([*uv, *(word for lock in LOCKS for word in ("-r", str(lock)))])
    shutil.rmtree(library / "site-packages" / "bin", ignore_errors=True)
    for unused in [*library.glob("site-packages/**/tests"), *library.glob("site-packages/**/*.pyi")]:
        shutil.rmtree(unused) if unused.is_dir() else unused.unlink()
    taken = copy_libraries(tree)
    # In this order: strip tears apart what patchelf has moved to the end of a file, such as Debian's interpreter.
    strip(tree)
    lead_to_libraries(tree, taken)
    compile_modules(tree, library)
    tree.rename(made)
    return made


def copy_libraries(tree: Path) -> set[str]:
    """Bring the shared libraries of everything in the tree; returns their names."""
    place = tree / "lib"
    waiting, seen = list(binaries(tree)), set[str]()
    while waiting:
        binary = waiting.pop()
        own_directories = {path.name for path in binary.parent.iterdir()}
        for name, found in needed(binary):
            if HOST_LIBRARIES.fullmatch(name) or name in seen or name in own_directories:
                continue
            if found is None:
                # Wheels bring libraries in directories of their own, which their files know.
                if list(tree.rglob(name)):
                    continue
                fail(f"{binary.name} needs {name}, which is not on this machine")
            if found.is_relative_to(tree):
                continue
            seen.add(name)
            copied = place / name
            shutil.copy(found.resolve(), copied)
            copied.chmod(0o755)
            waiting.append(copied)
    return seen


def lead_to_libraries(tree: Path, names: Collection[str]) -> None:
    """Lead each file that needs one of these libraries to them by a relative path."""
    place = tree / "lib"
    for binary in binaries(tree):
        former = subprocess.run(
            ["patchelf", "--print-rpath", binary], capture_output=True, text=True, check=True
        ).stdout.strip()
        kept = [one for one in former.split(":") if one.startswith("$ORIGIN")]
        ours = "$ORIGIN/" + os.path.relpath(place, binary.parent)
        if any(name in names for name, _ in needed(binary)):
            run(["patchelf", "--set-rpath", ":".join([*kept, ours]), str(binary)])


def needed(binary: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield the libraries that a file needs, by name, and where the loader of this machine finds each."""
    printed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
    for line in printed.splitlines():
        match line.split():
            case [name, "=>", "not", "found"]:
                yield name, None
            case [name, "=>", path, *_]:
                yield name, Path(path)


def binaries(tree: Path) -> Iterator[Path]:
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def strip(tree: Path) -> None:
    for binary in binaries(tree):
        # What strip does not understand, such as libraries that a wheel's maker has edited, stays as it is.
        binary.chmod(binary.stat().st_mode | 0o200)
        run(["strip", "--strip-unneeded", str(binary)], check=False)


def compile_modules(tree: Path, *directories: Path) -> None:
    """Compile ahead: nobody may write there later, and a process that starts has it done."""
    python = str(interpreter_of(tree))
    command = [python, "-I", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    for directory in directories:
        run([*command, "-s", str(tree), "-p", "wardgate", str(directory)])


def interpreter_of(tree: Path) -> Path:
    inner = tree / "python" / "bin" / "python3"
    return inner if inner.exists() else tree / "bin" / "python3"


def prove(program: Path) -> None:
    """Run it without anything of this machine's environment: what is not inside is missed here."""
    bare = {"PATH": "/usr/bin:/bin"}
    modules = [f"wardgate.cli.{part}" for part in ("client", "gateway", "relay", "portal", "init")]
    code = f"import {', '.join(modules)}, asyncpg, acme, sys; print(sys.prefix)"
    done = subprocess.run(
        [interpreter_of(program.parent.parent), "-I", "-c", code],
        env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0 or done.stdout.strip() != str(program.parent.parent / "python"):
        fail(f"the build does not stand alone: {done.stdout}{done.stderr}")
    run([str(program), "--version"], bare)


def pack(tree: Path, archive: Path) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = STAMP_TIME
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    draft = archive.with_suffix(".draft")
    with (
        draft.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, STAMP_TIME) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(tree, tree.name, recursive=False, filter=plain)
        for path in sorted(tree.rglob("*")):
            tar.add(path, f"{tree.name}/{path.relative_to(tree)}", recursive=False, filter=plain)
    draft.replace(archive)


def build_debs(output: Path, archive: Path) -> list[Path]:
    machine = DEBIAN_MACHINES.get(MACHINE)
    if machine is None:
        fail(f"Debian has no name for this machine ({MACHINE}): run with --no-debs")
    names = [("wardgate", machine), *((f"wardgate-{part}", "all") for part in PARTS)]
    paths = [output / f"{name}_{VERSION}_{arch}.deb" for name, arch in names]
    stamp = output / "work" / "debs.inputs"
    inputs = digest_of("debs", archive, Path(__file__), *files_of(DEPLOY))
    if all(path.exists() for path in paths) and stamp.exists() and stamp.read_text() == inputs:
        return paths
    step("Debian packages")
    for (name, arch), path in zip(names, paths, strict=True):
        root = output / "work" / "deb" / name
        shutil.rmtree(root, ignore_errors=True)
        if name == "wardgate":
            fill_program(root, output / "work" / NAME)
        else:
            fill_service(root, name, archive)
        control = (DEPLOY / "debian" / f"{name}.control").read_text()
        size = sum(one.stat().st_size for one in files_of(root)) // 1024
        write(
            root / "DEBIAN" / "control",
            f"Package: {name}\nVersion: {VERSION}\nArchitecture: {arch}\nInstalled-Size: {size}\n"
            + control.replace("@VERSION@", VERSION).replace("@GLIBC@", oldest_glibc(output / "work" / NAME)),
        )
        for script in ("preinst", "postinst", "prerm", "postrm"):
            source = DEPLOY / "debian" / ("wardgate" if name == "wardgate" else "service") / script
            if source.exists():
                write(root / "DEBIAN" / script, source.read_text().replace("@NAME@", name), mode=0o755)
        run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", str(root), str(path)])
    stamp.write_text(inputs)
    return paths


def fill_program(root: Path, tree: Path) -> None:
    shutil.copytree(tree, root / "usr" / "lib" / "wardgate", symlinks=True)
    (root / "usr" / "bin").mkdir()
    (root / "usr" / "bin" / "wardgate").symlink_to("../lib/wardgate/bin/wardgate")
    users = root / "usr" / "lib" / "sysusers.d" / "wardgate.conf"
    users.parent.mkdir()
    shutil.move(root / "usr" / "lib" / "wardgate" / "share" / "sysusers.d" / "wardgate.conf", users)
    shutil.rmtree(root / "usr" / "lib" / "wardgate" / "share")
    document(root, "wardgate")


def fill_service(root: Path, name: str, archive: Path) -> None:
    write(
        root / "lib" / "systemd" / "system" / f"{name}.service",
        (DEPLOY / "systemd" / f"{name}.service").read_text(),
    )
    if name == "wardgate-portal":
        served = root / "usr" / "share" / "wardgate" / "builds" / archive.name
        served.parent.mkdir(parents=True)
        shutil.copy(archive, served)
    document(root, name)


def document(root: Path, name: str) -> None:
    write(root / "usr" / "share" / "doc" / name / "copyright", (ROOT / "LICENSE").read_text())


def oldest_glibc(tree: Path) -> str:
    """Return the oldest C library that has everything that the binaries ask of it."""
    versions = {
        tuple(int(part) for part in found.split(b"."))
        for binary in binaries(tree)
        for found in re.findall(rb"GLIBC_(\d+\.\d+)(?=\0|\.)", binary.read_bytes())
    }
    return ".".join(str(part) for part in max(versions))


def write_checksums(output: Path, made: list[Path]) -> None:
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made]
    (output / "SHA256SUMS").write_text("".join(lines))


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def native_module() -> list[Path]:
    found = next(VENV.glob("lib/*/site-packages/wardgate_native/wardgate_native.abi3.so"), None)
    if found is None:
        fail("the extension module is not built: python3 scripts/bootstrap.py --native")
    return files_of(found.parent)


def python_name() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def python_inputs() -> str:
    return f"{sys.version} {MACHINE} {platform.libc_ver()}"


def digest_of(*parts: str | Path) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(
            b"\0"
            + (part.encode() if isinstance(part, str) else part.name.encode() + b"\0" + part.read_bytes())
        )
    return total.hexdigest()


if __name__ == "__main__":
    main()
