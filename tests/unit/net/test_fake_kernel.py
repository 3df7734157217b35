import errno
import os
from ipaddress import ip_network

import pytest

from support.fake_kernel import FakeKernel
from wardgate.net.netlink import Route, Rule


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel()
    made.add_link("tun0", is_up=True)
    return made


async def test_doubles_and_what_is_not_there_are_refused(kernel: FakeKernel) -> None:
    rule = Rule(4, 100, 7)
    await kernel.add_rule(rule)
    await kernel.add_address(1, "100.64.0.9")

    for operation, code in (
        (kernel.add_rule(rule), errno.EEXIST),
        (kernel.remove_rule(Rule(4, 200, 7)), errno.ENOENT),
        (kernel.add_address(1, "100.64.0.9"), errno.EEXIST),
        (kernel.remove_address(1, "100.64.0.1"), errno.EADDRNOTAVAIL),
        (kernel.remove_route(Route(ip_network("10.0.0.0/8"), 1, 7)), errno.ESRCH),
    ):
        with pytest.raises(OSError, match=os.strerror(code)):
            await operation


async def test_a_route_needs_its_source_and_a_link_that_is_up(kernel: FakeKernel) -> None:
    route = Route(ip_network("10.0.0.0/8"), 1, 7, source="100.64.0.9")
    with pytest.raises(OSError, match="Invalid argument"):
        await kernel.add_route(route)
    await kernel.add_address(1, "100.64.0.9")
    await kernel.add_route(route)
    kernel.take_down("tun0")

    assert await kernel.on_link_routes(7, 4) == frozenset()
    with pytest.raises(OSError, match="Network is down"):
        await kernel.add_route(route)


async def test_a_link_that_goes_down_loses_its_ipv6_addresses_only(kernel: FakeKernel) -> None:
    await kernel.add_address(1, "100.64.0.9")
    await kernel.add_address(1, "fd00::9")
    kernel.take_down("tun0")

    assert await kernel.addresses(1) == {"100.64.0.9"}
    await kernel.set_link(1, is_up=True)
    assert kernel.links["tun0"].is_up


async def test_a_method_can_be_refused(kernel: FakeKernel) -> None:
    kernel.refused["rules"] = errno.EPERM

    with pytest.raises(PermissionError):
        await kernel.rules(4)
