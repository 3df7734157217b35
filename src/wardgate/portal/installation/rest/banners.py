"""`/wardgate/banners`: messages of the operator that every page shows (portal-domain §3.15)."""

from typing import Annotated

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.installation import rules
from wardgate.portal.installation.rules import COLORS, MAX_MESSAGE_CHARS
from wardgate.portal.installation.views import BannerView
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.fields import Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response

routes = Routes("banners", "/wardgate/banners", tag="Wardgate: installation")


class BannerFields(Fields):
    model_config = required("message")
    message: Annotated[str | None, text(MAX_MESSAGE_CHARS, shortest=1)] = None
    color: Annotated[str | None, one_of(COLORS)] = None


class BannerBody(BaseModel):
    banner: BannerFields


@routes.get("", response_model=ListOf[BannerView])
async def index(caller: ForOperator, paging: Paging) -> Response:
    async with caller.listing() as transaction:
        return list_response(await load_page(transaction.banners, paging), BannerView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForOperator, id: Id) -> Data[BannerView]:  # noqa: A002
    async with caller.reading() as transaction:
        return Data(data=BannerView.of(caller.tagged(await rules.load_banner(transaction, id))))


@routes.post("", makes_object=True)
async def create(caller: ForOperator, body: BannerBody, response: Response) -> Data[BannerView]:
    async with caller.writing() as transaction:
        banner = await rules.make_banner(transaction, body.banner.given())
    response.headers["location"] = f"/wardgate/banners/{banner.id}"
    return Data(data=BannerView.of(caller.tagged(banner)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForOperator, id: Id) -> Data[BannerView]:  # noqa: A002
    async with caller.writing() as transaction:
        banner = caller.expected(await rules.load_banner(transaction, id))
        await transaction.banners.delete(banner.id)
        return Data(data=BannerView.of(banner))
