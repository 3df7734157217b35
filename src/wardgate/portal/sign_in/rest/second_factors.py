"""`/wardgate/actors/{actor_id}/second_factors`: what a person signs in with besides e-mail or password, and its reset
for who has lost it. Nobody but the person sets one up.
"""

from wardgate.portal.people.rules import load_actor
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data
from wardgate.portal.sign_in.second_factor import rules
from wardgate.portal.sign_in.second_factor.letters import RESET, tell_of_change
from wardgate.portal.sign_in.views import SecondFactorsView

routes = Routes("second_factors", "/wardgate/actors/{actor_id}/second_factors", tag="Wardgate")


@routes.get("")
async def show(caller: ForAccount, actor_id: Id) -> Data[SecondFactorsView]:
    """Show a person's second factors; their secrets are never returned."""
    async with caller.reading() as tables:
        actor = await load_actor(tables, actor_id)
        return Data(data=SecondFactorsView.of(actor.id, await rules.load_factors(tables, actor.id)))


@routes.delete("")
async def reset(caller: ForAccount, actor_id: Id) -> Data[SecondFactorsView]:
    """Remove all of a person's second factors and recovery codes, and the sign-ins that wait for one."""
    async with caller.writing() as (tables, transaction):
        actor = await load_actor(tables, actor_id)
        if await rules.reset(tables, actor.id):
            await tell_of_change(
                transaction,
                caller.services.settings,
                caller.account,
                actor,
                [RESET],
                origin=caller.origin,
                by=caller.actor.name,
            )
        return Data(data=SecondFactorsView.of(actor.id, await rules.load_factors(tables, actor.id)))
