"""Background work (portal-domain §17): a runner on our own table, and the kinds of jobs there are."""

from typing import Final

from wardgate.portal.jobs import account_deletion, clean_up, mail, outdated_gateways
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind, Runner

KINDS: Final = (*clean_up.KINDS, *account_deletion.KINDS, *mail.KINDS, *outdated_gateways.KINDS)

__all__ = ["KINDS", "Cron", "JobKind", "Runner"]
