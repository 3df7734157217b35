"""Background work (portal-domain §17): a runner on our own table, and the kinds of jobs there are."""

from wardgate.portal.jobs.clean_up import KINDS
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind, Runner

__all__ = ["KINDS", "Cron", "JobKind", "Runner"]
