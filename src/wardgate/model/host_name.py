"""Names of hosts as they are compared: in lower case, without the trailing dot, every label in its ASCII form
(RFC 5890 A-label).

People type `bücher.example`; the question on the wire is `xn--bcher-kva.example`. What was typed is kept
where it is shown, and brought into this form (UTS 46, without the transitional mappings that change the
meaning of ß and ς) before anything is compared.
"""

from typing import Final

import idna

MAX_NAME_CHARS: Final = 253
MAX_LABEL_CHARS: Final = 63


def ascii_name(text: str) -> str:
    """Return the form in which names are compared; labels may hold the wildcards of a pattern where they are ASCII.

    Raises:
        ValueError: characters that no name has, or wildcards within a label that has no ASCII form with them.
    """
    if text.isascii():
        return text.lower().removesuffix(".")
    mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
    return ".".join(map(_ascii_label, mapped.removesuffix(".").split(".")))


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label.lower()
    if "*" in label or "?" in label:
        raise ValueError(f"a wildcard cannot stand in {label!r}, a label with characters outside ASCII")
    return idna.encode(label).decode("ascii")
