"""Storing a grant while its receiver is told of it; one that cannot be stored is withdrawn (fail closed)."""

from wardgate.model.ids import AuthorizationId
from wardgate.policy.engine import AccessRequest, Granted
from wardgate.portal.bus.messages import GrantStored
from wardgate.portal.channels.client_context import ClientContext
from wardgate.portal.channels.standing import Claim, Target
from wardgate.portal.store.rows import PolicyAuthorization


def store_grant(
    context: ClientContext,
    access: AccessRequest,
    grant: Granted,
    row: PolicyAuthorization,
    target: Target | None = None,
) -> None:
    """Queue the row; the client hears of the outcome, even if this connection is over by then, its receiver of a failure.

    Call it in the step that decided: until then the account's view stands where it stood at the decision.
    """
    address, bus, authorization_id = context.address, context.bus, AuthorizationId(row.id)

    def stored(is_stored: bool) -> None:
        bus.send(address, GrantStored(authorization_id, is_stored))

    context.journal.write_grant(
        Claim(row, grant, access, context.view, context.view.sequence, target), stored
    )
