"""Every noun and verb against a real portal."""

from dataclasses import replace

import pytest

from support.portal import World
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.people.tables import ExternalIdentity

from .conftest import Admin

pytestmark = pytest.mark.one_database  # the database stands behind REST, whose tests run on both

NOWHERE = "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"


async def test_the_account_and_its_settings(admin: Admin, world: World) -> None:
    assert (await admin("account", "show", "--json")).json()["slug"] == "acme"
    changed = await admin(
        "account-settings", "update", "--search-domain", "corp.example", "--dns-type", "custom",
        "--dns-server", "9.9.9.9", "--dns-server", "2620:fe::fe", "--json",
    )  # fmt: skip
    assert changed.json()["search_domain"] == "corp.example"
    assert changed.json()["clients_upstream_dns"] == {
        "type": "custom",
        "doh_provider": "google",
        "addresses": [{"address": "9.9.9.9"}, {"address": "2620:fe::fe"}],
    }
    cleared = (await admin("account-settings", "update", "--search-domain", "", "--json")).json()
    assert cleared["search_domain"] is None
    assert (await admin("account-settings", "show", "--json")).json() == cleared


async def test_the_life_of_an_actor(admin: Admin) -> None:
    made = (
        await admin(
            "actors", "create", "--name", "Grace", "--type", "account_user", "--email", "grace@example.org",
            "--allow-email-otp-sign-in", "--json",
        )
    ).json()  # fmt: skip
    assert made["allow_email_otp_sign_in"] is True
    assert (await admin("actors", "show", "grace@example.org", "--json")).json() == made
    assert [
        one["id"] for one in (await admin("actors", "list", "--email", "grace@example.org", "--json")).json()
    ] == [made["id"]]
    update = ("actors", "update", "Grace", "--disabled", "--no-allow-email-otp-sign-in", "--json")
    refused = await admin(*update)
    assert (refused.code, refused.out) == (5, "")
    assert "is the only way in which this person can sign in" in refused.error
    assert (await admin("actors", "show", "Grace", "--json")).json() == made
    secret = "correct horse battery"  # another way
    assert (await admin("actors", "set-password", "Grace", "--secret", secret)).code == 0
    changed = (await admin(*update)).json()
    assert (changed["is_disabled"], changed["allow_email_otp_sign_in"]) == (True, False)
    assert (await admin("actors", "delete", "Grace", "--yes")).code == 0
    assert (await admin("actors", "show", made["id"])).code == 3


async def test_client_tokens_for_people_too(admin: Admin, world: World) -> None:
    made = await admin("client-tokens", "create", "--actor", "Ada", "--expires-at", "3650d", "--json")
    token = made.json()
    assert token["token"].startswith(".")
    assert token["expires_at"] == "2036-11-19T12:00:00.000000Z"
    assert "this once only" in made.notes
    listed = (await admin("client-tokens", "list", "--actor", "Ada", "--json")).json()
    assert token["id"] in [one["id"] for one in listed]
    assert all("token" not in one for one in listed)
    shown = await admin("client-tokens", "show", token["id"], "--actor", "Ada", "--json")
    assert shown.json()["expires_at"] == token["expires_at"]
    assert "once" not in shown.notes
    assert (await admin("client-tokens", "delete", token["id"], "--actor", "Ada", "--yes")).code == 0
    gone = await admin("client-tokens", "delete-all", "--actor", "Ada", "--yes", "--json")
    assert gone.json() == {"deleted_count": 1}


async def test_clients_are_verified_renamed_and_deleted(admin: Admin, world: World) -> None:
    async with world.client() as client:
        await client.join()
        assert [one["online"] for one in (await admin("clients", "list", "--json")).json()] == [True]
    assert (await admin("clients", "update", "client", "--name", "laptop")).code == 0
    assert (await admin("clients", "verify", "laptop", "--json")).json()["verified_at"] is not None
    assert (await admin("clients", "unverify", "laptop", "--json")).json()["verified_at"] is None
    found = (await admin("clients", "list", "--device-id", "client-1", "--json")).json()
    assert [one["name"] for one in found] == ["laptop"]
    assert (await admin("clients", "show", found[0]["id"])).code == 0
    assert (await admin("clients", "delete", "laptop", "--yes")).code == 0
    assert (await admin("clients", "list", "--json")).json() == []


async def test_groups_and_their_members(admin: Admin, world: World) -> None:
    assert (await admin("groups", "create", "--name", "Ops")).code == 0
    assert (await admin("groups", "update", "Ops", "--name", "SRE")).code == 0
    assert (await admin("groups", "show", "SRE", "--json")).json()["entity_type"] == "group"
    added = (await admin("members", "add", "--group", "SRE", "Ada", "admin@acme.example", "--json")).json()
    assert str(world.actor.id) in added["actor_ids"]
    assert len(added["actor_ids"]) == 2
    assert len((await admin("members", "list", "--group", "SRE", "--json")).json()) == 2
    removed = (await admin("members", "remove", "--group", "SRE", "Ada", "--json")).json()
    assert len(removed["actor_ids"]) == 1
    replaced = (await admin("members", "replace", "--group", "SRE", "Ada", "--yes", "--json")).json()
    assert replaced == {"actor_ids": [str(world.actor.id)]}
    emptied = (await admin("members", "replace", "--group", "SRE", "--yes", "--json")).json()
    assert emptied == {"actor_ids": []}
    assert (await admin("groups", "delete", "SRE", "--yes")).code == 0
    native = (await admin("groups", "list", "--directory", "", "--json")).json()
    assert [one["name"] for one in native] == ["Engineering"]


async def test_sites_gateways_and_their_tokens(admin: Admin) -> None:
    assert (await admin("sites", "create", "--name", "Paris")).code == 0
    assert (await admin("sites", "update", "Paris", "--name", "Lyon")).code == 0
    assert (await admin("sites", "show", "Lyon")).code == 0
    made = await admin("gateways", "create", "--site", "Lyon", "--name", "gw", "--json")
    assert made.json()["token"].startswith(".")
    assert "this once only" in made.notes
    assert (await admin("gateways", "show", "gw", "--site", "Lyon", "--json")).json()["online"] is False
    by_address = await admin("gateways", "list", "--site", "Lyon", "--ipv4", made.json()["ipv4"], "--json")
    assert [one["name"] for one in by_address.json()] == ["gw"]
    assert (await admin("gateways", "update", "gw", "--site", "Lyon", "--name", "gw-1")).code == 0
    second = await admin("gateway-tokens", "create", "--site", "Lyon", "--gateway", "gw-1")
    assert second.code == 5
    assert "already exists" in second.error
    rotated = await admin("gateway-tokens", "rotate", "--site", "Lyon", "--gateway", "gw-1", "--json")
    assert rotated.json()["token"] != made.json()["token"]
    assert (
        await admin("gateway-tokens", "delete", rotated.json()["id"], "--site", "Lyon", "--yes")
    ).code == 0
    assert (await admin("gateway-tokens", "create", "--site", "Lyon", "--gateway", "gw-1")).code == 0
    assert (await admin("gateway-tokens", "create-for-site", "--site", "Lyon", "--json")).json()["token"]
    gone = await admin("gateway-tokens", "delete-all", "--site", "Lyon", "--yes", "--json")
    assert gone.json() == {"deleted_count": 1}
    assert (await admin("gateways", "delete", "gw-1", "--site", "Lyon", "--yes")).code == 0
    assert (await admin("sites", "delete", "Lyon", "--yes")).code == 0
    assert "Lyon" not in (await admin("sites", "list")).out


async def test_resources_with_filters(admin: Admin, world: World) -> None:
    made = await admin(
        "resources", "create", "--name", "web", "--type", "dns", "--address", "web.corp.example",
        "--site", "Berlin", "--ip-stack", "ipv4_only", "--filter", "tcp:443,8000-9000", "--filter", "icmp",
        "--json",
    )  # fmt: skip
    assert made.json()["filters"] == [
        {"protocol": "tcp", "ports": ["443", "8000 - 9000"]},
        {"protocol": "icmp", "ports": []},
    ]
    assert made.json()["site_id"] == str(world.site.id)
    shown = await admin("resources", "show", "web")
    assert "tcp:443,8000-9000; icmp" in shown.out
    kept = await admin("resources", "update", "web", "--address-description", "the shop", "--json")
    assert len(kept.json()["filters"]) == 2
    cleared = await admin("resources", "update", "web", "--filter", "", "--address-description", "", "--json")
    assert (cleared.json()["filters"], cleared.json()["address_description"]) == ([], None)
    dns = await admin("resources", "list", "--type", "dns", "--site", "Berlin", "--json")
    assert [one["name"] for one in dns.json()] == ["web"]
    assert (await admin("resources", "delete", "web", "--yes")).code == 0


async def test_policies_with_conditions(admin: Admin, world: World) -> None:
    assert (await admin("groups", "create", "--name", "Ops")).code == 0
    made = (
        await admin(
            "policies", "create", "--group", "Ops", "--resource", "net", "--description", "nights",
            "--condition", "remote_ip is_in_cidr 203.0.113.0/24 2001:db8::/32",
            "--condition", "current_utc_datetime is_in_day_of_week_time_ranges M/20:00-23:00/Europe/Berlin",
            "--no-flow-log-uploads", "--json",
        )
    ).json()  # fmt: skip
    assert [one["property"] for one in made["conditions"]] == ["remote_ip", "current_utc_datetime"]
    assert made["conditions"][0]["values"] == ["203.0.113.0/24", "2001:db8::/32"]
    assert made["flow_log_uploads_enabled"] is False
    listed = await admin("policies", "list", "--group", "Ops", "--resource", "net")
    assert "remote_ip is_in_cidr 203.0.113.0/24" in listed.out
    changed = (
        await admin("policies", "update", made["id"], "--disabled", "--condition", "", "--json")
    ).json()
    assert (changed["is_disabled"], changed["conditions"]) == (True, [])
    assert (await admin("policies", "show", made["id"])).code == 0
    assert (await admin("policies", "delete", made["id"], "--yes")).code == 0


async def test_the_clients_of_a_device_pool(admin: Admin, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).resources.insert(
            replace(
                world.resource, id=transaction.new_id(), type="static_device_pool", name="pool",
                address=None, site_id=None,
            )
        )  # fmt: skip
    async with world.client() as client:
        await client.join()
    added = (await admin("pool-members", "add", "--resource", "pool", "client", "--json")).json()
    assert len(added["device_ids"]) == 1
    listed = (await admin("pool-members", "list", "--resource", "pool", "--json")).json()
    assert [one["name"] for one in listed] == ["client"]
    removed = await admin("pool-members", "remove", "--resource", "pool", "client", "--json")
    assert removed.json() == {"device_ids": []}
    replaced = await admin("pool-members", "replace", "--resource", "pool", "client", "--yes", "--json")
    assert replaced.json() == added
    other = await admin("pool-members", "list", "--resource", "net")
    assert (other.code, "has no pool members" in other.error) == (5, True)


async def test_how_people_sign_in_is_shown_and_an_identity_deleted(admin: Admin, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        identity = await transaction.of(world.account_id).external_identities.insert(
            ExternalIdentity(
                id=transaction.new_id(),
                account_id=world.account_id,
                actor_id=world.actor.id,
                issuer="https://idp.example.org",
                idp_id="user:42",
            )
        )
    of_ada, id_ = ("--actor", "Ada"), str(identity.id)
    (listed,) = (await admin("external-identities", "list", *of_ada, "--json")).json()
    assert listed == (await admin("external-identities", "show", *of_ada, id_, "--json")).json()
    assert (await admin("external-identities", "delete", *of_ada, id_, "--yes")).code == 0
    assert (await admin("external-identities", "list", *of_ada, "--json")).json() == []
    (provider,) = (await admin("email-otp-providers", "list", "--json")).json()
    assert (await admin("email-otp-providers", "show", provider["name"], "--json")).json() == provider
    for kind in ("google", "entra", "okta", "oidc"):
        assert (await admin(f"{kind}-providers", "list", "--json")).json() == []


async def test_the_operator_makes_changes_and_ends_accounts(admin: Admin) -> None:
    made = await admin(
        "accounts", "create", "--name", "Globex", "--slug", "globex", "--admin-email", "hank@globex.example",
        "--limit-sites", "3", "--no-internet-resource", "--json",
    )  # fmt: skip
    account = made.json()
    assert (account["limits"]["sites_count"], account["features"]["internet_resource"]) == (3, False)
    assert "shown this once" in made.notes
    changed = await admin("accounts", "update", "globex", "--limit-sites", "", "--locked", "--json")
    assert changed.json()["limits"]["sites_count"] is None
    assert changed.json()["lock_enabled_at"] is not None
    assert (await admin("accounts", "update", "globex", "--limit-sites", "many")).code == 2
    await admin("accounts", "update", "globex", "--no-locked")
    ending = ("accounts", "schedule-deletion", "globex", "--slug")
    assert (await admin(*ending, "acme")).code == 5
    assert (await admin(*ending, "globex", "--json")).json()["scheduled_deletion_at"] is not None
    kept = await admin("accounts", "cancel-deletion", "globex", "--json")
    assert (kept.json()["scheduled_deletion_at"], kept.json()["is_disabled"]) == (None, False)
    assert {one["slug"] for one in (await admin("accounts", "list", "--json")).json()} == {"acme", "globex"}


async def test_an_account_asks_for_its_own_end(admin: Admin) -> None:
    asked = await admin("account-settings", "schedule-deletion", "--slug", "acme", "--json")
    assert asked.json()["scheduled_deletion_at"] is not None
    assert (await admin("account", "show")).code == 4


async def test_banners_come_and_go(admin: Admin) -> None:
    banner = (await admin("banners", "create", "--message", "Maintenance at 22:00", "--json")).json()
    assert banner["color"] == "warning"
    assert (await admin("banners", "show", banner["id"], "--json")).json() == banner
    assert (await admin("banners", "delete", banner["id"], "--yes")).code == 0
    assert (await admin("banners", "list", "--json")).json() == []


async def test_jobs_are_the_operators(admin: Admin, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        await JobQueue(transaction).enqueue("nonsense", {})
    jobs = (await admin("jobs", "list", "--json")).json()
    assert "nonsense" in [one["kind"] for one in jobs]
    assert "KIND" in (await admin("jobs", "list", "--state", jobs[0]["state"])).out


async def test_logs_are_listed_shown_and_exported(admin: Admin) -> None:
    assert (await admin("groups", "create", "--name", "Logged")).code == 0
    changes = (
        await admin("logs", "list", "--type", "change", "--begin", "2000-01-01T00:00:00Z",
                    "--end", "2100-01-01T00:00:00Z", "--contains", "Logged", "--json")
    ).json()  # fmt: skip
    assert [one["operation"] for one in changes] == ["insert"]
    assert (await admin("logs", "show", changes[0]["log_id"], "--json")).json() == changes[0]
    table = await admin(
        "logs", "list", "--type", "api_request", "--end", "2100-01-01T00:00:00Z", "--limit", "1"
    )
    assert "METHOD" in table.out
    assert "OPERATION" not in table.out
    exported = await admin("logs", "export", "--type", "api_request", "--end", "2100-01-01T00:00:00Z")
    assert all(line.startswith('{"type":"api_request"') for line in exported.out.splitlines())
    assert len(exported.out.splitlines()) >= 4


async def test_decisions_are_listed_and_shown(admin: Admin, world: World) -> None:
    async with world.client() as client:
        await client.join()
        client.send(
            "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        )
        await client.receive_until("authorization_creation_failed")
    await world.portal.journal.flush()
    found = (await admin("decisions", "list", "--resource", "net", "--begin", "3650d", "--json")).json()
    assert [one["actor_name"] for one in found] == ["Ada"]
    assert (await admin("decisions", "show", found[0]["log_id"], "--json")).json() == found[0]
    table = (await admin("decisions", "list", "--actor", "Ada", "--client", "client")).out
    assert "OUTCOME" in table
    assert (
        await admin("decisions", "list", "--resource", "net", "--outcome", "granted", "--json")
    ).json() in (
        [],
        found,
    )


async def test_relay_tokens_relays_and_health_are_the_operators(admin: Admin, world: World) -> None:
    made = (await admin("relay-tokens", "create", "--name", "frankfurt", "--json")).json()
    rotated = (await admin("relay-tokens", "rotate", "frankfurt", "--json")).json()
    assert rotated["token"] != made["token"]
    assert (await admin("relay-tokens", "show", "frankfurt", "--json")).json()["id"] == rotated["id"]
    assert "frankfurt" in (await admin("relay-tokens", "list")).out
    assert (await admin("relay-tokens", "delete", "frankfurt", "--yes")).code == 0
    async with world.relay() as relay:
        await relay.join({"stamp_secret": "ab" * 32})
        assert [one["port"] for one in (await admin("relays", "list", "--json")).json()] == [3478]
        assert (await admin("health", "show", "--json")).json()["relays_online"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("actors", "show", NOWHERE),
        ("actors", "show", "Nobody"),
        ("gateways", "list", "--site", "Atlantis"),
        ("policies", "create", "--group", "Engineering", "--resource", NOWHERE),
        ("members", "add", "--group", "Nobody", "Ada"),
        ("logs", "show", "c" + "0" * 23),
        ("relay-tokens", "rotate", NOWHERE),
    ],
)
async def test_what_does_not_exist_ends_with_3(admin: Admin, arguments: tuple[str, ...]) -> None:
    ran = await admin(*arguments)
    assert ran.code == 3, ran
    assert ran.out == ""
    assert "\n" not in ran.error
