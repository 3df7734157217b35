"""Who is the operator: tokens, and the browsers that are signed in with them or by a link."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response

from wardgate.portal.installation import rules
from wardgate.portal.installation.operator.changes import history_tab
from wardgate.portal.installation.tables import (
    OPERATOR_SESSIONS,
    OPERATOR_TOKENS,
    OperatorSession,
    OperatorToken,
)
from wardgate.portal.store import Transaction
from wardgate.portal.web.cells import Fact, Moment, Text
from wardgate.portal.web.filters import Search
from wardgate.portal.web.forms import Form, TextField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Tab
from wardgate.portal.web.page import Live, PageRoute, Section
from wardgate.portal.web.visit import OperatorVisit

SESSIONS_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """How many browsers are signed in with each token of a page."""

    sessions: Counter[UUID | None]


@dataclass(frozen=True, slots=True)
class SessionsView:
    """Browsers, the newest first; `here` is the one that looks."""

    sessions: Sequence[OperatorSession]
    here: UUID


async def load_facts(
    _visit: OperatorVisit, transaction: Transaction, tokens: Sequence[OperatorToken]
) -> TokenFacts:
    c = OPERATOR_SESSIONS.c
    ids = [token.id for token in tokens]
    counts = await transaction.operator_sessions.count_by(
        c.token_id, c.token_id.in_(ids), c.expires_at > transaction.now
    )
    return TokenFacts(Counter(counts))


async def load_sessions(visit: OperatorVisit, transaction: Transaction, token: OperatorToken) -> SessionsView:
    """Browsers signed in with this token, and those that a link has let in, which belong to none."""
    c = OPERATOR_SESSIONS.c
    sessions = await transaction.operator_sessions.load_all(
        (c.token_id == token.id) | c.token_id.is_(None),
        c.expires_at > transaction.now,
        order_by=[c.inserted_at.desc(), c.id],
        limit=SESSIONS_SHOWN,
    )
    return SessionsView(sessions, visit.signed_in.session_id)


async def facts_of(_visit: OperatorVisit, _: Transaction, token: OperatorToken) -> Sequence[Fact]:
    return (
        Fact("Created", Moment(token.inserted_at)),
        Fact("ID", Text(str(token.id), is_code=True)),
    )


async def _make(
    visit: OperatorVisit, _: Transaction, transaction: Transaction, given: Mapping[str, Any]
) -> OperatorToken:
    issued = await rules.make_operator_token(transaction, given, keys=visit.services.keys)
    visit.secret = issued.text
    return issued.row


async def _delete(
    _visit: OperatorVisit, _: Transaction, transaction: Transaction, token: OperatorToken
) -> str:
    await rules.delete_operator_token(transaction, token)
    return f"Token “{token.name}” was deleted."


async def end_session(visit: OperatorVisit) -> Response:
    """End the session of a browser."""
    session_id = visit.id("session_id")
    if session_id is not None:
        async with visit.writing() as (_, transaction):
            await transaction.operator_sessions.delete(session_id)
    return visit.go(f"{PAGE.path}/{visit.id()}", toast="The session was ended.")


_FORM: Final = Form(
    (
        TextField(
            name="name",
            label="Name",
            help="Who or what will use it: a token for each, so that one can be revoked alone.",
            placeholder="monitoring",
            is_required=True,
        ),
    )
)

PAGE: Final[ListPage[OperatorToken, TokenFacts, OperatorVisit, Transaction]] = ListPage(
    name="Operator tokens",
    singular="operator token",
    path="/tokens",
    icon="key-round",
    section=Section.OPERATOR,
    about="They open these pages, and the operator’s part of the REST API and of the command line.",
    live=Live(tables=frozenset({"operator_tokens", "operator_sessions"})),
    repository=lambda transaction: transaction.operator_tokens,
    load_facts=load_facts,
    columns=(
        Column(name="name", label="Token", cell=lambda row, _: Text(row.name), sort=OPERATOR_TOKENS.c.name),
        Column(
            name="sessions",
            label="Browsers",
            cell=lambda row, facts: Text(str(facts.sessions[row.id])),
            is_number=True,
        ),
        Column(
            name="created",
            label="Created",
            cell=lambda row, _: Moment(row.inserted_at),
            sort=OPERATOR_TOKENS.c.inserted_at,
            is_secondary=True,
        ),
    ),
    filters=(Search(label="Name", columns=(OPERATOR_TOKENS.c.name,)),),
    empty=Empty("No tokens", "Without one only who holds the data directory gets in here."),
    panel=Panel(
        facts=facts_of,
        tabs=(
            Tab(
                name="sessions",
                label="Browsers",
                template="installation/operator/sessions.html",
                load=load_sessions,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="delete",
                label="Delete token",
                run=_delete,
                warning="Programs that use it are refused from the next call on, and browsers that are signed in"
                " with it are signed out.",
                is_dangerous=True,
                typed=lambda token: token.name,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda _token: _FORM, make=_make, once="installation/operator/token.html"),
    more=(PageRoute("/{id}/sessions/{session_id}/end", end_session, "POST"),),
)
