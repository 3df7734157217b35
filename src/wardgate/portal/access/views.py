"""Resources and policies, as the REST API represents them (rest-api §8)."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, GetJsonSchemaHandler, SerializerFunctionWrapHandler, model_serializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from wardgate.model.conditions import Operator, Property
from wardgate.portal.access.tables import Policy as PolicyRow
from wardgate.portal.access.tables import Resource as ResourceRow
from wardgate.portal.rest.views import RowView, ViewFields, one_of_words

ResourceType = Annotated[
    str,
    one_of_words("dns", "ip", "cidr", "internet", "static_device_pool", "dynamic_device_pool", "device_pool"),
]

MembershipMode = Annotated[str, one_of_words("listed", "dynamic")]

IpStack = Annotated[str, one_of_words("dual", "ipv4_only", "ipv6_only")]

FilterProtocol = Annotated[str, one_of_words("tcp", "udp", "icmp")]

ConditionProperty = Annotated[str, one_of_words(*(one.value for one in Property))]

ConditionOperator = Annotated[str, one_of_words(*(one.value for one in Operator))]


class FilterView(BaseModel):
    protocol: FilterProtocol
    ports: list[str]


class MembershipCriteriaView(BaseModel):
    """Which clients are in a `device_pool`: those listed as its members, or those whose host name fits."""

    mode: MembershipMode
    hostname: str | None


class ResourceView(RowView):
    """`ip_stack`, `site_id` and `device_membership_criteria` are left out when null."""

    always_null = frozenset({"device_membership_criteria"})  # but of what `fields_of` says otherwise
    id: UUID
    name: str
    address: str | None
    address_description: str | None
    type: ResourceType
    filters: list[FilterView]
    ip_stack: IpStack | None = None
    site_id: UUID | None = None
    device_membership_criteria: MembershipCriteriaView | None = None

    @model_serializer(mode="wrap")
    def _without_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        return {
            name: value
            for name, value in plain.items()
            if value is not None or name not in _LEFT_OUT_WHEN_NULL
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Documented by its fields: what the serializer returns is only less of the same.
        plain: Any = {name: value for name, value in core_schema.items() if name != "serialization"}
        return handler(plain)

    @classmethod
    def fields_of(cls, row: ResourceRow) -> ViewFields:
        filters = [{"protocol": one["protocol"], "ports": one.get("ports", [])} for one in row.filters]
        fields = super().fields_of(row) | {"filters": filters}
        if row.membership_mode is not None:
            criteria = {"mode": row.membership_mode, "hostname": row.address}
            fields |= {"type": "device_pool", "device_membership_criteria": criteria}
        return {
            name: value
            for name, value in fields.items()
            if value is not None or name not in _LEFT_OUT_WHEN_NULL
        }


_LEFT_OUT_WHEN_NULL = frozenset({"ip_stack", "site_id", "device_membership_criteria"})


class ConditionView(BaseModel):
    property: ConditionProperty
    operator: ConditionOperator
    values: list[str]


class PolicyView(RowView):
    id: UUID
    group_id: UUID | None
    resource_id: UUID
    description: str | None
    flow_log_uploads_enabled: bool
    is_disabled: bool
    conditions: list[ConditionView]

    @classmethod
    def fields_of(cls, row: PolicyRow) -> ViewFields:
        # In this order of keys, which a database need not keep.
        conditions = [
            {"property": one["property"], "operator": one["operator"], "values": one["values"]}
            for one in row.conditions
        ]
        return super().fields_of(row) | {"conditions": conditions}
