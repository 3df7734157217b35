"""Storing a grant while it is offered to its receiver; one that cannot be stored is withdrawn (fail closed)."""

from wardgate.model.ids import AuthorizationId
from wardgate.policy.engine import AccessRequest, Granted
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus.messages import GrantStored
from wardgate.portal.channels.claims import Claim, Target
from wardgate.portal.channels.client_context import ClientContext


def store_grant(
    context: ClientContext,
    access: AccessRequest,
    grant: Granted,
    row: PolicyAuthorization,
    target: Target | None = None,
) -> None:
    """Queue the row; the client is notified of the outcome, on whichever connection it has by then, and the
    receiver of a failure.

    Call it in the same step as the decision, while the account's view is still at the position of the
    decision.
    """
    address, bus, authorization_id = context.address, context.bus, AuthorizationId(row.id)

    def stored(is_stored: bool) -> None:
        bus.send(address, GrantStored(authorization_id, is_stored))

    context.journal.write_grant(
        Claim(row, grant, access, context.view, context.view.sequence, target), stored
    )
