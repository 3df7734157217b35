import pytest

from support.fake_nftables import FakeNftables


async def test_a_table_is_replaced_listed_and_deleted() -> None:
    nft = FakeNftables()
    await nft.apply("add table inet t\ndelete table inet t\ntable inet t { one }\n")
    await nft.apply("add table inet t\ndelete table inet t\ntable inet t { two }\n")
    listed = await nft.listing("table", "inet", "t")
    before = nft.generation()
    await nft.apply("add table inet t\ndelete table inet t\n")

    assert listed[1] == {"text": "table inet t { two }\n"}
    assert await nft.listing("table", "inet", "t") == []
    assert nft.generation() != before


async def test_rules_are_inserted_at_the_head_and_deleted_by_handle() -> None:
    nft = FakeNftables()
    nft.add_chain("ip filter FORWARD", [{"drop": None}])
    await nft.apply('insert rule ip filter FORWARD iifname "t0" counter accept comment "wardgate"\n')
    first, second = (item["rule"] for item in await nft.listing("chain", "ip", "filter", "FORWARD"))
    await nft.apply(f"delete rule ip filter FORWARD handle {first['handle']}\n")

    assert first["comment"] == "wardgate"
    assert second["expr"] == [{"drop": None}]
    assert len(nft.rules["ip", "filter", "FORWARD"]) == 1


async def test_what_it_does_not_understand_fails_the_test() -> None:
    with pytest.raises(AssertionError):
        await FakeNftables().apply("flush ruleset\n")
