"""Control channels: the WebSocket endpoint of clients, gateways and relays (control-plane-protocol).

endpoint         ASGI: upgrade request → refusal or session; pumps frames and timers
connecting       from a presented token and query to rows
session          what all sessions share: framing, join, heartbeat, idle and slow-reader limits
client_session, gateway_session, relay_session
                 one machine for each kind of peer: frames in, frames out
client_context, resource_list, gateway_access, pool_access, asked_grants, decision_log
                 parts of a client's session
offers, views    messages and their parts
held_grants      the grants that a receiver enforces
registration     a session's address on the bus, and what happens when a newer session takes it
journal          grants and decisions, written in group commits
precedence       peers that ask go before what nobody waits for
"""

from wardgate.portal.channels.endpoint import ChannelEndpoint
from wardgate.portal.channels.journal import Journal
from wardgate.portal.channels.precedence import Precedence

__all__ = ["ChannelEndpoint", "Journal", "Precedence"]
