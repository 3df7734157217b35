"""Cells as HTML. A page has more than a hundred, which macros of a template take longer to write than everything else
on it.
"""

from datetime import datetime

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from wardgate.portal.web.cells import Cell, Coordinates, Instant, Link, Moment, Several, Status, Tag, Text
from wardgate.portal.web.rendering import drawn_icon, exact, relative, shown_lines, to_the_microsecond


class CellWriter:
    """Writes cells, with the symbols of the file `icons`."""

    def __init__(self, icons: str) -> None:
        self._icons = icons

    @pass_context
    def write(self, context: Context, cell: Cell, href: str | None = None) -> Markup:
        """Return a cell for the page of this context; `href` leads to the row's panel."""
        return Markup(self._written(context, cell, href))  # noqa: S704 - each text is escaped below

    def _written(self, context: Context, cell: Cell, href: str | None) -> str:
        match cell:
            case Text():
                return self._text(cell, href)
            case Link():
                path = _escaped(context["visit"].url(cell.path))
                return f'<a href="{path}" class="over">{_escaped(cell.text)}</a>{_note(cell.note)}'
            case Status():
                return (
                    f'<span class="status {cell.tone}"><span class="dot"></span>{_escaped(cell.text)}</span>'
                )
            case Tag():
                return f'<span class="tag {cell.tone}">{_escaped(cell.text)}</span>'
            case Moment():
                return _moment(cell.at, cell.never, context["now"])
            case Instant():
                note = to_the_microsecond(cell.at) if cell.is_exact else cell.note
                return _instant(cell.at, href) + _note(note)
            case Coordinates():
                return (
                    f'<span class="code">{cell.text}</span> <a href="{_escaped(cell.map_url)}" class="over"'
                    ' target="_blank" rel="noopener noreferrer" hx-boost="false">View on a map</a>'
                )
            case Several():
                inner = (
                    self._written(context, one, None if number else href)
                    for number, one in enumerate(cell.cells)
                )
                return f'<span class="several">{"".join(inner)}</span>'

    def _text(self, cell: Text, href: str | None) -> str:
        icon = "" if cell.icon is None else drawn_icon(self._icons, cell.icon, "lead")
        text = _escaped(cell.text)
        if href:
            code = " code" if cell.is_code else ""
            written = f'<a href="{_escaped(href)}" class="row-link{code}">{text}</a>'
        else:
            written = f'<span class="code">{text}</span>' if cell.is_code else f"<span>{text}</span>"
        return f"{icon}{written}{_note(cell.note)}"


def _moment(at: datetime | None, never: str, now: datetime) -> str:
    if at is None:
        return f'<span class="dim">{_escaped(never)}</span>'
    return f'<time datetime="{at.isoformat()}" title="{exact(at)}">{relative(at, now)}</time>'


def _instant(at: datetime, href: str | None) -> str:
    """In UTC; the script writes it in the reader's zone."""
    told = exact(at)
    time = f'<time datetime="{at.isoformat()}" title="{told}" data-local>{told}</time>'
    return f'<a href="{_escaped(href)}" class="row-link">{time}</a>' if href else time


def _note(text: str) -> str:
    return f'<span class="note">{_escaped(text)}</span>' if text else ""


def _escaped(text: str) -> str:
    return escape(shown_lines(text))
