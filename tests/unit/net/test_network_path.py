from dataclasses import replace
from ipaddress import ip_address

import pytest

from support.fake_kernel import FakeKernel
from wardgate.net.netlink import Hop
from wardgate.net.network_path import NetworkPath, has_moved

PORTAL = ip_address("203.0.113.10")
WIFI = Hop(interface=2, gateway="192.0.2.1", source="192.0.2.10")


@pytest.mark.parametrize(
    ("before", "after", "present", "moved"),
    [
        (WIFI, WIFI, {"192.0.2.10"}, False),
        (WIFI, replace(WIFI, interface=3), {"192.0.2.10"}, True),
        (WIFI, replace(WIFI, gateway="192.0.2.254"), {"192.0.2.10"}, True),
        (WIFI, replace(WIFI, source="192.0.2.11"), {"192.0.2.11"}, True),
        # A temporary IPv6 address that is only no longer preferred still works.
        (WIFI, replace(WIFI, source="192.0.2.11"), {"192.0.2.10", "192.0.2.11"}, False),
        (WIFI, None, set(), False),  # nothing to be done without a network
        (None, WIFI, {"192.0.2.10"}, True),
    ],
)
def test_a_path_has_moved_when_what_carried_it_is_gone(
    before: Hop | None, after: Hop | None, present: set[str], moved: bool
) -> None:
    assert has_moved({PORTAL: before}, {PORTAL: after}, present=frozenset(present)) is moved


def test_an_address_that_is_asked_about_for_the_first_time_tells_nothing() -> None:
    assert not has_moved({}, {PORTAL: WIFI}, present=frozenset())


async def test_the_portals_addresses_and_the_default_routes_are_watched() -> None:
    kernel = FakeKernel()
    kernel.add_link("eth0", is_up=True)
    kernel.addresses_by_link[1] = ["192.0.2.10"]
    destinations = [PORTAL]
    path = NetworkPath(kernel, lambda: destinations)
    anywhere = ip_address("198.51.100.1")
    kernel.hops = {PORTAL: WIFI, anywhere: WIFI}
    seen = [await path.has_moved(), await path.has_moved()]
    kernel.hops[anywhere] = replace(WIFI, interface=7)
    seen.append(await path.has_moved())
    kernel.hops[PORTAL] = replace(WIFI, interface=7)
    seen.append(await path.has_moved())
    seen.append(await path.has_moved())

    assert seen == [False, False, True, True, False]
