from ipaddress import IPv4Network, IPv6Address, IPv6Network

from wardgate.dns.proxy_addresses import ProxyAddresses, is_sentinel
from wardgate.model.addresses import PROXY_IPV6, SENTINEL_IPV4, SENTINEL_IPV6


def test_a_name_gets_the_first_four_addresses_of_each_family() -> None:
    proxies = ProxyAddresses().assign("app.example")

    assert [str(one) for one in proxies.ipv4] == ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"]
    assert str(proxies.ipv6[0]) == "fd00:2021:1111:8000::"


def test_a_name_keeps_its_addresses_and_another_gets_the_next() -> None:
    addresses = ProxyAddresses()
    first = addresses.assign("one.example")
    second = addresses.assign("two.example")

    assert addresses.assign("one.example") == first
    assert str(second.ipv4[0]) == "100.96.0.5"
    assert addresses.name_of(second.ipv6[0]) == "two.example"
    assert addresses.name_of(IPv6Address("::1")) is None


def test_sentinels_are_skipped() -> None:
    around = ProxyAddresses(
        ipv4=IPv4Network("100.100.110.0/23"), ipv6=IPv6Network("fd00:2021:1111:8000:100:100:111:0/119")
    )
    drawn = [around.assign(f"n{number}.example") for number in range(100)]

    assert all(not is_sentinel(address) for one in drawn for address in (*one.ipv4, *one.ipv6))
    assert SENTINEL_IPV4[1] not in {address for one in drawn for address in one.ipv4}
    assert SENTINEL_IPV6[0] not in {address for one in drawn for address in one.ipv6}


def test_an_exhausted_pool_hands_out_what_is_left() -> None:
    tiny = ProxyAddresses(ipv4=IPv4Network("100.96.0.0/29"))
    tiny.assign("one.example")

    assert len(tiny.assign("two.example").ipv4) == 3
    assert tiny.assign("three.example").ipv4 == ()
    assert len(tiny.assign("three.example").ipv6) == 4


def test_addresses_of_forgotten_names_come_again_only_after_all_others() -> None:
    book = ProxyAddresses(ipv4=IPv4Network("100.96.0.0/28"), ipv6=PROXY_IPV6, max_names=2)
    drawn = []
    for number in range(6):
        drawn.append(book.assign(f"n{number}.example").ipv4)
        for name in book.forget_surplus():
            assert book.of(name) is None
    assert len({address for addresses in drawn[:3] for address in addresses}) == 12
    assert all(len(addresses) == 4 for addresses in drawn), "what is free is found again"
    assert book.name_of(drawn[-1][0]) == "n5.example"


def test_asking_keeps_a_name() -> None:
    book = ProxyAddresses(max_names=2)
    for name in ("a", "b", "a", "c"):
        book.assign(name)
    assert "a" not in book.forget_surplus()


def test_restored_names_keep_their_addresses_and_new_ones_come_behind_them() -> None:
    before = ProxyAddresses()
    one, two = before.assign("one.example"), before.assign("two.example")
    after = ProxyAddresses()
    after.restore("two.example", two)
    after.restore("thief.example", two)
    after.restore("two.example", one)

    assert after.of("two.example") == two
    assert after.of("thief.example") is None
    assert after.name_of(two.ipv4[0]) == "two.example"
    assert str(after.assign("three.example").ipv4[0]) == "100.96.0.9", "one.example's may still be in use"


def test_no_more_names_are_restored_than_may_be_known() -> None:
    full = ProxyAddresses()
    names = [(name, full.assign(name)) for name in ("a", "b", "c")]
    book = ProxyAddresses(max_names=2)
    for name, proxies in names:
        book.restore(name, proxies)
    assert [name for name, _ in book] == ["a", "b"]
