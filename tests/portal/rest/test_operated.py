"""What the operator makes within an account: API clients with their tokens, sign-in providers; and what the
account makes: device pools.
"""

from typing import Any

import httpx2
import pytest

from support.browser import caller
from support.portal import World

HIDDEN = "s3cret-of-the-provider"


@pytest.fixture
def place(world: World) -> str:
    return f"/wardgate/accounts/{world.account_id}"


async def made(client: httpx2.AsyncClient, path: str, body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def test_an_api_client_is_made_given_a_token_that_works_and_deleted(
    operator: httpx2.AsyncClient, world: World, place: str
) -> None:
    client = await made(operator, f"{place}/api_clients", {"api_client": {"name": "terraform"}})
    path = f"{place}/api_clients/{client['id']}"
    fields = {"name": "ci", "expires_at": "2099-01-01T00:00:00Z"}
    answer = await operator.post(
        f"{path}/tokens", json={"api_token": fields}, headers={"idempotency-key": "once"}
    )
    token = answer.json()["data"]
    assert answer.headers["location"] == f"{path}/tokens/{token['id']}"
    again = await operator.post(
        f"{path}/tokens", json={"api_token": fields}, headers={"idempotency-key": "once"}
    )
    assert again.json()["data"] == token
    async with caller(world.portal, token["token"]) as own:
        assert (await own.get("/account")).status_code == 200
        for refused in (await own.get(f"{place}/api_clients"), await own.get(f"{path}/tokens")):
            assert refused.status_code == 401
    shown = (await operator.get(f"{path}/tokens/{token['id']}")).json()["data"]
    assert "token" not in shown
    assert shown["last_seen_at"] is not None
    renamed = await operator.patch(f"{path}/tokens/{token['id']}", json={"api_token": {"name": "cd"}})
    assert (renamed.json()["data"]["name"], renamed.json()["data"]["expires_at"]) == (
        "cd",
        shown["expires_at"],
    )
    await operator.patch(path, json={"api_client": {"is_disabled": True}})
    async with caller(world.portal, token["token"]) as own:
        assert (await own.get("/account")).status_code == 401
    assert (await operator.delete(f"{path}/tokens/{token['id']}")).status_code == 200
    assert (await operator.get(f"{path}/tokens")).json()["data"] == []
    assert (await operator.delete(path)).status_code == 200
    assert (await operator.get(path)).status_code == 404


async def test_people_are_no_api_clients_and_other_accounts_are_other_places(
    operator: httpx2.AsyncClient, world: World, foreign: World, place: str
) -> None:
    client = await made(operator, f"{place}/api_clients", {"api_client": {"name": "terraform"}})
    for path in (
        f"{place}/api_clients/{world.actor.id}",
        f"{place}/api_clients/{world.actor.id}/tokens",
        f"/wardgate/accounts/{foreign.account_id}/api_clients/{client['id']}",
        f"/wardgate/accounts/{client['id']}/api_clients",
    ):
        assert (await operator.get(path)).status_code == 404, path


async def test_api_clients_and_their_tokens_are_limited(
    operator: httpx2.AsyncClient, place: str, world: World
) -> None:
    limits = {"api_clients_count": 1, "api_tokens_per_client_count": 1}
    await operator.patch(place, json={"account": {"limits": limits}})
    client = await made(operator, f"{place}/api_clients", {"api_client": {"name": "one"}})
    second = await operator.post(f"{place}/api_clients", json={"api_client": {"name": "two"}})
    assert (second.status_code, second.json()["detail"]) == (403, "API clients limit reached")
    fields = {"api_token": {"name": "ci", "expires_at": "2099-01-01T00:00:00Z"}}
    path = f"{place}/api_clients/{client['id']}/tokens"
    await made(operator, path, fields)
    refused = await operator.post(path, json=fields)
    assert (refused.status_code, refused.json()["detail"]) == (403, "API tokens limit reached")
    asleep = {"api_client": {"name": "three", "is_disabled": True}}
    sleeping = await made(operator, f"{place}/api_clients", asleep)
    woken = await operator.patch(
        f"{place}/api_clients/{sleeping['id']}", json={"api_client": {"is_disabled": False}}
    )
    assert woken.status_code == 403


@pytest.mark.parametrize("expires_at", [None, "", "2001-01-01T00:00:00Z", "tomorrow", "2099-01-01T00:00:00"])
async def test_a_token_ends_in_the_future(
    operator: httpx2.AsyncClient, place: str, expires_at: str | None
) -> None:
    client = await made(operator, f"{place}/api_clients", {"api_client": {"name": "terraform"}})
    path = f"{place}/api_clients/{client['id']}/tokens"
    refused = await operator.post(path, json={"api_token": {"name": "ci", "expires_at": expires_at}})
    assert (refused.status_code, set(refused.json()["validation_errors"])) == (422, {"expires_at"})


async def test_a_provider_is_made_without_telling_its_secret_and_is_read_by_the_account(
    operator: httpx2.AsyncClient, api: httpx2.AsyncClient, place: str
) -> None:
    fields = {
        "name": "Keycloak",
        "client_id": "wardgate",
        "client_secret": HIDDEN,
        "discovery_document_uri": "https://sso.example.org/realms/acme/.well-known/openid-configuration",
    }
    path = f"{place}/oidc_auth_providers"
    answer = await operator.post(path, json={"oidc_auth_provider": fields})
    provider = answer.json()["data"]
    assert (answer.status_code, HIDDEN in answer.text) == (201, False)
    assert (provider["issuer"], provider["is_disabled"]) == ("https://sso.example.org/realms/acme", True)
    public = (await api.get(f"/oidc_auth_providers/{provider['id']}")).json()["data"]
    assert provider == {**public, "is_verified": False, "fills_groups": False}
    log = await api.get("/logs", params={"type": "change"})
    assert "oidc_auth_providers" in log.text
    assert HIDDEN not in log.text
    changed = await operator.patch(
        f"{path}/{provider['id']}", json={"oidc_auth_provider": {"client_session_lifetime_secs": 3600}}
    )
    assert changed.json()["data"]["client_session_lifetime_secs"] == 3600
    for refused in (
        await api.post("/oidc_auth_providers", json={"oidc_auth_provider": fields}),
        await api.post(path, json={"oidc_auth_provider": fields}),
    ):
        assert refused.status_code in (401, 405)
    assert (await operator.delete(f"{path}/{provider['id']}")).status_code == 200
    assert (await api.get("/oidc_auth_providers")).json()["data"] == []


@pytest.mark.parametrize("verb", ["POST", "PATCH"])
async def test_no_provider_can_be_enabled_without_a_trial(
    operator: httpx2.AsyncClient, place: str, verb: str
) -> None:
    path = f"{place}/google_auth_providers"
    client = {"client_id": "a", "client_secret": "s"}
    if verb == "PATCH":
        provider = await made(operator, path, {"google_auth_provider": {"name": "Google", **client}})
        path = f"{path}/{provider['id']}"
    body = {"google_auth_provider": {"name": "Google", **client, "is_disabled": False}}
    refused = await operator.request(verb, path, json=body)
    assert refused.status_code == 422
    assert "trial sign-in" in refused.json()["validation_errors"]["is_disabled"][0]


@pytest.mark.parametrize(
    "uri",
    [
        "http://sso.example.org/x",
        "https://127.0.0.1/x",
        "https://10.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://169.254.169.254/x",
        "https://localhost/x",
        "https://a.localhost/x",
        "https://user@sso.example.org/x",
        "https://sso.example.org:99999/x",
        "https://2130706433/x",
        "https:///x",
        "sso.example.org",
        "https://sso.example.org/\u202ex",
    ],
)
async def test_a_discovery_document_is_at_an_https_address_of_a_public_host(
    operator: httpx2.AsyncClient, place: str, uri: str
) -> None:
    fields = {"name": "x", "client_id": "x", "client_secret": "x", "discovery_document_uri": uri}
    refused = await operator.post(
        f"{place}/oidc_auth_providers", json={"oidc_auth_provider": {**fields, "issuer": "https://a.example"}}
    )
    assert (refused.status_code, set(refused.json()["validation_errors"])) == (
        422,
        {"discovery_document_uri"},
    )


async def test_what_is_unique_of_a_provider_is_told(operator: httpx2.AsyncClient, place: str) -> None:
    okta = {"name": "Okta", "okta_domain": "Acme.okta.com", "client_id": "a", "client_secret": "s"}
    first = await made(operator, f"{place}/okta_auth_providers", {"okta_auth_provider": okta})
    assert (first["okta_domain"], first["issuer"]) == ("acme.okta.com", "https://acme.okta.com")
    for changes, field in (({"name": "other"}, "client_id"), ({"client_id": "other"}, "name")):
        refused = await operator.post(
            f"{place}/okta_auth_providers", json={"okta_auth_provider": {**okta, **changes}}
        )
        assert refused.json()["validation_errors"] == {field: ["has already been taken"]}
    google = {"google_auth_provider": {"name": "Google", "client_id": "a", "client_secret": "s"}}
    await made(operator, f"{place}/google_auth_providers", google)
    assert (await operator.post(f"{place}/google_auth_providers", json=google)).status_code == 422
    wrong = {"okta_auth_provider": {**okta, "okta_domain": "https://x"}}
    assert (await operator.post(f"{place}/okta_auth_providers", json=wrong)).status_code == 422


async def test_device_pools_are_made_changed_and_deleted(api: httpx2.AsyncClient, world: World) -> None:
    static = await made(
        api, "/wardgate/device_pools", {"device_pool": {"name": "laptops", "type": "static_device_pool"}}
    )
    assert (static["address"], "site_id" in static) == (None, False)
    assert (await api.get(f"/resources/{static['id']}")).json()["data"] == static
    members = await api.put(f"/resources/{static['id']}/pool_members", json={"pool_members": []})
    assert members.status_code == 200
    fields = {"name": "lab", "type": "dynamic_device_pool", "address": "*.lab.example"}
    dynamic = await made(api, "/wardgate/device_pools", {"device_pool": fields})
    path = f"/wardgate/device_pools/{dynamic['id']}"
    filters = [{"protocol": "tcp", "ports": ["22"]}]
    changed = await api.patch(path, json={"device_pool": {"filters": filters, "address": "?.lab.example"}})
    assert (changed.json()["data"]["address"], changed.json()["data"]["filters"]) == (
        "?.lab.example",
        filters,
    )
    listed = (await api.get("/wardgate/device_pools")).json()["data"]
    assert [one["name"] for one in listed] == ["laptops", "lab"]
    assert (await api.delete(path)).status_code == 200
    assert (await api.get(path)).status_code == 404
    assert (await api.get(f"/wardgate/device_pools/{world.resource.id}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"type": "static_device_pool"}, "name"),
        ({"name": "x"}, "type"),
        ({"name": "x", "type": "dns"}, "type"),
        ({"name": "x", "type": "dynamic_device_pool"}, "address"),
        ({"name": "x", "type": "dynamic_device_pool", "address": "10.0.0.1"}, "address"),
        ({"name": "x", "type": "static_device_pool", "address": "a.example.com"}, "address"),
        ({"name": "x", "type": "static_device_pool", "members": ["y"]}, "members"),
    ],
)
async def test_a_wrong_device_pool_is_told_by_field(
    api: httpx2.AsyncClient, fields: dict[str, Any], wrong: str
) -> None:
    refused = await api.post("/wardgate/device_pools", json={"device_pool": fields})
    assert (refused.status_code, set(refused.json()["validation_errors"])) == (422, {wrong})
