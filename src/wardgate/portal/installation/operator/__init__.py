"""The pages of the operator: what belongs to no account, and accounts as a whole."""

from typing import Final

from wardgate.portal.installation.operator import access, accounts, banners, changes, health, jobs, relays
from wardgate.portal.web.page import Page

PAGES: Final[tuple[Page, ...]] = (
    health.PAGE,
    accounts.PAGE,
    relays.PAGE,
    jobs.PAGE,
    banners.PAGE,
    access.PAGE,
    changes.PAGE,
)
