from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from wardgate.gateway.grants import Grants
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.wire import messages as m

NEW = ClientId(DeviceId(UUID(int=1_000_000)))


def client(number: int) -> ClientId:
    return ClientId(DeviceId(UUID(int=number)))


def resource(number: int) -> m.GatewayDnsResource:
    return m.GatewayDnsResource(
        id=ResourceId(UUID(int=number)), name="", address=f"n{number}.corp.example", filters=()
    )


class CountedDict(dict[Any, Any]):
    """Counts how many of its items somebody goes through."""

    steps = 0

    def __iter__(self) -> Iterator[Any]:
        for key in super().__iter__():
            CountedDict.steps += 1
            yield key

    def values(self) -> Any:
        return (self[key] for key in self)


@pytest.fixture
def crowded() -> Grants:
    """A gateway's grants with 100 clients that hold 10 resources each, counted from here on."""
    grants = Grants()
    for of in range(100):
        for number in range(10):
            grants.put(client(of), resource(number), None)
    grants._clients = CountedDict(grants._clients)
    grants._holders = CountedDict(grants._holders)
    CountedDict.steps = 0
    return grants


def test_a_grant_goes_through_no_grant_of_others(crowded: Grants) -> None:
    crowded.put(NEW, resource(3), None)
    crowded.put(client(7), resource(11), None)
    crowded.get(NEW, resource(3).id)
    crowded.remove(client(7), resource(3).id)
    crowded.remove_client(client(8))

    assert CountedDict.steps == 0
    assert sum(1 for _ in crowded) == 100 * 10 + 2 - 1 - 10
    assert CountedDict.steps == 100, "whoever wants all goes through the clients"


def test_a_resource_has_its_holders_only(crowded: Grants) -> None:
    crowded.put(NEW, resource(11), 7)

    assert [(grant.client_id, grant.expires_at) for grant in crowded.of_resource(resource(11).id)] == [
        (NEW, 7)
    ]
    assert len(crowded.of_resource(resource(3).id)) == 100
    assert CountedDict.steps == 0


def test_a_repeated_grant_replaces_the_one_before() -> None:
    grants = Grants()
    [first] = grants.put(NEW, resource(1), 5)
    [second] = grants.put(NEW, resource(1), 9)

    assert list(grants) == [second]
    assert second.rank == first.rank
    grants.remove(NEW, resource(1).id)
    assert list(grants) == []
    assert grants.of_resource(resource(1).id) == []
