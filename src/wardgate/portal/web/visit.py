"""One request of somebody signed in: who asks, and the ways to read, to write and to answer.

`Visit` is an administrator's, within an account; `OperatorVisit` the operator's, outside of all accounts.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
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
from wardgate.portal.subjects import operator_subject, subject_of
from wardgate.portal.web.operator_sessions import OPERATOR_PATH, OperatorSignedIn
from wardgate.portal.web.sessions import SignedIn
from wardgate.portal.web.toasts import Tone

if TYPE_CHECKING:
    from wardgate.portal.web.frame import Frame
    from wardgate.portal.web.page import Page


_TablesT = TypeVar("_TablesT")


@dataclass(slots=True)
class BaseVisit(ABC, Generic[_TablesT]):
    """One request; `_TablesT` is what its pages read and write.

    Attributes:
        form: what was posted, its token checked; empty for a GET.
        seen: where the feed stood before the request was answered.
        secret: what was drawn in this request, to be shown in its answer and nowhere else.
    """

    frame: "Frame[Any]"
    page: "Page"
    request: Request
    form: FormData = field(default_factory=FormData)
    seen: int = 0
    secret: Any = None

    @property
    @abstractmethod
    def place(self) -> str:
        """What the pages are about, as their title says it."""

    @property
    @abstractmethod
    def person(self) -> tuple[str, str]:
        """Who is signed in: a name, and what stands below it."""

    @property
    def profile_path(self) -> str | None:
        """Where the person's own page is; None: there is none."""
        return None

    @abstractmethod
    def form_token(self) -> str:
        """Return what every form of this session must send back."""

    @abstractmethod
    def url(self, path: str, /, **query: object) -> str:
        """Return an address of this person's pages: `visit.url("/resources", site_id=site.id)`."""

    @abstractmethod
    def reading(self) -> AbstractAsyncContextManager[_TablesT]:
        """Open what the person may read; long, as lists and counts cost what tables have rows."""

    @abstractmethod
    def writing(self) -> AbstractAsyncContextManager[tuple[_TablesT, Transaction]]:
        """Open a transaction whose changes are the person's own in the audit log."""

    @property
    def services(self) -> Services:
        return self.frame.services

    def id(self, name: str = "id") -> UUID | None:
        """Return an id from the path; None if it is no UUID."""
        try:
            return UUID(self.request.path_params[name])
        except ValueError:
            return None

    async def show(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Answer with a page in the frame."""
        return await self.frame.show(self, template, status=status, values=values)

    def go(
        self,
        path: str,
        /,
        *,
        toast: str | None = None,
        tone: Tone = "good",
        undo: str | None = None,
        **query: object,
    ) -> Response:
        """Answer a form: show another page, with a short message on it, and a button that takes back what it tells of
        by posting to the path `undo`.
        """
        response = RedirectResponse(self.url(path, **query), HTTPStatus.SEE_OTHER)
        if toast is not None:
            self.frame.toasts.put(response, toast, tone, "" if undo is None else self.url(undo))
        return response

    def query(self) -> Mapping[str, list[str]]:
        """Return the parameters of the URL."""
        given: dict[str, list[str]] = {}
        for name, value in self.request.query_params.multi_items():
            given.setdefault(name, []).append(value)
        return given


@dataclass(slots=True, kw_only=True)
class Visit(BaseVisit[AccountTables]):
    """A request of an administrator of an account."""

    signed_in: SignedIn

    @property
    def account(self) -> Account:
        return self.signed_in.account

    @property
    def actor(self) -> Actor:
        return self.signed_in.actor

    @property
    def place(self) -> str:
        return self.account.name

    @property
    def person(self) -> tuple[str, str]:
        return self.actor.name, self.actor.email or ""

    @property
    def profile_path(self) -> str:
        return "/profile"

    def form_token(self) -> str:
        return self.frame.form_token(self.signed_in)

    def url(self, path: str, /, **query: object) -> str:
        return _url(f"/{self.account.slug}{path}", query)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AccountTables]:
        async with self.services.store.reading(is_long=True) as transaction:
            yield transaction.on_behalf_of(self.actor)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[AccountTables, Transaction]]:
        subject = subject_of(self.actor, origin_of(self.request.scope))
        async with self.services.store.writing(subject) as transaction:
            yield transaction.on_behalf_of(self.actor), transaction

    def online(self, kind: Literal["client", "gateway"]) -> frozenset[UUID]:
        """Return the devices of a kind that are connected now."""
        members = self.services.environment.bus.members(kind, self.account.id)
        return frozenset(presence.address.id for presence in members)


@dataclass(slots=True, kw_only=True)
class OperatorVisit(BaseVisit[Transaction]):
    """A request of the operator."""

    signed_in: OperatorSignedIn

    @property
    def place(self) -> str:
        return "Installation"

    @property
    def person(self) -> tuple[str, str]:
        return "Operator", self.signed_in.signed_in_with

    def form_token(self) -> str:
        return self.frame.form_token(self.signed_in)

    def url(self, path: str, /, **query: object) -> str:
        return _url(f"{OPERATOR_PATH}{path}", query)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        async with self.services.store.reading(is_long=True) as transaction:
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[Transaction, Transaction]]:
        subject = operator_subject(origin_of(self.request.scope))
        async with self.services.store.writing(subject) as transaction:
            yield transaction, transaction


def _url(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return path + (f"?{urlencode(given, doseq=True)}" if given else "")
