"""Drives a portal through the Python client that a generator made of the OpenAPI document.

Runs in the generator's own environment, with the client as package `wardgate_client`: it reads what to call
as JSON, makes the calls, and writes how each was answered. A failure of what a caller would rely on ends it
with a traceback.
"""

import importlib
import inspect
import json
import pkgutil
import re
import sys
import typing
import uuid
from datetime import datetime
from http import HTTPStatus
from types import ModuleType
from typing import Any

client_module: Any = importlib.import_module("wardgate_client")
models: Any = importlib.import_module("wardgate_client.models")
api: Any = importlib.import_module("wardgate_client.api")

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


def operations() -> dict[str, ModuleType]:
    """Import every operation of the client."""
    found = {}
    for tag in pkgutil.iter_modules(api.__path__, f"{api.__name__}."):
        package = importlib.import_module(tag.name)
        for one in pkgutil.iter_modules(package.__path__, f"{tag.name}."):
            found[one.name.rpartition(".")[2]] = importlib.import_module(one.name)
    return found


class Calls:
    """Calls of one caller."""

    def __init__(self, url: str, token: str, modules: dict[str, ModuleType]) -> None:
        self._client = client_module.AuthenticatedClient(
            base_url=url, token=token, raise_on_unexpected_status=True
        )
        self._modules = modules

    def __call__(self, name: str, *arguments: Any, expected: type | None = None, **named: Any) -> Any:
        """Call an operation and return what the client made of the answer."""
        answer = self._modules[name].sync_detailed(*arguments, client=self._client, **named)
        parsed = answer.parsed
        is_refused = answer.status_code >= HTTPStatus.BAD_REQUEST
        assert is_refused == isinstance(parsed, models.ProblemDocument), (name, answer)
        if expected is not None:
            assert isinstance(parsed, expected), (name, answer)
        if hasattr(parsed, "to_dict"):
            sent = json.loads(answer.content)
            assert _comparable(parsed.to_dict()) == _comparable(sent), (name, parsed, sent)
        return parsed


def call_as_told(told: dict[str, Any], modules: dict[str, ModuleType]) -> dict[str, Any]:
    """Make one call of which ids, parameters and body are JSON; return how it was answered."""
    parameters = inspect.signature(modules[told["name"]].sync_detailed).parameters
    named = {
        name: _as_annotated(parameters[name].annotation, value) for name, value in told["arguments"].items()
    }
    calls = Calls(told["url"], told["token"], modules)
    try:
        parsed = calls(told["name"], **named)
    except Exception as fault:
        return {"fault": repr(fault)}
    return {"type": type(parsed).__name__, "problem": getattr(parsed, "detail", None)}


def manage_objects(calls: Calls) -> None:
    """Make, read, list, change and delete the main objects, with the client's own types."""
    m = models
    site = calls("sites_create_post", body=m.SiteBody(m.SiteFields(name="Lab"))).data
    assert isinstance(site.id, uuid.UUID)
    group = calls("groups_create_post", body=m.GroupBody(m.GroupFields(name="Staff"))).data
    actor = calls(
        "actors_create_post",
        body=m.NewActorBody(
            m.NewActorFields(name="Grace", type_=m.NewActorFieldsType.ACCOUNT_USER, email="grace@example.org")
        ),
    ).data
    assert actor.type_ is m.ActorViewType.ACCOUNT_USER
    resource = calls(
        "resources_create_post",
        body=m.NewResourceBody(
            m.NewResourceFields(
                name="printer",
                type_=m.NewResourceFieldsType.DNS,
                address="printer.lab.example",
                site_id=site.id,
                filters=[m.FilterFields(protocol=m.FilterFieldsProtocol.TCP, ports=["631"])],
            )
        ),
    ).data
    assert (resource.type_, resource.site_id) == (m.ResourceViewType.DNS, site.id)
    assert [(one.protocol, one.ports) for one in resource.filters] == [(m.FilterViewProtocol.TCP, ["631"])]
    policy = calls(
        "policies_create_post",
        body=m.NewPolicyBody(
            m.NewPolicyFields(group_id=group.id, resource_id=resource.id, description="print")
        ),
    ).data
    assert (policy.group_id, policy.resource_id) == (group.id, resource.id)
    assert [one.id for one in calls("policies_index_get", resource_id=resource.id).data] == [policy.id]
    assert calls("policies_index_get", resource_id=resource.id).metadata.count == 1
    assert calls("policies_index_get", group_id=group.id, resource_id=uuid.uuid4()).data == []

    for noun, made, change in (
        ("sites", site, m.SiteBody(m.SiteFields(name="Laboratory"))),
        ("groups", group, m.GroupBody(m.GroupFields(name="Employees"))),
        ("actors", actor, m.ActorBody(m.ActorFields(name="Grace H."))),
        ("resources", resource, m.ResourceBody(m.ResourceFields(name="plotter", filters=None))),
        ("policies", policy, m.PolicyBody(m.PolicyFields(description="plot"))),
    ):
        assert calls(f"{noun}_show_get", made.id).data == made
        assert made.id in [one.id for one in calls(f"{noun}_index_get").data]
        changed = calls(f"{noun}_update_patch", made.id, body=change).data
        assert changed != made
        assert calls(f"{noun}_show_get", made.id).data == changed
        assert (
            calls(f"{noun}_update_put", made.id, body=change, if_match='"another"').status
            == HTTPStatus.PRECONDITION_FAILED
        )
    (first,) = calls("sites_index_get", limit=1).data
    page = calls("sites_index_get", limit=1)
    assert page.metadata.next_page is not None
    (second,) = calls("sites_index_get", limit=1, page_cursor=page.metadata.next_page).data
    assert first.id != second.id
    newest = calls("logs_index_get", type_=m.LogsIndexGetType.CHANGE).data[0]
    assert isinstance(newest, m.ChangeEntry)
    assert newest.subject.actor_name == "robot"
    assert calls("logs_show_get", newest.log_id).data == newest
    assert newest.log_id in calls("logs_export_get", type_=m.LogsExportGetType.CHANGE)

    for noun, id_ in (
        ("policies", policy.id), ("resources", resource.id), ("actors", actor.id), ("groups", group.id),
        ("sites", site.id),
    ):  # fmt: skip
        calls(f"{noun}_delete_delete", id_)
        gone = calls(f"{noun}_show_get", id_)
        assert (gone.status, gone.title) == (HTTPStatus.NOT_FOUND, "Not Found")
    refused = calls("sites_create_post", body=m.SiteBody(m.SiteFields(name="")))
    assert refused.status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert list(refused.validation_errors.additional_properties) == ["name"]


def _as_annotated(annotation: Any, value: Any) -> Any:
    """Make the value that the client's signature asks for, of what JSON has."""
    wanted = [
        one
        for one in typing.get_args(annotation) or (annotation,)
        if one.__name__ not in ("Unset", "NoneType")
    ]
    (type_,) = wanted
    return type_.from_dict(value) if hasattr(type_, "from_dict") else type_(value)


def _comparable(value: Any) -> Any:
    """Write instants one way: the portal's end with `.000000Z`, the client's with `+00:00`."""
    match value:
        case dict():
            return {key: _comparable(inner) for key, inner in value.items()}
        case list():
            return [_comparable(inner) for inner in value]
        case str() if INSTANT.fullmatch(value):
            return datetime.fromisoformat(value).isoformat()
        case _:
            return value


if __name__ == "__main__":
    told = json.load(sys.stdin)
    modules = operations()
    manage_objects(Calls(told["url"], told["token"], modules))
    answers = {one["operation"]: call_as_told(one, modules) for one in told["calls"]}
    json.dump({"operations": sorted(modules), "answers": answers}, sys.stdout)
