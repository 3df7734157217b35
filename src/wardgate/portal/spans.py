"""Spans of what the portal did, for whoever collects traces. Nothing is measured while nobody does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

RecordSpan = Callable[[str, float, Mapping[str, str | int], Mapping[str, str]], None]
"""Name of a span that has just ended, how many seconds it took, its attributes, and the caller's trace context."""


@dataclass(slots=True)
class Spans:
    """Attributes:
    record: takes spans; None: nobody wants any.
    """

    record: RecordSpan | None = None
