"""`/actors/{actor_id}/external_identities` (rest-api §8.3): made by signing in, so that there is nothing to
create here.
"""

from fastapi import Response

from wardgate.portal.people import rules
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response
from wardgate.portal.sign_in.views import ExternalIdentityView

routes = Routes("external_identities", "/actors/{actor_id}/external_identities", tag="External Identities")


@routes.get("", response_model=ListOf[ExternalIdentityView])
async def index(caller: ForAccount, actor_id: Id, paging: Paging) -> Response:
    async with caller.listing() as tables:
        identities = tables.external_identities
        page = await load_page(identities, paging, identities.c.actor_id == actor_id, newest_first=True)
        return list_response(page, ExternalIdentityView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, actor_id: Id, id: Id) -> Data[ExternalIdentityView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(
            data=ExternalIdentityView.of(caller.tagged(await rules.load_identity(tables, actor_id, id)))
        )


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, actor_id: Id, id: Id) -> Data[ExternalIdentityView]:  # noqa: A002
    """Delete an identity, with the sessions and client tokens that the actor got by signing in with it."""
    async with caller.writing() as (tables, _):
        identity = caller.expected(await rules.load_identity(tables, actor_id, id))
        actor = await rules.load_actor(tables, actor_id)
        await rules.delete_identity(tables, actor, identity, by=caller.actor)
        return Data(data=ExternalIdentityView.of(identity))
