"""The pages of an account, in the order of the navigation."""

from typing import Final

from wardgate.portal.web import account, overview
from wardgate.portal.web.page import Page

PAGES: Final[tuple[Page, ...]] = (overview.PAGE, account.PAGE)
