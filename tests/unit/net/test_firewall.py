from wardgate.net.firewall import ruleset


def test_the_table_is_replaced_in_one_transaction() -> None:
    lines = ruleset("wardgate_gateway", "wardgate-gw").splitlines()

    assert lines[:3] == [
        "add table inet wardgate_gateway",
        "delete table inet wardgate_gateway",
        "table inet wardgate_gateway {",
    ]


def test_only_tunnel_sources_leaving_elsewhere_are_masqueraded() -> None:
    masquerading = [line.strip() for line in ruleset("t", "tun0").splitlines() if "masquerade" in line]

    assert masquerading == [
        'ip saddr 100.64.0.0/11 oifname != "tun0" masquerade',
        'ip6 saddr fd00:2021:1111::/107 oifname != "tun0" masquerade',
    ]
