"""Messages of the operator that every page shows (portal-domain §3.15)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wardgate.portal.installation import rules
from wardgate.portal.installation.tables import BANNERS, Banner
from wardgate.portal.store import Transaction
from wardgate.portal.web.cells import Fact, Moment, Tag, Text
from wardgate.portal.web.choices import Option
from wardgate.portal.web.filters import Search
from wardgate.portal.web.forms import ChoiceField, Form, TextField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.toasts import Tone
from wardgate.portal.web.visit import OperatorVisit

_TONES: Final[dict[str, Tone]] = {"warning": "caution", "error": "bad", "success": "good"}
_SHOWN_CHARS: Final = 80


def _label(banner: Banner) -> str:
    text = banner.message
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _tag(banner: Banner) -> Tag:
    return Tag(banner.color, _TONES.get(banner.color, "neutral"))


async def _no_facts(_visit: OperatorVisit, _: Transaction, _banners: Sequence[Banner]) -> None:
    return None


async def facts_of(_visit: OperatorVisit, _: Transaction, banner: Banner) -> Sequence[Fact]:
    return (
        Fact("Message", Text(banner.message)),
        Fact("Kind", _tag(banner)),
        Fact("Shown since", Moment(banner.inserted_at)),
    )


async def _make(
    _visit: OperatorVisit, _: Transaction, transaction: Transaction, given: Mapping[str, Any]
) -> Banner:
    return await rules.make_banner(transaction, given)


async def _delete(_visit: OperatorVisit, _: Transaction, transaction: Transaction, banner: Banner) -> str:
    await transaction.banners.delete(banner.id)
    return "The banner is not shown any more."


_FORM: Final = Form(
    (
        TextField(
            name="message",
            label="Message",
            longest=rules.MAX_MESSAGE_CHARS,
            is_long=True,
            is_required=True,
        ),
        ChoiceField(
            name="color",
            label="Kind",
            choices=tuple(Option(color, color.capitalize()) for color in rules.COLORS),
            is_required=True,
            initial=rules.COLORS[0],
        ),
    )
)

PAGE: Final[ListPage[Banner, None, OperatorVisit, Transaction]] = ListPage(
    name="Banners",
    singular="banner",
    path="/banners",
    icon="info",
    section=Section.INSTALLATION,
    about="What all administrators of all accounts read above their pages, such as an announced interruption.",
    live=Live(tables=frozenset({"banners"})),
    repository=lambda transaction: transaction.banners,
    load_facts=_no_facts,
    default_sort="-since",
    label_of=_label,
    columns=(
        Column(
            name="message", label="Message", cell=lambda row, _: Text(_label(row)), sort=BANNERS.c.message
        ),
        Column(name="kind", label="Kind", cell=lambda row, _: _tag(row)),
        Column(
            name="since",
            label="Shown since",
            cell=lambda row, _: Moment(row.inserted_at),
            sort=BANNERS.c.inserted_at,
        ),
    ),
    filters=(Search(label="Message", columns=(BANNERS.c.message,)),),
    empty=Empty("No banners", "Announce here what concerns everybody: an upgrade tonight, a new address."),
    panel=Panel(
        facts=facts_of,
        actions=(
            PanelAction(
                name="delete",
                label="Delete banner",
                run=_delete,
                warning="Nobody is shown it any more.",
                is_dangerous=True,
                leaves=True,
            ),
        ),
    ),
    editing=Editing(form=lambda _banner: _FORM, make=_make),
)
