"""What all pages of a sign-in share: the account and the flow that a request names, the check of its form, how many
forms one address may send, and the way back to the portal for who is signed in already.

A method declares its pages as steps:

    steps.get("/sign_in/email_otp/{provider_id}/verify", self._ask_for_code)
    steps.post("/sign_in/email_otp/{provider_id}/verify", self._check_code)

A step's handler gets a `Step`; strangers who name no account, or send a form from elsewhere, never get so far.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from wardgate.model.addresses import IpAddress
from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.rate_limit import TokenBuckets, retry_after
from wardgate.portal.http.visitor_forms import VisitorForms
from wardgate.portal.installation.tables import Account
from wardgate.portal.services import Services
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.flow import Flow, MalformedFlow
from wardgate.portal.sign_in.lookup import as_id, find_account
from wardgate.portal.sign_in.outcome import Render
from wardgate.portal.sign_in.start_pages import start_page_of
from wardgate.portal.web.sessions import Sessions

MAX_FORM_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 20
FORMS_AT_ONCE: Final = 20  # identity §17: of one address, then one a second
FORMS_PER_S: Final = 1.0
_IPV6_SITE_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a sign-in to an account; `form` is what was posted, its token checked, and empty for a GET."""

    request: Request
    account: Account
    flow: Flow
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def provider_id(self) -> UUID | None:
        """The provider that the path names."""
        return as_id(self.request.path_params["provider_id"])

    def url(self, path: str, **more: str) -> str:
        """Return an address within the account that carries the flow on."""
        return self.flow.url(f"/{self.account.slug}{path}", **more)

    def go(self, path: str, **more: str) -> Response:
        """Redirect to the next step."""
        return RedirectResponse(self.url(path, **more), HTTPStatus.SEE_OTHER)


Handle = Callable[[Step], Awaitable[Response]]


class Steps:
    """Makes routes of steps, and writes their pages."""

    def __init__(self, services: Services, sessions: Sessions, render: Render) -> None:
        self._services = services
        self._sessions = sessions
        self._render = render
        self._clock = services.environment.clock
        self._forms = VisitorForms(
            services.keys.forms,
            services.keys.cookies,
            rng=services.environment.rng,
            is_secure=services.settings.is_secure,
        )
        self._buckets = TokenBuckets(capacity=FORMS_AT_ONCE, refill_per_s=FORMS_PER_S)

    def get(self, path: str, handle: Handle) -> Route:
        return self._route("GET", path, handle)

    def post(self, path: str, handle: Handle) -> Route:
        return self._route("POST", path, handle)

    def end(self, path: str, handle: Handle) -> Route:
        """Make the route of a page where a client's sign-in ends; who is signed in to the portal sees it too."""
        return self._route("GET", path, handle, is_end=True)

    def take_turn(self, request: Request) -> None:
        """Count one request of an address that costs more than a page.

        Raises:
            HTTPException: there were too many.
        """
        key = address_key(origin_of(request.scope).remote_ip)
        wait_s = self._buckets.take(key, now=self._clock.monotonic())
        if wait_s > 0:
            headers = {"retry-after": str(retry_after(wait_s))}
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, headers=headers)

    async def form(self, request: Request) -> dict[str, str]:
        """Read the texts of a form that was sent without a session.

        Raises:
            HTTPException: it came from elsewhere, or too many came from the same address.
        """
        self.take_turn(request)
        async with request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=MAX_FORM_BYTES) as form:
            if not self._forms.is_own(request, form.get("csrf_token"), now=self._clock.now()):
                raise HTTPException(HTTPStatus.FORBIDDEN)
            return {name: value for name, value in form.items() if isinstance(value, str)}

    def show(
        self, request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: Any
    ) -> Response:
        """Write a page that may have forms for browsers without a session."""
        now = self._clock.now()
        visitor = self._forms.visitor(request, now=now)
        response = self._render(
            request,
            template,
            status=status,
            csrf_token=self._forms.token(visitor),
            sends_mail=self._services.environment.mailer is not None,
            **values,
        )
        self._forms.remember(response, visitor, now=now)
        return response

    def show_step(
        self, step: Step, template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: Any
    ) -> Response:
        """Write the page of a step."""
        return self.show(step.request, template, status=status, step=step, account=step.account, **values)

    def _route(self, method: str, path: str, handle: Handle, *, is_end: bool = False) -> Route:
        opened = self._opened(handle, is_end=is_end)
        return Route(f"/{{slug}}{path}", opened, methods=[method], name=f"{method} {path}")

    def _opened(self, handle: Handle, *, is_end: bool) -> Callable[[Request], Awaitable[Response]]:
        async def handle_request(request: Request) -> Response:
            slug = request.path_params["slug"]
            try:
                flow = Flow.parse(request.query_params)
            except MalformedFlow:
                return self.malformed(request)
            async with self._services.store.reading() as transaction:
                account = await find_account(transaction, slug)
            if account is None:
                if flow.context.is_client:
                    return RedirectResponse(flow.url("/sign_in"), HTTPStatus.SEE_OTHER)
                raise HTTPException(HTTPStatus.NOT_FOUND)
            is_fresh = flow.context.is_client or is_end
            signed_in = None if is_fresh else await self._sessions.find(request, slug)
            if signed_in is not None:
                start_page = start_page_of(signed_in.actor)
                wanted = flow.destination(account.id, account.slug, start_page=start_page)
                return RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
            form = await self.form(request) if request.method == "POST" else {}
            return await handle(Step(request, account, flow, form))

        return handle_request

    def malformed(self, request: Request) -> Response:
        return self._render(
            request,
            "sign_in/failed.html",
            status=HTTPStatus.BAD_REQUEST,
            failure=Failure.MALFORMED,
            retry=None,
        )


def address_key(address: IpAddress) -> str:
    """Return what an address counts as: one subscriber has at least a /64 of IPv6 (RFC 6177)."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)
