"""The pages of the logs: decisions, changes, sessions, flows, calls of the API."""

from typing import Final

from wardgate.portal.logs.pages import api_requests, changes, decisions, flows, sessions
from wardgate.portal.web.page import Page

PAGES: Final[tuple[Page, ...]] = (
    decisions.PAGE,
    changes.PAGE,
    sessions.PAGE,
    flows.PAGE,
    api_requests.PAGE,
)
