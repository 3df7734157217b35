"""Name patterns of DNS resources and device pools (data-plane §4.6).

A pattern is a dot-separated name. Inside a label `?` stands for one character and `*` for any run of
characters; a label `**` stands for any number of labels. A leading `*.` also matches the name without it, as
does a leading `**.` (any number includes none). Names and patterns are compared in the form of `host_name`:
without regard to case or a trailing dot, and labels outside ASCII as their A-labels.

Deliberately absent: `[…]` classes. The portal never stored them, and a peer ignores a resource it cannot parse.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from wardgate.model.host_name import MAX_LABEL_CHARS, MAX_NAME_CHARS, ascii_name


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A parsed pattern; equal when what they compare by is."""

    text: str
    _labels: tuple[str, ...] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a pattern; `text` keeps the form that is compared (`ascii_name`).

        Raises:
            ValueError: empty, too long, an empty label, `**` within a longer label or in
                the last one, or a character that no name has.
        """
        compared = ascii_name(text.strip())
        if not compared or len(compared) > MAX_NAME_CHARS:
            raise ValueError(f"a name has 1 to {MAX_NAME_CHARS} characters")
        for label in compared.split("."):
            _check_label(label)
        if compared.endswith("**"):
            raise ValueError("`**` cannot be the last label")
        return cls(compared, tuple(compared.split(".")))

    @property
    def specificity(self) -> tuple[tuple[int, int], ...]:
        """Sort key: the most specific pattern first.

        The texts are compared from their end; the first difference decides: the end of the text before a literal
        (a dot is one) before `?` before `*`, two literals by descending code point.
        """
        return (*((_RANK.get(char, 1), -ord(char)) for char in reversed(self.text)), (0, 0))

    def matches(self, name: str) -> bool:
        labels = _labels_of(name)
        if labels is None:
            return False
        if _labels_match(self._labels, labels):
            return True
        return self._labels[0] == "*" and _labels_match(self._labels[1:], labels)

    def covers(self, hostname: str) -> bool:
        """Tell whether a device's host name belongs to a pool of this pattern (portal-domain §3.10).

        Stricter than `matches`: a wildcard never stands for nothing, so neither `*.lab.example` nor
        `**.lab.example` covers `lab.example`. An admin gave the name; nothing is asked of it but its labels.
        """
        pattern = tuple(
            part for label in self._labels for part in (("*", "**") if label == "**" else (label,))
        )
        labels = _labels_of(hostname)
        return labels is not None and _labels_match(pattern, labels)

    def __str__(self) -> str:
        return self.text


_RANK: Final = {"?": 2, "*": 3}  # any other character: 1, the end of the text: 0


def _labels_of(name: str) -> list[str] | None:
    """Return None for what is no name, which no pattern matches."""
    try:
        return ascii_name(name).split(".")
    except ValueError:
        return None


def _check_label(label: str) -> None:
    if not label:
        raise ValueError("a label is empty")
    if len(label) > MAX_LABEL_CHARS:
        raise ValueError(f"a label has more than {MAX_LABEL_CHARS} characters")
    if "**" in label and label != "**":
        raise ValueError("`**` must stand alone between dots")
    for char in label:
        if not (char.isalnum() or char in "-_*?"):
            raise ValueError(f"{char!r} cannot occur in a name")


def _labels_match(pattern: tuple[str, ...], name: list[str]) -> bool:
    """Match labels; only the last `**` is ever widened, so the work is bounded by the product of the lengths."""
    at, position = 0, 0
    any_at, any_position = -1, 0
    while position < len(name):
        if at < len(pattern) and pattern[at] == "**":
            any_at, any_position = at, position
            at += 1
        elif at < len(pattern) and _label_matches(pattern[at], name[position]):
            at += 1
            position += 1
        elif any_at >= 0:
            any_position += 1
            at, position = any_at + 1, any_position
        else:
            return False
    return all(label == "**" for label in pattern[at:])


def _label_matches(pattern: str, label: str) -> bool:
    at, position = 0, 0
    any_at, any_position = -1, 0
    while position < len(label):
        if at < len(pattern) and pattern[at] == "*":
            any_at, any_position = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", label[position]):
            at += 1
            position += 1
        elif any_at >= 0:
            any_position += 1
            at, position = any_at + 1, any_position
        else:
            return False
    return all(char == "*" for char in pattern[at:])
