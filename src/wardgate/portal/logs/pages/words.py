"""How entries of logs are worded: amounts of data, durations."""

from datetime import timedelta
from typing import Final

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")


def size_text(count: int | None) -> str:
    """Say an amount of data in its largest decimal unit."""
    if count is None:
        return "–"
    amount, unit = float(count), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def duration_text(length: timedelta) -> str:
    """Say a duration in its two largest units: `3m 20s`."""
    seconds = int(length.total_seconds())
    parts = [
        (seconds // 86_400, "d"),
        (seconds % 86_400 // 3600, "h"),
        (seconds % 3600 // 60, "m"),
        (seconds % 60, "s"),
    ]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2])
