"""Who did something, as changes and session logs keep it (portal-domain §10.2): a snapshot, for actors change
and go.
"""

from typing import Any, Final

from wardgate.portal.http.origin import Origin
from wardgate.portal.people.tables import Actor

MAX_USER_AGENT_CHARS: Final = 255


def subject_of(actor: Actor, origin: Origin) -> dict[str, Any]:
    """Return the snapshot of an actor who came from there."""
    return {
        "actor_id": str(actor.id),
        "actor_name": actor.name,
        "actor_email": actor.email,
        "actor_type": actor.type,
        "auth_provider_id": None,
        **_place(origin),
    }


def newcomer_subject(name: str, email: str, origin: Origin) -> dict[str, Any]:
    """Return the snapshot of somebody who makes an account: its first administrator, who is not stored yet."""
    return {
        "actor_id": None,
        "actor_name": name,
        "actor_email": email,
        "actor_type": "account_admin_user",
        "auth_provider_id": None,
        **_place(origin),
    }


def operator_subject(origin: Origin) -> dict[str, Any]:
    """Return the snapshot of the operator, who is nobody's actor."""
    return {
        "actor_id": None,
        "actor_name": "operator",
        "actor_email": None,
        "actor_type": "operator",
        "auth_provider_id": None,
        **_place(origin),
    }


def _place(origin: Origin) -> dict[str, Any]:
    return {
        "ip": str(origin.remote_ip),
        "ip_region": origin.region,
        "ip_city": origin.city,
        "ip_lat": None if origin.position is None else origin.position.lat,
        "ip_lon": None if origin.position is None else origin.position.lon,
        "user_agent": origin.user_agent[:MAX_USER_AGENT_CHARS],
    }
