from ipaddress import ip_address

from wardgate.dns.upstreams import Do53, Doh, Sentinels, choose_upstreams

A = Do53(ip_address("192.0.2.53"), is_custom=True)
B = Do53(ip_address("2001:db8::53"), is_custom=True)


def test_the_portals_servers_win_over_urls_and_the_hosts_own() -> None:
    system = (ip_address("198.51.100.1"),)

    assert choose_upstreams(do53=["192.0.2.53"], doh=["https://dns.example/q"], system=system) == (A,)
    assert choose_upstreams(doh=["https://dns.example/q"], system=system) == (Doh("https://dns.example/q"),)
    assert choose_upstreams(system=system) == (Do53(system[0], is_custom=False),)


def test_sentinels_duplicates_and_nonsense_are_left_out() -> None:
    chosen = choose_upstreams(do53=["100.100.111.1", "192.0.2.53", "not an address", "192.0.2.53"])

    assert chosen == (A,)


def test_each_upstream_gets_a_sentinel_of_its_family() -> None:
    sentinels = Sentinels()
    sentinels.update((A, B, Doh("https://dns.example/q")))

    assert [str(one) for one in sentinels.mapping] == [
        "100.100.111.1",
        "fd00:2021:1111:8000:100:100:111:0",
        "100.100.111.2",
    ]


def test_the_same_set_in_another_order_keeps_its_sentinels() -> None:
    sentinels = Sentinels()
    sentinels.update((A, B))
    before = dict(sentinels.mapping)
    sentinels.update((B, A))

    assert dict(sentinels.mapping) == before


def test_a_changed_set_avoids_the_sentinels_before() -> None:
    sentinels = Sentinels()
    sentinels.update((A,))
    before = set(sentinels.mapping)
    sentinels.update((A, Doh("https://dns.example/q")))

    assert not before & set(sentinels.mapping)
