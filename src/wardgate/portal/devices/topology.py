"""How the picture of an account is laid out: clients to the left, sites with their gateways to the right, lines for
what is authorized, relays below. Pure: the same account gives the same picture.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

WIDTH: Final = 1000
NODE_WIDTH: Final = 260
NODE_HEIGHT: Final = 46
GAP: Final = 12
MARGIN: Final = 16
CLIENTS_X: Final = 72  # room for lines between two clients
SITE_WIDTH: Final = 320
SITE_HEAD: Final = 34
SITE_PADDING: Final = 14
HEADING: Final = 30
RELAY_WIDTH: Final = 228
LABEL_CHARS: Final = 29
NOTE_CHARS: Final = 33

CLIENTS_SHOWN: Final = 30
SITES_SHOWN: Final = 20
GATEWAYS_SHOWN: Final = 6  # of a site
RELAYS_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Peer:
    """A client, a gateway or a relay; `path` leads to it within the account."""

    id: UUID
    name: str
    note: str
    is_online: bool
    path: str | None


@dataclass(frozen=True, slots=True)
class SitePeers:
    """A site with its gateways."""

    id: UUID
    name: str
    status: str
    tone: str
    gateways: Sequence[Peer]


@dataclass(frozen=True, slots=True)
class Grant:
    """That a client may reach something through a gateway, or another client; `path` says how its packets went last,
    "" where nobody knows.
    """

    initiator_id: UUID
    receiver_id: UUID
    resource: str
    path: str = ""
    is_relayed: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A box with a peer's name; `title` has what did not fit."""

    x: int
    y: int
    width: int
    label: str
    note: str
    title: str
    is_online: bool
    path: str | None

    @property
    def middle(self) -> int:
        return self.y + NODE_HEIGHT // 2


@dataclass(frozen=True, slots=True)
class Box:
    """A site around its gateways."""

    x: int
    y: int
    height: int
    label: str
    title: str
    status: str
    tone: str
    path: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A line for all that one peer may reach through another."""

    path: str
    title: str
    count: int
    is_relayed: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn. `hidden` says what there was no room for."""

    height: int
    nodes: Sequence[Node]
    boxes: Sequence[Box]
    edges: Sequence[Edge]
    headings: Sequence[tuple[int, int, str]]
    hidden: Sequence[str]


def draw(
    clients: Sequence[Peer], sites: Sequence[SitePeers], relays: Sequence[Peer], grants: Sequence[Grant]
) -> Picture:
    """Lay out an account.

    Clients that may reach something come first, then those online; all in the order of their names.
    """
    used = {one.initiator_id for one in grants} | {one.receiver_id for one in grants}
    clients = sorted(clients, key=lambda one: (one.id not in used, not one.is_online, one.name, one.id))
    sites = sorted(sites, key=lambda one: (one.name, one.id))
    hidden = [
        *_too_many(len(clients), CLIENTS_SHOWN, "client"),
        *_too_many(len(sites), SITES_SHOWN, "site"),
        *_too_many(len(relays), RELAYS_SHOWN, "relay"),
    ]
    placed: dict[UUID, Node] = {}
    client_y = MARGIN + HEADING
    for client in clients[:CLIENTS_SHOWN]:
        placed[client.id] = _node(client, CLIENTS_X, client_y)
        client_y += NODE_HEIGHT + GAP
    boxes, site_y, gateway_count = _place_sites(sites[:SITES_SHOWN], placed)
    hidden += _too_many(sum(len(one.gateways) for one in sites[:SITES_SHOWN]), gateway_count, "gateway")
    bottom = max(client_y, site_y)
    relay_nodes, height = _place_relays(sorted(relays, key=lambda one: (one.name, one.id)), bottom)
    headings = [
        (CLIENTS_X, MARGIN + HEADING - 12, "Clients"),
        (WIDTH - MARGIN - SITE_WIDTH, MARGIN + HEADING - 12, "Sites and gateways"),
        (CLIENTS_X, bottom + HEADING - 6, "Relays"),
    ]
    return Picture(height, [*placed.values(), *relay_nodes], boxes, _edges(grants, placed), headings, hidden)


def _place_sites(sites: Sequence[SitePeers], placed: dict[UUID, Node]) -> tuple[list[Box], int, int]:
    boxes, y, count = [], MARGIN + HEADING, 0
    x = WIDTH - MARGIN - SITE_WIDTH
    for site in sites:
        shown = sorted(site.gateways, key=lambda one: (not one.is_online, one.name, one.id))[:GATEWAYS_SHOWN]
        count += len(shown)
        height = SITE_HEAD + len(shown) * (NODE_HEIGHT + GAP) + (SITE_PADDING - GAP if shown else 6)
        for index, gateway in enumerate(shown):
            gateway_y = y + SITE_HEAD + index * (NODE_HEIGHT + GAP)
            placed[gateway.id] = _node(gateway, x + SITE_PADDING, gateway_y, SITE_WIDTH - 2 * SITE_PADDING)
        boxes.append(
            Box(
                x,
                y,
                height,
                _cut(site.name, LABEL_CHARS),
                site.name,
                site.status,
                site.tone,
                f"/sites/{site.id}",
            )
        )
        y += height + GAP + 4
    return boxes, y, count


def _place_relays(relays: Sequence[Peer], top: int) -> tuple[list[Node], int]:
    nodes: list[Node] = []
    per_row = (WIDTH - CLIENTS_X - MARGIN + GAP) // (RELAY_WIDTH + GAP)
    y = top + HEADING + 6
    for index, relay in enumerate(relays[:RELAYS_SHOWN]):
        row, column = divmod(index, per_row)
        nodes.append(
            _node(relay, CLIENTS_X + column * (RELAY_WIDTH + GAP), y + row * (NODE_HEIGHT + GAP), RELAY_WIDTH)
        )
    rows = -(-min(len(relays), RELAYS_SHOWN) // per_row)
    return nodes, y + max(rows, 1) * (NODE_HEIGHT + GAP) + MARGIN


def _edges(grants: Sequence[Grant], placed: Mapping[UUID, Node]) -> list[Edge]:
    resources: defaultdict[tuple[UUID, UUID], set[str]] = defaultdict(set)
    newest: dict[tuple[UUID, UUID], Grant] = {}
    for one in grants:
        if one.initiator_id in placed and one.receiver_id in placed:
            resources[one.initiator_id, one.receiver_id].add(one.resource)
            newest[one.initiator_id, one.receiver_id] = one
    edges = []
    for (initiator_id, receiver_id), names in resources.items():
        initiator, receiver = placed[initiator_id], placed[receiver_id]
        grant = newest[initiator_id, receiver_id]
        title = f"{initiator.title} → {receiver.title}: {', '.join(sorted(names))}{grant.path and f', {grant.path}'}"
        edges.append(Edge(_line(initiator, receiver), title, len(names), grant.is_relayed))
    return sorted(edges, key=lambda one: (one.title, one.path))


def _line(initiator: Node, receiver: Node) -> str:
    """Return a curve from the right of one node to the left of the other; between clients, around their left."""
    if initiator.x == receiver.x:
        bend = initiator.x - 48
        return (
            f"M{initiator.x} {initiator.middle} C{bend} {initiator.middle} {bend} {receiver.middle} "
            f"{receiver.x} {receiver.middle}"
        )
    start, end = initiator.x + initiator.width, receiver.x
    bend = (start + end) // 2
    return f"M{start} {initiator.middle} C{bend} {initiator.middle} {bend} {receiver.middle} {end} {receiver.middle}"


def _node(peer: Peer, x: int, y: int, width: int = NODE_WIDTH) -> Node:
    return Node(
        x,
        y,
        width,
        _cut(peer.name, LABEL_CHARS * width // NODE_WIDTH),
        _cut(peer.note, NOTE_CHARS * width // NODE_WIDTH),
        peer.name,
        peer.is_online,
        peer.path,
    )


def _cut(text: str, chars: int) -> str:
    """Cut a text to what fits, by widths that hold for any font: a letter of other scripts may be twice as wide."""
    width = 0
    for end, char in enumerate(text):
        width += 1 if ord(char) < 0x1100 else 2
        if width > chars:
            return f"{text[: max(end - 1, 1)]}…"
    return text


def _too_many(count: int, shown: int, name: str) -> list[str]:
    more = count - shown
    return [f"{more} more {name}{'' if more == 1 else 's'}"] if more > 0 else []
