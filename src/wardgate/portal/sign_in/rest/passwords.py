"""`/wardgate/actors/{actor_id}/password`: what an administrator does about a person's password. It is never returned.

A password that is set here is known to two; the better way is a link, by which the person chooses one. It is mailed;
where the portal sends no mail, it is returned, for the administrator to hand over.
"""

from typing import Annotated

from pydantic import BaseModel

from wardgate.portal.mail.letters import ChoosePassword
from wardgate.portal.mail.queue import post
from wardgate.portal.people.rules import load_actor
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import EVERYWHERE, Fields, required, text
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data
from wardgate.portal.sign_in import password_rules as rules
from wardgate.portal.sign_in.hashing import SALT_BYTES, hash_text
from wardgate.portal.sign_in.views import PasswordLinkView, PasswordView

routes = Routes("passwords", "/wardgate/actors/{actor_id}", tag="Wardgate")


class PasswordFields(Fields):
    model_config = required("secret")
    narrowing = EVERYWHERE
    secret: Annotated[
        str | None, text(rules.MOST_CHARS, shortest=rules.LEAST_CHARS, about="never returned")
    ] = None


class PasswordBody(BaseModel):
    password: PasswordFields


@routes.put("/password")
async def set_password(caller: ForAccount, actor_id: Id, body: PasswordBody) -> Data[PasswordView]:
    """Set a person's password; what was signed in with another one ends."""
    environment = caller.services.environment
    async with caller.reading() as tables:
        actor = await load_actor(tables, actor_id)
    password = rules.check_password(actor, body.password.given().get("secret") or "")
    salt = environment.rng.randbytes(SALT_BYTES)
    hashing = caller.services.hashing
    password_hash = await hashing.run(environment.executor, lambda: hash_text(password, salt=salt))
    async with caller.writing() as (tables, _):
        changed = await rules.set_password(tables, await load_actor(tables, actor_id), password_hash)
    return Data(data=PasswordView(actor_id=changed.id, is_set=True))


@routes.delete("/password")
async def delete_password(caller: ForAccount, actor_id: Id) -> Data[PasswordView]:
    """Remove a person's password, with what was signed in with it and the links that would have changed it."""
    async with caller.writing() as (tables, _):
        changed = await rules.remove_password(tables, await load_actor(tables, actor_id))
        return Data(data=PasswordView(actor_id=changed.id, is_set=False))


@routes.post("/password_links")
async def send_password_link(caller: ForAccount, actor_id: Id) -> Data[PasswordLinkView]:
    """Mail a person a link by which they choose a password; without a mail server, return it."""
    services = caller.services
    async with caller.writing() as (tables, transaction):
        actor = await load_actor(tables, actor_id)
        rules.check_person(actor)
        url = f"{services.settings.web_url}/{caller.account.slug}/sign_in/password/" + rules.make_link(
            actor, now=tables.now, keys=caller.keys
        )
        ends_at = tables.now + rules.LINK_LIFETIME
        is_mailed = services.environment.mailer is not None and actor.email is not None
        if is_mailed and actor.email is not None:
            letter = ChoosePassword(caller.account.name, url, caller.actor.name, ends_at)
            await post(
                transaction,
                services.settings,
                letter,
                [actor.email],
                account_id=caller.account.id,
                key=caller.keys.letters,
            )
    return Data(data=PasswordLinkView(actor_id=actor.id, expires_at=ends_at, url=None if is_mailed else url))
