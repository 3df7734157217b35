"""Finding one's accounts by an e-mail address (identity §10).

    GET, POST /find_account

Whatever is typed, the page says that a letter is on its way, and as late; the letter goes to that address and names
its accounts, or says that there are none.
"""

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from wardgate.portal.mail.letters import AccountsOfAddress, FoundAccount
from wardgate.portal.mail.queue import post
from wardgate.portal.services import Services
from wardgate.portal.sign_in.account_finding import accounts_of_address
from wardgate.portal.sign_in.padding import padded
from wardgate.portal.sign_in.steps import Steps
from wardgate.portal.sign_in.throttle import Throttle

LETTERS: Final = 3  # identity §17
LETTERS_WINDOW_S: Final = 1800.0
_MAX_EMAIL_CHARS: Final = 160


class FindAccount:
    """The page."""

    def __init__(self, services: Services, steps: Steps) -> None:
        self._services = services
        self._steps = steps
        self._clock = services.environment.clock
        self._letters = Throttle(most=LETTERS, window_s=LETTERS_WINDOW_S)

    def routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/find_account", self._ask, methods=["GET"]),
            Route("/find_account", self._answer, methods=["POST"]),
        )

    async def _ask(self, request: Request) -> Response:
        return self._steps.show(request, "sign_in/find_account.html")

    async def _answer(self, request: Request) -> Response:
        form = await self._steps.form(request)
        email = form.get("email", "").strip()[:_MAX_EMAIL_CHARS]
        await padded(self._clock, self._write_to(email))
        return self._steps.show(request, "sign_in/find_account_sent.html", email=email)

    async def _write_to(self, email: str) -> None:
        if self._letters.take(email.lower(), now=self._clock.monotonic()) > 0:
            return
        services = self._services
        web_url = services.settings.web_url
        async with services.store.reading() as transaction:
            accounts = await accounts_of_address(transaction, email)
        found = tuple(FoundAccount(one.name, f"{web_url}/{one.slug}/sign_in") for one in accounts)
        async with services.store.writing() as transaction:
            letter = AccountsOfAddress(web_url, found)
            await post(transaction, services.settings, letter, [email], account_id=None)
