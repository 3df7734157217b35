"""One request of an administrator: who asks, of which account, and the ways to read, to write and to answer."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.subjects import subject_of
from wardgate.portal.web.sessions import SignedIn
from wardgate.portal.web.toasts import Tone

if TYPE_CHECKING:
    from wardgate.portal.web.frame import Frame
    from wardgate.portal.web.page import Page


@dataclass(slots=True)
class Visit:
    """One request.

    Attributes:
        form: what was posted, its token checked; empty for a GET.
        seen: where the account's feed stood before the request was answered.
    """

    frame: "Frame"
    page: "Page"
    request: Request
    signed_in: SignedIn
    form: FormData = field(default_factory=FormData)
    seen: int = 0

    @property
    def services(self) -> Services:
        return self.frame.services

    @property
    def account(self) -> Account:
        return self.signed_in.account

    @property
    def actor(self) -> Actor:
        return self.signed_in.actor

    def url(self, path: str, /, **query: object) -> str:
        """Return an address within the account: `visit.url("/resources", site_id=site.id)`."""
        given = {name: value for name, value in query.items() if value is not None}
        return f"/{self.account.slug}{path}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    def id(self, name: str = "id") -> UUID | None:
        """Return an id from the path; None if it is no UUID."""
        try:
            return UUID(self.request.path_params[name])
        except ValueError:
            return None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AccountTables]:
        """Open what the administrator may read; long, as lists and counts cost what tables have rows."""
        async with self.services.store.reading(is_long=True) as transaction:
            yield transaction.on_behalf_of(self.actor)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[AccountTables, Transaction]]:
        """Open a transaction whose changes are the administrator's own in the audit log."""
        subject = subject_of(self.actor, origin_of(self.request.scope))
        async with self.services.store.writing(subject) as transaction:
            yield transaction.on_behalf_of(self.actor), transaction

    def online(self, kind: Literal["client", "gateway"]) -> frozenset[UUID]:
        """Return the devices of a kind that are connected now."""
        members = self.services.environment.bus.members(kind, self.account.id)
        return frozenset(presence.address.id for presence in members)

    async def show(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Answer with a page in the frame."""
        return await self.frame.show(self, template, status=status, values=values)

    def go(self, path: str, /, *, toast: str | None = None, tone: Tone = "good", **query: object) -> Response:
        """Answer a form: show another page of the account, with a short message on it."""
        response = RedirectResponse(self.url(path, **query), HTTPStatus.SEE_OTHER)
        if toast is not None:
            self.frame.toasts.put(response, toast, tone)
        return response

    def query(self) -> Mapping[str, list[str]]:
        """Return the parameters of the URL."""
        given: dict[str, list[str]] = {}
        for name, value in self.request.query_params.multi_items():
            given.setdefault(name, []).append(value)
        return given
