"""From the portal's relay entries to the engine's relays (control-plane-protocol §5.5, data-plane §1.10)."""

from collections.abc import Iterable

from wardgate.datapath.commands import RelayServer, SetRelays
from wardgate.wire.messages import Relay, RelaysPresence
from wardgate.wire.relay_entries import merge_relay_entries


def relays_of_init(entries: Iterable[Relay]) -> SetRelays:
    """Add and update relays but remove none: a portal that has just restarted does not know all of them."""
    return SetRelays(relays=_servers(entries))


def relays_of_presence(message: RelaysPresence) -> SetRelays:
    """Remove those that disconnected, add and update the new selection; relays in neither list stay."""
    return SetRelays(
        relays=_servers(message.connected),
        removed=tuple(str(relay_id) for relay_id in message.disconnected_ids),
    )


def _servers(entries: Iterable[Relay]) -> tuple[RelayServer, ...]:
    return tuple(
        RelayServer(str(relay.id), relay.socket_addresses, relay.username, relay.password)
        for relay in merge_relay_entries(entries)
    )
