"""The templates: the frame's own, and those of each domain under its name (`sites/gateways.html`)."""

from datetime import datetime
from pathlib import Path
from types import CodeType
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from jinja2.bccache import Bucket, BytecodeCache
from markupsafe import Markup

from wardgate.model.shown_text import shown_text
from wardgate.portal.web.time_zones import zone_options

_HERE: Final = Path(__file__).parent
_UNITS: Final = (
    (86_400 * 365, "year"),
    (86_400 * 30, "month"),
    (86_400, "day"),
    (3600, "hour"),
    (60, "minute"),
)


class _CompiledTemplates(BytecodeCache):
    """What templates are compiled to, once a process: compiling one takes longer than filling it in a hundred times,
    and each frame has an environment of its own.
    """

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code is not None
        self._code[bucket.key, bucket.checksum] = bucket.code


_COMPILED: Final = _CompiledTemplates()


def load_templates() -> Environment:
    domains = {
        path.parent.name: FileSystemLoader(path)
        for path in sorted(_HERE.parent.glob("*/templates"))
        if path.parent != _HERE
    }
    templates = Environment(
        loader=ChoiceLoader([FileSystemLoader(_HERE / "templates"), PrefixLoader(domains)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
    )
    templates.tests["startswith"] = str.startswith
    templates.globals["zone_options"] = zone_options
    templates.filters["exact"] = exact
    templates.filters["relative"] = relative
    templates.filters["to_the_microsecond"] = to_the_microsecond
    return templates


def drawn_icon(icons: str, name: str, class_: str = "") -> Markup:
    """Return a symbol of the file `icons`. A page has a hundred of them, of thirty kinds: whoever asks keeps them."""
    return Markup(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>'
    ).format(class_, icons, name)


def exact(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def to_the_microsecond(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f UTC")


def relative(at: datetime, now: datetime) -> str:
    """Say how far a time is from now, in its largest unit."""
    seconds = (now - at).total_seconds()
    for length, unit in _UNITS:
        count = int(abs(seconds) // length)
        if count:
            told = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{told} ago" if seconds > 0 else f"in {told}"
    return "just now" if seconds >= 0 else "in a moment"


def shown_lines(text: str) -> str:
    """Return text with what does not print as an escape, but for line breaks, which HTML takes as spaces."""
    return text if text.isprintable() else "\n".join(map(shown_text, text.split("\n")))


def _finalized(value: Any) -> Any:
    """Show text as `shown_lines`; markup of our own stays as it is."""
    return shown_lines(value) if type(value) is str else value
