"""Reading the host's text files, which are bytes to everybody else: a Latin-1 letter in a comment is no
reason to fail.
"""

from pathlib import Path


def read_host_text(path: Path) -> str:
    """Read a file; bytes that are not UTF-8 survive a round trip through `write_host_text`. Raises OSError."""
    return path.read_bytes().decode("utf-8", errors="surrogateescape")


def write_host_text(path: Path, text: str) -> None:
    """Write a file in place. Raises OSError."""
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
