"""Names of DNS resources as people type them (resource_rules): any script in, nothing else than the rules allow."""

import httpx2
import pytest

from support.portal import World
from wardgate.portal.access.addresses import check_address


@pytest.mark.parametrize("typed", ["bücher.example", "BÜCHER.example", "**.münchen.example", "例え.テスト"])
def test_a_name_outside_ascii_is_stored_as_typed(typed: str) -> None:
    assert check_address("dns", typed) == (typed, [])


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("*bücher.example", "wildcard cannot stand"),
        ("*.ｃｏｍ", "only wildcards"),  # the full-width form of com
        ("app.ｌｏｃａｌｈｏｓｔ", "localhost"),
        ("\u0300.example", "not a valid hostname"),
        ("ü" * 60 + ".example", "not a valid hostname"),
    ],
)
def test_the_rules_hold_for_what_a_name_means_and_not_how_it_is_written(typed: str, complaint: str) -> None:
    stored, errors = check_address("dns", typed)
    assert stored == typed
    assert complaint in " ".join(errors)


async def test_rest_shows_a_name_as_typed_and_peers_are_told_its_ascii_form(
    api: httpx2.AsyncClient, world: World
) -> None:
    body = {"name": "books", "type": "dns", "address": "Bücher.example", "site_id": str(world.site.id)}
    made = (await api.post("/resources", json={"resource": body})).json()["data"]
    assert made["address"] == "Bücher.example"
    policy = {"group_id": str(world.group.id), "resource_id": made["id"]}
    await api.post("/policies", json={"policy": policy})
    async with world.client() as client:
        listed = {one["id"]: one for one in (await client.join())["resources"]}
    assert listed[made["id"]]["address"] == "xn--bcher-kva.example"
