"""Making an account for oneself (identity §10), where the operator's setting lets strangers do that.

    GET, POST /sign_up, /try       an address, the organisation's name, one's own; a letter goes to the address
    GET, POST /verify_sign_up      by the letter's link: what will be made, and at which address; then it is

Nothing is stored before somebody has opened the letter: its link holds what was typed, signed. Whatever is typed, the
page says that a letter is on its way, and as late; who administers an account already gets a letter that names it.
Opening the link makes nothing yet, for mail servers open links as well. A second time it leads to the account.
"""

import hashlib
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from wardgate.portal.edits import Edit
from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.rate_limit import TokenBuckets
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.mail.letters import AccountMade, AccountsOfAddress, FoundAccount, SignUpLink, masked
from wardgate.portal.mail.queue import post
from wardgate.portal.outcomes import Invalid
from wardgate.portal.provisioning import check_email, check_slug, provision
from wardgate.portal.segments import RESERVED_SLUGS
from wardgate.portal.services import Services
from wardgate.portal.sign_in.account_finding import accounts_of_address
from wardgate.portal.sign_in.outcome import SignIns
from wardgate.portal.sign_in.padding import padded
from wardgate.portal.sign_in.steps import Steps, address_key
from wardgate.portal.sign_in.throttle import Throttle
from wardgate.portal.store import Conflict, Transaction
from wardgate.portal.subjects import newcomer_subject

log = logging.getLogger(__name__)

LETTERS: Final = 3  # identity §17, with the window
LETTERS_WINDOW_S: Final = 1800.0
LINK_LIFETIME: Final = timedelta(hours=24)  # identity §17
LEAST_ACCOUNT_NAME_CHARS: Final = 3  # identity §10, with the two below
MOST_ACCOUNT_NAME_CHARS: Final = 64
MOST_NAME_CHARS: Final = 255
MOST_EMAIL_CHARS: Final = 160

OF_ONE_PLACE: Final = 5
"""From one address at once, then as many an hour; a school or an office is behind one."""
IN_ALL: Final = 30
"""At once, then as many an hour: what an installation writes on the word of strangers."""
_HOUR_S: Final = 3600.0

_TOO_MANY: Final = "Too many attempts. Please try again later."
_SUGGESTED_CHARS: Final = 40
_SUGGESTIONS: Final = 9
_SIGNER: Final = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody typed, checked."""

    email: str
    account_name: str
    name: str


class SignUp:
    """The pages."""

    def __init__(self, services: Services, steps: Steps, sign_ins: SignIns) -> None:
        self._services = services
        self._steps = steps
        self._sign_ins = sign_ins
        self._clock = services.environment.clock
        self._letters = Throttle(most=LETTERS, window_s=LETTERS_WINDOW_S)
        self._of_one_place = TokenBuckets(capacity=OF_ONE_PLACE, refill_per_s=OF_ONE_PLACE / _HOUR_S)
        self._in_all = TokenBuckets(capacity=IN_ALL, refill_per_s=IN_ALL / _HOUR_S)

    def routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/sign_up", self._ask, methods=["GET"]),
            Route("/try", self._ask, methods=["GET"]),
            Route("/sign_up", self._answer, methods=["POST"]),
            Route("/verify_sign_up", self._confirm, methods=["GET"]),
            Route("/verify_sign_up", self._make, methods=["POST"]),
        )

    async def _ask(self, request: Request) -> Response:
        self._require_open()
        return self._show_form(request)

    async def _answer(self, request: Request) -> Response:
        self._require_open()
        form = await self._steps.form(request)
        try:
            wanted = check_wanted(form, self._services.settings.sign_up_domains)
        except Invalid as invalid:
            return self._show_form(request, typed=form, errors=_first_errors(invalid))
        if form.get("phone"):
            log.info("a sign-up filled in the field that people do not see: no letter was sent")
            await padded(self._clock, _nothing())
        elif self._are_too_many(request):
            return self._show_form(request, typed=form, refusal=_TOO_MANY)
        else:
            await padded(self._clock, self._write_to(request, wanted))
        return self._steps.show(request, "sign_in/sign_up_sent.html", email=wanted.email)

    async def _confirm(self, request: Request) -> Response:
        self._require_open()
        token = request.query_params.get("token", "")
        wanted = self._wanted_by(token)
        if wanted is None:
            return self._gone(request)
        async with self._services.store.reading() as transaction:
            accounts = await accounts_of_address(transaction, wanted.email, of_admins=True)
            if accounts:
                return self._lead_to(request, accounts[0])
            slug = await _free_slug(transaction, wanted.account_name)
        return self._show_confirmation(request, wanted, token=token, slug=slug)

    async def _make(self, request: Request) -> Response:
        self._require_open()
        form = await self._steps.form(request)
        token, slug = form.get("token", ""), form.get("slug", "")
        wanted = self._wanted_by(token)
        if wanted is None:
            return self._gone(request)
        try:
            slug = check_slug(slug, RESERVED_SLUGS)
        except ValueError as error:
            return self._show_confirmation(request, wanted, token=token, slug=slug, error=str(error))
        try:
            account, is_new = await self._made(request, wanted, slug)
        except Conflict:
            return self._show_confirmation(
                request, wanted, token=token, slug=slug, error=f"{slug!r} has already been taken"
            )
        if not is_new:
            return self._lead_to(request, account)
        log.info("somebody made an account by signing up", extra={"account_id": str(account.id)})
        response = self._steps.show(
            request, "sign_in/sign_up_done.html", account=account, web_url=self._services.settings.web_url
        )
        self._sign_ins.remember(request, response, account)
        return response

    async def _made(self, request: Request, wanted: Wanted, slug: str) -> tuple[Account, bool]:
        """Return the account of this address, and whether it is a new one.

        Raises:
            Conflict: the slug is taken.
        """
        services = self._services
        subject = newcomer_subject(wanted.name, wanted.email, origin_of(request.scope))
        async with services.store.writing(subject) as transaction:
            # Two links, or one opened twice, take turns: the second sees the account of the first.
            await transaction.hold(uuid5(NAMESPACE_URL, f"mailto:{wanted.email.lower()}"))
            accounts = await accounts_of_address(transaction, wanted.email, of_admins=True)
            if accounts:
                return accounts[0], False
            made = await provision(
                transaction,
                name=wanted.account_name,
                slug=slug,
                admin_email=wanted.email,
                admin_name=wanted.name,
            )
            url = f"{services.settings.web_url}/{made.account.slug}"
            letter = AccountMade(made.account.name, url, wanted.name)
            await post(transaction, services.settings, letter, [wanted.email], account_id=made.account.id)
        return made.account, True

    async def _write_to(self, request: Request, wanted: Wanted) -> None:
        if self._letters.take(wanted.email.lower(), now=self._clock.monotonic()) > 0:
            return
        services, web_url = self._services, self._services.settings.web_url
        async with services.store.writing() as transaction:
            accounts = await accounts_of_address(transaction, wanted.email, of_admins=True)
            letter: AccountsOfAddress | SignUpLink
            if accounts:
                found = tuple(FoundAccount(one.name, f"{web_url}/{one.slug}/sign_in") for one in accounts)
                letter = AccountsOfAddress(web_url, found)
            else:
                token = make_link(wanted, now=transaction.now, keys=services.keys)
                link = f"{web_url}/verify_sign_up?token={token}"
                if services.environment.mailer is None:
                    # As with codes: whoever reads the log of the portal's host could make an account as well.
                    log.warning(
                        "no mail server is set up: the link of a sign-up is told here", extra={"link": link}
                    )
                    return
                where = masked(origin_of(request.scope).remote_ip)
                letter = SignUpLink(web_url, link, transaction.now + LINK_LIFETIME, where)
            await post(
                transaction,
                services.settings,
                letter,
                [wanted.email],
                account_id=None,
                key=services.keys.letters,
            )

    def _require_open(self) -> None:
        if not self._services.settings.sign_up:
            raise HTTPException(HTTPStatus.NOT_FOUND)

    def _are_too_many(self, request: Request) -> bool:
        now, place = self._clock.monotonic(), address_key(origin_of(request.scope).remote_ip)
        return self._of_one_place.take(place, now=now) > 0 or self._in_all.take(None, now=now) > 0

    def _wanted_by(self, token: str) -> Wanted | None:
        """Return what a link says, as far as it would be taken now: the operator may have named domains since."""
        wanted = read_link(token, now=self._clock.now(), keys=self._services.keys)
        if wanted is None or not _is_permitted(wanted.email, self._services.settings.sign_up_domains):
            return None
        return wanted

    def _show_form(
        self,
        request: Request,
        *,
        typed: Mapping[str, str] | None = None,
        errors: Mapping[str, str] | None = None,
        refusal: str | None = None,
    ) -> Response:
        status = HTTPStatus.OK
        if errors:
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        elif refusal:
            status = HTTPStatus.TOO_MANY_REQUESTS
        names = ("email", "account_name", "name")
        return self._steps.show(
            request,
            "sign_in/sign_up.html",
            status=status,
            typed={name: (typed or {}).get(name, "") for name in names},
            errors={name: (errors or {}).get(name) for name in names},
            refusal=refusal,
            domains=self._services.settings.sign_up_domains,
        )

    def _show_confirmation(
        self, request: Request, wanted: Wanted, *, token: str, slug: str, error: str | None = None
    ) -> Response:
        return self._steps.show(
            request,
            "sign_in/sign_up_confirm.html",
            status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
            wanted=wanted,
            token=token,
            slug=slug,
            error=error,
            web_url=self._services.settings.web_url,
        )

    def _lead_to(self, request: Request, account: Account) -> Response:
        response = RedirectResponse(f"/{account.slug}/sign_in", HTTPStatus.SEE_OTHER)
        self._sign_ins.remember(request, response, account)
        return response

    def _gone(self, request: Request) -> Response:
        return self._steps.show(request, "sign_in/sign_up_gone.html", status=HTTPStatus.GONE)


def check_wanted(typed: Mapping[str, str], domains: Sequence[str]) -> Wanted:
    """Check what somebody typed. Raises Invalid."""
    names = ("email", "account_name", "name")
    edit = Edit({name: typed[name] for name in names if name in typed}, dict.fromkeys(names))
    edit.text("email", longest=MOST_EMAIL_CHARS, required=True)
    edit.text("account_name", longest=MOST_ACCOUNT_NAME_CHARS, required=True)
    edit.text("name", longest=MOST_NAME_CHARS, required=True)
    if len(edit.value("account_name") or "abc") < LEAST_ACCOUNT_NAME_CHARS:
        edit.error("account_name", f"should be at least {LEAST_ACCOUNT_NAME_CHARS} character(s)")
    if "email" not in edit.errors:
        try:
            edit.put("email", check_email(edit.value("email")))
        except ValueError:
            edit.error("email", "is an invalid email address")
        else:
            if not _is_permitted(edit.value("email"), domains):
                edit.error("email", f"must be at {', '.join(domains)}")
    return Wanted(**edit.finish())


def make_link(wanted: Wanted, *, now: datetime, keys: Keys) -> str:
    """Return the secret of a link by which somebody makes what they want."""
    ends_at = int((now + LINK_LIFETIME).timestamp())
    return _signer(keys).dumps([wanted.email, wanted.account_name, wanted.name, ends_at])


def read_link(secret: str, *, now: datetime, keys: Keys) -> Wanted | None:
    """Return what a link says; None if we did not make it, or it has ended."""
    try:
        match _signer(keys).loads(secret):
            case [str(email), str(account_name), str(name), int(ends_at)] if now.timestamp() < ends_at:
                return Wanted(email, account_name, name)
    except (BadSignature, ValueError, TypeError):
        pass
    return None


def _signer(keys: Keys) -> URLSafeSerializer:
    return URLSafeSerializer(keys.links, salt="sign-up", signer_kwargs=_SIGNER)


def _is_permitted(email: str, domains: Sequence[str]) -> bool:
    return not domains or email.rpartition("@")[2] in domains


def _first_errors(invalid: Invalid) -> dict[str, str]:
    return {name: f"This {messages[0]}." for name, messages in invalid.errors.items()}


async def _free_slug(transaction: Transaction, account_name: str) -> str:
    """Return a slug to begin with, after the account's name; empty if none offers itself."""
    ascii_only = unicodedata.normalize("NFKD", account_name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:_SUGGESTED_CHARS].strip("-")
    for number in range(1, _SUGGESTIONS + 1):
        slug = stem if number == 1 else f"{stem}-{number}"
        try:
            check_slug(slug, RESERVED_SLUGS)
        except ValueError:
            continue
        if await transaction.accounts.by_slug(slug) is None:
            return slug
    return ""


async def _nothing() -> None:
    return None
