from uuid import UUID

import pytest

from wardgate.connect.log_names import resource_fields
from wardgate.model.ids import ResourceId
from wardgate.wire import messages as m

ID = ResourceId(UUID(int=1))


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        (m.GatewayDnsResource(id=ID, name="wiki", address="wiki.example", filters=()), "wiki"),
        (m.GatewayInternetResource(id=ID), "Internet Resource"),
        (m.ClientInternetResource(id=ID, sites=()), "Internet Resource"),
        (m.ClientStaticDevicePool(id=ID, name="devices", filters=(), devices=()), "devices"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_resource_is_named_beside_its_id(resource: m.ClientResource | m.GatewayResource, name: str) -> None:
    assert resource_fields(resource) == {"resource_id": str(ID), "resource": name}
