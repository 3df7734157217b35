#!/usr/bin/env python3
"""Explore one fuzz target with libFuzzer, starting from its committed corpus. Needs a nightly toolchain and
`cargo install cargo-fuzz`.

Usage: run.py TARGET [SECONDS]

What it finds is kept in fuzz/target/corpus/TARGET and explored further by the next run. An input that breaks
a promise is printed as a line for fuzz/corpus/TARGET.txt, where the replay in `make test` takes it from.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    targets = sorted(path.stem for path in (HERE / "fuzz_targets").glob("*.rs"))
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in targets:
        sys.exit(f"usage: run.py TARGET [SECONDS], TARGET one of {', '.join(targets)}")
    target = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) == 3 else 600
    inputs = HERE / "target" / "corpus" / target
    broken = HERE / "target" / "broken" / target
    inputs.mkdir(parents=True, exist_ok=True)
    broken.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate((HERE / "corpus" / f"{target}.txt").read_text().splitlines()):
        if not line.startswith("#"):
            (inputs / f"committed-{number:03}").write_bytes(bytes.fromhex(line))
    libfuzzer = [f"-max_total_time={seconds}", "-max_len=8192", f"-artifact_prefix={broken}/"]
    command = [
        "cargo",
        "+nightly",
        "fuzz",
        "run",
        "--fuzz-dir",
        str(HERE),
        target,
        str(inputs),
        "--",
        *libfuzzer,
    ]
    code = subprocess.run(command, check=False).returncode
    for artifact in sorted(broken.iterdir()):
        sys.stdout.write(f"# {artifact.name}\n{artifact.read_bytes().hex()}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
