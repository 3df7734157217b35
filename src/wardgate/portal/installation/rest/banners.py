"""`/wardgate/banners`: messages of the operator that every page shows (portal-domain §3.15)."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.rest.account_views import BannerView
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, listed
from wardgate.portal.store import Transaction
from wardgate.portal.store.rows import Banner

routes = Routes("banners", "/wardgate/banners", tag="Wardgate: installation")

COLORS: Final = ("warning", "info", "error", "success", "announcement")
MAX_MESSAGE_CHARS: Final = 1000


class BannerFields(Fields):
    model_config = required("message")
    message: Annotated[str | None, text(MAX_MESSAGE_CHARS, shortest=1)] = None
    color: Annotated[str | None, one_of(COLORS)] = None


class BannerBody(BaseModel):
    banner: BannerFields


@routes.get("", response_model=ListOf[BannerView])
async def index(caller: ForOperator, paging: Paging) -> Response:
    async with caller.reading() as transaction:
        return listed(await load_page(transaction.banners, paging), BannerView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForOperator, id: Id) -> Data[BannerView]:  # noqa: A002
    async with caller.reading() as transaction:
        return Data(data=BannerView.of(caller.tagged(await _load(transaction, id))))


@routes.post("", makes_object=True)
async def create(caller: ForOperator, body: BannerBody, response: Response) -> Data[BannerView]:
    edit = Edit(body.banner, {"message": None, "color": COLORS[0]})
    edit.text("message", longest=MAX_MESSAGE_CHARS, required=True)
    edit.choice("color", COLORS, required=True)
    values = edit.finish()
    async with caller.writing() as transaction:
        banner = await transaction.banners.insert(Banner(id=transaction.new_id(), **values))
    response.headers["location"] = f"/wardgate/banners/{banner.id}"
    return Data(data=BannerView.of(caller.tagged(banner)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForOperator, id: Id) -> Data[BannerView]:  # noqa: A002
    async with caller.writing() as transaction:
        banner = caller.expected(await _load(transaction, id))
        await transaction.banners.delete(banner.id)
        return Data(data=BannerView.of(banner))


async def _load(transaction: Transaction, id_: UUID | None) -> Banner:
    banner = None if id_ is None else await transaction.banners.load(id_)
    if banner is None:
        raise not_found()
    return banner
