#!/usr/bin/env python3
"""Install what a make target needs and nothing that is there already. Standard library only; needs CPython 3.11+.

Usage: bootstrap.py [--native | --native-dev] [--system] [--packages] [--tests] [--keycloak]

  always        .venv with the locked Python packages and the `wardgate` command
  --native      the extension module `wardgate_native`, built from native/ with cargo as it ships (needed by
                relay, gateway, client, demo, tests)
  --native-dev  the same in the profile of `cargo test` and clippy, which is built sooner; one that ships will do, too
  --system      Debian packages with the commands that the lab uses (needs root and apt-get)
  --packages    Debian packages that building packages takes
  --tests       Debian packages that tests and benches use besides
  --keycloak    Keycloak with what it runs on, for `make test-keycloak`

Each step is skipped when a stamp in .venv/.stamps says that its inputs have not changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = VENV / ".stamps"

# command → Debian package that brings it
LAB_COMMANDS = {
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "curl": "curl",
    "ping": "iputils-ping",
    "nsenter": "util-linux",
    "sysctl": "procps",
}
PACKAGE_COMMANDS = {
    "patchelf": "patchelf",
    "strip": "binutils",
    "dpkg-deb": "dpkg",
}
TEST_COMMANDS = {
    **PACKAGE_COMMANDS,
    "debootstrap": "debootstrap",
    "prometheus": "prometheus",
    "shellcheck": "shellcheck",
    "systemd-analyze": "systemd",
    "iperf3": "iperf3",
    "dig": "dnsutils",
    "dnsmasq": "dnsmasq-base",
    "dnsperf": "dnsperf",
    "chromium": "chromium",
    "wireguard-go": "wireguard-go",
    "initdb": "postgresql",
    "caddy": "caddy",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
    "ssh": "openssh-client",
}
# Packages whose installation would start a service or take over this machine's resolver. Tests take their programs
# from a directory of the tree, where `dpkg` has unpacked them with what they depend on.
UNPACKED_PACKAGES = (
    "bind9",
    "dbus-daemon",
    "firewalld",
    "network-manager",
    "openssh-server",
    "systemd-resolved",
    "ufw",
)
UNPACKED = ROOT / ".cache" / "debian"

KEYCLOAK_COMMANDS = {"java": "default-jre-headless", "mvn": "maven"}
KEYCLOAK = ROOT / ".cache" / "keycloak"
KEYCLOAK_VERSION = "26.4.7"
KEYCLOAK_SHA256 = "aca60ab72ae4d67adc6b8fe7fca5e08d16a6bb5e4a4f2ebb54050e3f5503fd2b"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    profile = parser.add_mutually_exclusive_group()
    profile.add_argument("--native", action="store_const", const="release", dest="profile")
    profile.add_argument("--native-dev", action="store_const", const="dev", dest="profile")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--keycloak", action="store_true")
    options = parser.parse_args()
    if sys.version_info < (3, 11):
        fail(
            f"CPython 3.11 or newer is needed, this is {sys.version.split()[0]}: run `make PYTHON=python3.12 …`"
        )
    if options.system or options.tests:
        install_system_packages(
            {**LAB_COMMANDS, **(TEST_COMMANDS if options.tests else {})}, required=options.tests
        )
    if options.tests:
        unpack_system_packages(UNPACKED_PACKAGES)
    if options.packages:
        install_system_packages(PACKAGE_COMMANDS, required=True)
    if options.keycloak:
        install_system_packages(KEYCLOAK_COMMANDS, required=True)
        install_keycloak()
    install_python_packages()
    if options.profile is not None:
        build_native(options.profile)


def install_system_packages(commands: dict[str, str], *, required: bool) -> None:
    # Debian keeps the programs of PostgreSQL's server out of the search path, in a directory per version.
    servers = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    path = ":".join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *servers])
    packages = sorted(
        {package for command, package in commands.items() if shutil.which(command, path=path) is None}
    )
    if not packages:
        return
    by_hand = f"install them: apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        message = f"{', '.join(packages)}: missing, and only root on Debian can be helped; {by_hand}"
        if required:
            fail(message)
        say(message)  # the demo says itself what it cannot do and tells its story in the simulator
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    step(f"Debian packages: {' '.join(packages)}")
    # Hosts without network have a usable list already: a failing update is not the end, a failing install is.
    run(["apt-get", "update", "-qq"], environment, check=False)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], environment, what=by_hand)


def unpack_system_packages(packages: Sequence[str]) -> None:
    """Have the files of Debian packages, and of what they miss here, below `UNPACKED`; nothing is installed."""
    done = UNPACKED / "packages"
    if done.exists() and done.read_text().split() == list(packages):
        return
    step(f"Debian packages, unpacked only: {' '.join(packages)}")
    shutil.rmtree(UNPACKED, ignore_errors=True)
    archives = UNPACKED / "archives"
    (archives / "partial").mkdir(parents=True)
    download = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "--download-only"]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        fail(f"only root on Debian can be helped: {' '.join([*download, *packages])}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment, check=False)
    run([*download, "-o", f"Dir::Cache::archives={archives}", *packages], environment)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg-deb", "--extract", str(archive), str(UNPACKED)])
    shutil.rmtree(archives)
    done.write_text(" ".join(packages))


def install_keycloak() -> None:
    """Have Keycloak below `KEYCLOAK`, prepared to begin with an empty database in memory each time."""
    done = KEYCLOAK / "installed"
    if done.exists() and done.read_text() == KEYCLOAK_SHA256:
        return
    step(f"Keycloak {KEYCLOAK_VERSION} (160 MB)")
    shutil.rmtree(KEYCLOAK, ignore_errors=True)
    KEYCLOAK.mkdir(parents=True)
    artifact = f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK_VERSION}:tar.gz"
    run(["mvn", "-B", "-q", MAVEN_COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={KEYCLOAK}"])
    (archive,) = KEYCLOAK.glob("*.tar.gz")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != KEYCLOAK_SHA256:
        fail(f"{archive.name} is another than the one that is known by its SHA-256")
    run(["tar", "-xzf", str(archive), "-C", str(KEYCLOAK), "--strip-components=1"])
    archive.unlink()
    run([str(KEYCLOAK / "bin" / "kc.sh"), "build", "--db=dev-mem", "--health-enabled=true"])
    done.write_text(KEYCLOAK_SHA256)


def install_python_packages() -> None:
    inputs = [ROOT / "requirements" / name for name in ("bootstrap.txt", "dev.txt")] + [
        ROOT / "pyproject.toml"
    ]
    if fresh("python", inputs):
        return
    if not (VENV / "bin" / "python").exists():
        step("virtual environment .venv")
        hint = "the venv module is missing; Debian: apt-get install python3-venv"
        run([sys.executable, "-m", "venv", str(VENV)], what=hint)
    python = str(VENV / "bin" / "python")
    step("Python packages (requirements/dev.txt, hashes checked)")
    run(
        [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(inputs[0]),
        ]
    )
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "-q", "--python", python]
    run([*uv, "--require-hashes", "-r", str(inputs[1])])
    run([*uv, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    stamp("python", inputs)


def build_native(profile: str) -> None:
    """Build the extension module in a profile of cargo's, unless it is there or the one that ships is."""
    inputs = sorted(
        path
        for pattern in ("**/*.rs", "**/Cargo.toml", "Cargo.lock", "pyproject.toml", "*.pyi")
        for path in (ROOT / "native").glob(pattern)
        if "target" not in path.parts
    )
    name, other = ("native", "native-dev") if profile == "release" else ("native-dev", "native")
    if fresh("native", inputs) or fresh(name, inputs):
        return
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
    if cargo is None:
        fail(
            "cargo is missing: install a Rust toolchain (rustup.rs, or Debian's `cargo` if it is 1.88 "
            "or newer), then run make again"
        )
    (STAMPS / other).unlink(missing_ok=True)
    step(f"packet engines in Rust (native/, profile {profile}, some minutes the first time)")
    environment = {
        **os.environ,
        "PATH": f"{Path(cargo).parent}:{os.environ.get('PATH', '')}",
        "VIRTUAL_ENV": str(VENV),
    }
    run(
        [str(VENV / "bin" / "maturin"), "develop", "--profile", profile, "--quiet"],
        environment,
        directory=ROOT / "native",
    )
    stamp(name, inputs)


def fresh(name: str, inputs: Iterable[Path]) -> bool:
    file = STAMPS / name
    return file.exists() and file.read_text() == digest(inputs)


def stamp(name: str, inputs: Iterable[Path]) -> None:
    STAMPS.mkdir(exist_ok=True)
    (STAMPS / name).write_text(digest(inputs))


def digest(inputs: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in inputs:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def run(
    command: list[str],
    environment: dict[str, str] | None = None,
    *,
    directory: Path = ROOT,
    check: bool = True,
    what: str = "",
) -> None:
    started = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, check=False)
    if check and done.returncode != 0:
        fail(f"`{' '.join(command)}` failed with exit code {done.returncode}{'; ' + what if what else ''}")
    if time.monotonic() - started > 5:
        say(f"  done in {time.monotonic() - started:.0f} s")


def step(what: str) -> None:
    say(f"Installing {what} …")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def fail(line: str) -> NoReturn:
    say(f"bootstrap: {line}")
    sys.exit(1)


if __name__ == "__main__":
    main()
