"""Control channels: the WebSocket endpoint of clients, gateways and relays (control-plane-protocol).

endpoint     ASGI: upgrade request → refusal or session; pumps frames and timers
connecting   who a presented token and query are, as rows
session      what all sessions share: framing, join, heartbeat, idle and slow-reader limits
client_session, gateway_session, relay_session   one machine per kind of peer: frames in, frames out
client_context, resource_list, gateway_access, pool_access, asked_grants, decision_log   the parts of a client's session
offers, views  what messages are made of
held_grants  what a receiver of grants enforces
registration a session's place on the bus, and what becomes of it when a newer one takes it
journal      grants and decisions, written in group commits
"""

from wardgate.portal.channels.endpoint import ChannelEndpoint
from wardgate.portal.channels.journal import Journal

__all__ = ["ChannelEndpoint", "Journal"]
