"""The layout of the account's picture."""

import random
from uuid import UUID

from wardgate.portal.devices.topology import (
    CLIENTS_SHOWN,
    GATEWAYS_SHOWN,
    NODE_HEIGHT,
    RELAYS_SHOWN,
    SITES_SHOWN,
    WIDTH,
    Grant,
    Node,
    Peer,
    Picture,
    SitePeers,
    draw,
)


def peer(number: int, name: str = "", *, is_online: bool = True) -> Peer:
    return Peer(UUID(int=number), name or f"peer {number}", "note", is_online, f"/clients/{number}")


def site(number: int, *gateways: Peer) -> SitePeers:
    return SitePeers(UUID(int=number), f"site {number}", "Healthy", "good", gateways)


def nodes_overlap(one: Node, other: Node) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + NODE_HEIGHT
        and other.y < one.y + NODE_HEIGHT
    )


def check(picture: Picture) -> None:
    """Nothing lies on anything else, or outside of the picture."""
    for index, one in enumerate(picture.nodes):
        assert 0 <= one.x <= WIDTH - one.width
        assert 0 <= one.y <= picture.height - NODE_HEIGHT
        assert not any(nodes_overlap(one, other) for other in picture.nodes[index + 1 :])
    for index, box in enumerate(picture.boxes):
        for other in picture.boxes[index + 1 :]:
            assert box.y + box.height <= other.y or other.y + other.height <= box.y


def test_the_same_account_gives_the_same_picture_in_whatever_order_it_was_read() -> None:
    clients = [peer(number) for number in range(8)]
    gateways = [peer(100 + number) for number in range(4)]
    sites = [site(200 + number, gateways[number]) for number in range(4)]
    grants = [Grant(UUID(int=number), UUID(int=100 + number % 4), f"r{number}") for number in range(8)]
    relays = [peer(300), peer(301)]
    picture = draw(clients, sites, relays, grants)
    check(picture)
    rng = random.Random(7)
    for part in (clients, sites, relays, grants):
        rng.shuffle(part)
    assert draw(clients, sites, relays, grants) == picture


def test_a_line_leads_from_the_client_to_the_gateway_and_names_all_resources_once() -> None:
    client, gateway = peer(1, "laptop"), peer(2, "gw")
    grants = [Grant(client.id, gateway.id, name) for name in ("wiki", "git", "wiki")]
    picture = draw([client], [site(3, gateway)], [], grants)
    (edge,) = picture.edges
    laptop, gw = picture.nodes
    assert (edge.title, edge.count) == ("laptop → gw: git, wiki", 2)
    assert edge.path.startswith(f"M{laptop.x + laptop.width} {laptop.middle} C")
    assert edge.path.endswith(f" {gw.x} {gw.middle}")


def test_a_line_between_two_clients_leads_around_their_left() -> None:
    one, other = peer(1), peer(2)
    (edge,) = draw([one, other], [], [], [Grant(one.id, other.id, "pool")]).edges
    first, second = draw([one, other], [], [], []).nodes
    assert edge.path.startswith(f"M{first.x} {first.middle} C{first.x - 48} ")
    assert edge.path.endswith(f" {second.x} {second.middle}")


def test_who_may_reach_something_comes_first_then_who_is_online() -> None:
    offline, online, granted = peer(1, "a", is_online=False), peer(2, "b"), peer(3, "c", is_online=False)
    picture = draw([offline, online, granted], [], [], [Grant(granted.id, UUID(int=9), "x")])
    assert [one.label for one in picture.nodes] == ["c", "b", "a"]
    assert picture.edges == [], "what is not drawn has no lines"


def test_what_there_is_no_room_for_is_counted() -> None:
    many = [peer(number) for number in range(CLIENTS_SHOWN + 2)]
    sites = [
        site(1000 + number, *(peer(2000 + 10 * number + one) for one in range(GATEWAYS_SHOWN + 1)))
        for number in range(SITES_SHOWN + 1)
    ]
    relays = [peer(5000 + number) for number in range(RELAYS_SHOWN + 1)]
    picture = draw(many, sites, relays, [])
    check(picture)
    assert picture.hidden == ["2 more clients", "1 more site", "1 more relay", f"{SITES_SHOWN} more gateways"]


def test_a_long_name_is_cut_by_its_width_and_told_whole() -> None:
    for name in ("x" * 60, "漢" * 40, "é" * 60):
        (node,) = draw([peer(1, name)], [], [], []).nodes
        assert node.label.endswith("…")
        assert sum(1 if ord(char) < 0x1100 else 2 for char in node.label) <= 30
        assert node.title == name
