"""What every page of a disabled account says: that it is, and how its end stands."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from wardgate.portal.installation.tables import Account


@dataclass(frozen=True, slots=True)
class Notice:
    """What every page of a disabled account says."""

    text: str
    is_cancellable: bool


def notice_of(account: Account, *, now: datetime) -> Notice | None:
    """Return the notice that every page shows; None if the account is active."""
    if account.scheduled_deletion_at is not None:
        at = account.scheduled_deletion_at
        moment = at.strftime("%Y-%m-%d %H:%M UTC")
        return Notice(
            f"This account is disabled and will be deleted {countdown(at - now)}, on {moment}.",
            is_cancellable=True,
        )
    if account.is_disabled:
        reason = f": {account.disabled_reason}" if account.disabled_reason else ""
        return Notice(
            f"The operator has disabled this account{reason}. Nobody can connect, and API tokens are refused.",
            is_cancellable=False,
        )
    return None


def countdown(left: timedelta) -> str:
    """Say how long something is away, in its two largest units."""
    minutes = int(left.total_seconds() // 60)
    if minutes < 1:
        return "within a minute"
    days, hours, rest = minutes // 1440, minutes % 1440 // 60, minutes % 60
    parts = [(days, "day"), (hours, "hour"), (rest, "minute")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    told = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts[first : first + 2] if count]
    return "in " + " and ".join(told)
