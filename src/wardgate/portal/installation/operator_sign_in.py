"""How the operator signs in to the pages of the installation, and out.

    GET, POST /operator/sign_in                 by the operator's token, which `wardgate init` makes
    GET       /operator/sign_in/link/{secret}   the one-time link of `wardgate sign-in-link --operator`
    POST      /operator/sign_out

An account's sign-in leads nowhere here, nor does this one into an account.
"""

import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from wardgate.portal import credentials
from wardgate.portal.http.origin import origin_of
from wardgate.portal.installation.tables import OperatorSession
from wardgate.portal.services import Services
from wardgate.portal.sign_in.steps import Steps
from wardgate.portal.store import Transaction
from wardgate.portal.subjects import operator_subject
from wardgate.portal.web.frame import OperatorFrame
from wardgate.portal.web.operator_sessions import OPERATOR_PATH
from wardgate.wire.tokens import InvalidToken

log = logging.getLogger(__name__)

COMMAND: Final = "wardgate sign-in-link --operator"
MAX_TOKEN_CHARS: Final = 400


class OperatorSignIn:
    """Opens and ends the operator's sessions."""

    def __init__(self, services: Services, frame: OperatorFrame, steps: Steps) -> None:
        self._services = services
        self._frame = frame
        self._steps = steps

    def routes(self) -> Sequence[BaseRoute]:
        return (
            Route(f"{OPERATOR_PATH}/sign_in", self._ask, methods=["GET"]),
            Route(f"{OPERATOR_PATH}/sign_in", self._check_token, methods=["POST"]),
            Route(f"{OPERATOR_PATH}/sign_in/link/{{secret}}", self._redeem_link, methods=["GET"]),
            Route(f"{OPERATOR_PATH}/sign_out", self._sign_out, methods=["POST"]),
        )

    async def _ask(self, request: Request) -> Response:
        if await self._frame.sessions.find(request) is not None:
            return _home()
        return self._show(request)

    async def _check_token(self, request: Request) -> Response:
        text = (await self._steps.form(request)).get("token", "").strip()
        try:
            async with self._writing(request) as transaction:
                token = await credentials.find_operator_token(
                    text[:MAX_TOKEN_CHARS], transaction=transaction, keys=self._services.keys
                )
                session = await self._open(request, transaction, token.id)
        except InvalidToken as error:
            self._note_refusal(request)
            return self._show(request, error=f"{str(error).capitalize()}.")
        return self._welcome(session)

    async def _redeem_link(self, request: Request) -> Response:
        if request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", ""):
            raise HTTPException(HTTPStatus.NO_CONTENT)
        try:
            async with self._writing(request) as transaction:
                await credentials.redeem_operator_link(
                    request.path_params["secret"], transaction=transaction, keys=self._services.keys
                )
                session = await self._open(request, transaction, None)
        except InvalidToken:
            self._note_refusal(request)
            return self._frame.write(
                request, "sign_in/link_used.html", status=HTTPStatus.UNAUTHORIZED, command=COMMAND
            )
        return self._welcome(session)

    async def _sign_out(self, request: Request) -> Response:
        signed_in = await self._frame.signed_in(request)
        if signed_in is None:
            return self._frame.sign_in_of(request)
        await self._frame.form(request, signed_in)
        async with self._writing(request) as transaction:
            await transaction.operator_sessions.delete(signed_in.session_id)
        response = RedirectResponse(f"{OPERATOR_PATH}/sign_in", HTTPStatus.SEE_OTHER)
        self._frame.sessions.clear_cookie(response)
        return response

    def _writing(self, request: Request) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction whose changes are the operator's, so that each sign-in is in the audit log."""
        return self._services.store.writing(operator_subject(origin_of(request.scope)))

    async def _open(
        self, request: Request, transaction: Transaction, token_id: UUID | None
    ) -> OperatorSession:
        return await self._frame.sessions.open(request, transaction, token_id=token_id)

    def _welcome(self, session: OperatorSession) -> Response:
        response = _home()
        self._frame.sessions.set_cookie(response, session)
        return response

    def _show(self, request: Request, *, error: str | None = None) -> Response:
        status = HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY
        return self._steps.show(
            request, "installation/operator/sign_in.html", status=status, command=COMMAND, error=error
        )

    def _note_refusal(self, request: Request) -> None:
        self._services.counters["operator_sign_ins_refused"] += 1
        remote_ip = str(origin_of(request.scope).remote_ip)
        log.warning("a sign-in as the operator was refused", extra={"remote_ip": remote_ip})


def _home() -> Response:
    return RedirectResponse(OPERATOR_PATH, HTTPStatus.SEE_OTHER)
