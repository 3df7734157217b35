"""Programs of Debian packages that are unpacked beside the tree, and not installed (scripts/bootstrap.py)."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / ".cache" / "debian"

PATH = ":".join(
    [
        *(
            str(ROOT / folder)
            for folder in ("usr/bin", "usr/sbin", "usr/lib/systemd", "bin", "sbin", "lib/systemd")
        ),
        os.environ["PATH"],
        "/usr/sbin:/sbin",
    ]
)
"""Search path that finds them, before what is installed."""


def unpacked(program: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs such a program with the libraries that came with it."""
    libraries = [str(path) for path in ROOT.glob("usr/lib/*-linux-gnu*")]
    libraries += [str(Path(path) / "systemd") for path in libraries]
    return ("env", f"PATH={PATH}", f"LD_LIBRARY_PATH={':'.join(libraries)}", program, *arguments)
