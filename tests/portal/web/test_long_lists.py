"""Lists longer than a page: each page has its rows in their order, whatever they are ordered and narrowed by."""

import re
from dataclasses import replace

import httpx2
import pytest

from support.portal import World

NAMES = ("Éclair", "a_b", "a%b", "axb", "B/2", "service 1", "Service 2", "SERVICE 3")


@pytest.fixture
async def many(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        resources = transaction.of(world.account_id).resources
        for number, name in enumerate(NAMES):
            address = f"host-{len(NAMES) - number}.example.com"
            new = replace(world.resource, id=transaction.new_id(), name=name, type="dns", ip_stack="dual")
            await resources.insert(replace(new, address=address))


def names(html: str) -> list[str]:
    return re.findall(r'class="row-link[^"]*">([^<]*)</a>', html)


@pytest.mark.usefixtures("many")
async def test_the_internet_is_first_and_the_rest_in_order_over_all_pages(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.portal.services.store.reading() as transaction:
        resources = transaction.of(world.account_id).resources
        internet = await resources.find(resources.c.type == "internet")
    assert internet is not None
    for order in ("name", "-name", "address", "-address"):
        pages = [
            names((await admin.get(f"/acme/resources?size=10&sort={order}&page={number}")).text)
            for number in (1, 2)
        ]
        listed = [name for page in pages for name in page]
        assert listed[0] == internet.name
        assert len(set(listed)) == len(listed)
        assert {*NAMES, world.resource.name} < set(listed)
        if order.endswith("name"):
            assert listed[1:] == sorted(listed[1:], reverse=order.startswith("-"))


@pytest.mark.usefixtures("many")
async def test_how_many_a_search_finds_is_on_the_page_if_it_shows_them_all(
    admin: httpx2.AsyncClient,
) -> None:
    page = await admin.get("/acme/resources?size=10&q=e")
    assert "data-counts" not in page.text
    assert f"1–{len(names(page.text))} of {len(names(page.text))}" in page.text
    assert (await admin.get("/acme/resources/count?q=service")).text == "3"
    assert (await admin.get("/acme/resources/count?q=nothing+is+called+that")).text == "0"


async def test_a_search_that_finds_more_than_a_page_does_not_wait_for_the_number(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.portal.services.store.writing() as transaction:
        groups = transaction.of(world.account_id).groups
        for number in range(12):
            await groups.insert(replace(world.group, id=transaction.new_id(), name=f"Shift {number:02}"))
    page = (await admin.get("/acme/groups?size=10&q=shift")).text
    assert "of 10+" in re.sub("<[^>]*>", "", page)
    path = re.findall('data-counts="([^"]*)"', page)[0]
    assert path == "/acme/groups/count?q=shift&amp;size=10"
    assert (await admin.get(path.replace("&amp;", "&"))).text == "12"
    last = re.sub("<[^>]*>", "", (await admin.get("/acme/groups?size=10&q=shift&page=2")).text)
    assert "11–12 of 12" in last
    descending = names((await admin.get("/acme/groups?size=10&sort=-name")).text)
    assert descending[:2] == ["Everyone", "Shift 11"]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("service", {"service 1", "Service 2", "SERVICE 3"}),
        ("A_B", {"a_b"}),
        ("a%b", {"a%b"}),
        ("b/2", {"B/2"}),
        ("clair", {"Éclair"}),
        ("HOST-8.", {"Éclair"}),
    ],
)
async def test_a_search_is_for_the_words_as_they_are_typed_in_whatever_case(
    admin: httpx2.AsyncClient, words: str, found: set[str]
) -> None:
    answer = await admin.get("/acme/resources", params={"q": words})
    assert set(names(answer.text)) == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("zurich", {"Zürich", "ZURICH"}),
        ("ZÜRICH", {"Zürich", "ZURICH"}),
        ("zu\u0308rich", {"Zürich", "ZURICH"}),  # as some keyboards compose it
        ("straße", {"Straße 5"}),
        ("оскв", {"Москва"}),
        ("50%_ü", {"50%_Ü"}),
        ("ü", {"Zürich", "ZURICH", "50%_Ü", "Music", "Automata"}),
        ("日本", {"日本"}),
    ],
)
async def test_a_search_is_blind_to_accents_and_cases(
    admin: httpx2.AsyncClient, world: World, words: str, found: set[str]
) -> None:
    async with world.portal.services.store.writing() as transaction:
        groups = transaction.of(world.account_id).groups
        named = ("Zürich", "ZURICH", "Straße 5", "Москва", "50%_Ü", "Music", "Automata", "日本", "Night")
        for name in named:
            await groups.insert(replace(world.group, id=transaction.new_id(), name=name))
    page = (await admin.get("/acme/groups", params={"q": words})).text
    assert set(names(page)) == found
