"""Text that somebody else chose, for people to read: nothing in it is a command to a terminal, a line of its
own, or invisible.
"""


def shown_text(text: str) -> str:
    """Return text with every character that does not print as an escape.

    Those are control characters (line breaks, ANSI escapes), marks that turn the direction of what follows
    (U+202E), characters of no width, and halves of surrogate pairs. What is left stays on its line and within
    its cell.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
