"""What all nouns share: names in place of ids, output, pages, waiting, confirmation, refusals, where the
token comes from."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
import yaml

import wardgate
from support.portal import World
from wardgate.cli.main import main
from wardgate.portal.database import log_reading
from wardgate.wire.user_agent import CLIENT_SPEAKS, GATEWAY_SPEAKS

from .conftest import Admin, Waits, runner

pytestmark = pytest.mark.one_database  # the database stands behind REST, whose tests run on both

Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, waits: Waits) -> Callable[[Handler], Admin]:
    """A portal of which a test writes the answers."""
    monkeypatch.setenv("WARDGATE_URL", "http://portal.example/")
    monkeypatch.setenv("WARDGATE_TOKEN", ".secret")
    return lambda handler: runner(httpx2.MockTransport(handler), waits)


def listing(*names: str) -> httpx2.Response:
    return httpx2.Response(200, json={"data": [{"id": name, "name": name} for name in names]})


def problem(status: int, detail: str, **more: object) -> httpx2.Response:
    return httpx2.Response(
        status,
        content=json.dumps({"title": "x", "status": status, "detail": detail, **more}),
        headers={"content-type": "application/problem+json"},
    )


# ── Names
# ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_name_that_two_have_is_refused_with_their_ids(admin: Admin) -> None:
    ids = [
        (await admin("actors", "create", "--name", "Twin", "--type", "service_account", "--json")).json()[
            "id"
        ]
        for _ in range(2)
    ]
    ran = await admin("actors", "show", "Twin")
    assert ran.code == 2
    assert all(id_ in ran.error for id_ in ids)
    assert (await admin("actors", "show", ids[0])).code == 0


async def test_what_has_no_name_is_only_found_by_id(admin: Admin) -> None:
    ran = await admin("policies", "show", "nights")
    assert (ran.code, ran.error) == (2, "'nights' is not the id of a policy")


async def test_a_name_with_signs_of_the_path_stays_a_name(admin: Admin) -> None:
    for name in ("../actors", "a/b?c=d&e", "100 %", "' OR 1=1 --"):
        assert (await admin("groups", "create", "--name", name)).code == 0
        assert (await admin("groups", "show", name, "--json")).json()["name"] == name


# ── Output
# ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_table_is_aligned_and_undecorated_where_nobody_looks(admin: Admin, world: World) -> None:
    lines = (await admin("resources", "list")).out.splitlines()
    name = lines[0].index("NAME")
    assert lines[0].split() == ["ID", "NAME", "TYPE", "ADDRESS", "SITE", "FILTERS"]
    row = next(line for line in lines if line.startswith(str(world.resource.id)))
    assert row[name:].split() == ["net", "cidr", "10.20.0.0/16", "Berlin", "-"]


async def test_a_table_names_what_programs_get_the_ids_of(admin: Admin, world: World) -> None:
    (_, row) = (await admin("policies", "list")).out.splitlines()
    assert row.split()[:3] == [str(world.policy.id), "Engineering", "net"]
    (policy,) = (await admin("policies", "list", "--json")).json()
    assert (policy["group_id"], policy["resource_id"]) == (str(world.group.id), str(world.resource.id))


async def test_tables_say_what_a_device_speaks_and_programs_get_what_it_announced(
    admin: Admin, world: World
) -> None:
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await world.portal.journal.flush()
        for noun, spoken in (
            (("clients", "list"), f"speaks {CLIENT_SPEAKS}"),
            (("gateways", "list", "--site", "Berlin"), f"speaks {GATEWAY_SPEAKS}"),
        ):
            shown = await admin(*noun)
            assert f"{spoken} (Wardgate {wardgate.__version__})" in shown.out
            (device,) = (await admin(*noun, "--json")).json()
            assert device["last_seen_version"] == spoken.removeprefix("speaks ")


async def test_of_nothing_there_is_no_table_but_a_word(admin: Admin) -> None:
    nothing = await admin("clients", "list")
    assert (nothing.code, nothing.out, nothing.notes) == (0, "", "wardgate: no clients\n")
    assert (await admin("clients", "list", "--json")).json() == []


async def test_a_table_on_a_terminal_fits_its_width(admin: Admin, world: World) -> None:
    out = (await admin("resources", "list", columns=80)).out
    assert "10.20.0.0/16" in out.replace("\n", "") or "10.20" in out
    assert max(map(len, out.splitlines())) <= 80


async def test_json_and_yaml_say_the_same(admin: Admin) -> None:
    as_json = await admin("actors", "list", "--json")
    as_yaml = await admin("actors", "list", "--output", "yaml")
    assert yaml.safe_load(as_yaml.out) == as_json.json()
    one = await admin("actors", "show", "Ada", "--output", "yaml")
    assert yaml.safe_load(one.out) == (await admin("actors", "show", "Ada", "--output", "json")).json()


async def test_no_name_commands_the_terminal(answering: Callable[[Handler], Admin]) -> None:
    hostile = "\x1b]0;owned\x07\nroot  yes"
    admin = answering(lambda _request: listing(hostile))
    for ran in (await admin("sites", "list"), await admin("sites", "list", columns=100)):
        assert "\x1b" not in ran.out
        assert "\\x1b]0;owned\\x07" in ran.out.replace("\n", "").replace(" ", "")
    refusing = answering(lambda _request: problem(422, hostile))
    ran = await refusing("sites", "list")
    assert ran.error == "\\x1b]0;owned\\x07\\nroot  yes (422)"


# ── Pages
# ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_all_pages_are_followed(admin: Admin, world: World) -> None:
    services = world.portal.services
    async with services.store.writing() as transaction:
        groups = transaction.of(world.account_id).groups
        for number in range(230):
            await groups.insert(
                type(world.group)(
                    id=transaction.new_id(), account_id=world.account_id, name=f"group {number}"
                )
            )
    assert len((await admin("groups", "list", "--json")).json()) == 231
    some = await admin("groups", "list", "--limit", "120", "--json")
    assert len(some.json()) == 120
    assert some.notes == "wardgate: 120 of 231 shown\n"
    assert len((await admin("groups", "list", "--limit", "1", "--json")).json()) == 1


# ── Waiting
# ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_that_is_put_off_is_repeated_when_the_portal_says(
    answering: Callable[[Handler], Admin], waits: Waits
) -> None:
    answers = iter(
        [
            httpx2.Response(429, headers={"retry-after": "7"}),
            httpx2.Response(503),
            httpx2.Response(201, json={"data": {"id": "1"}}),
        ]
    )
    keys: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        return next(answers)

    ran = await answering(handle)("sites", "create", "--name", "Rome", "--json")
    assert ran.json() == {"id": "1"}
    assert waits.seconds == [7, 2]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert "trying again in 7 s (2 of 6)" in ran.notes


async def test_waiting_has_an_end(answering: Callable[[Handler], Admin], waits: Waits) -> None:
    ran = await answering(lambda _request: httpx2.Response(503))("sites", "list")
    assert (ran.code, waits.seconds) == (1, [1, 2, 4, 8, 16])
    late = await answering(lambda _request: httpx2.Response(429, headers={"retry-after": "86400"}))(
        "logs", "export", "--type", "flow"
    )
    assert late.code == 1
    assert len(waits.seconds) == 5


# ── Confirmation
# ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_deleting_asks_whoever_sits_there(admin: Admin) -> None:
    declined = await admin("sites", "delete", "Berlin", stdin="\n")
    assert (declined.code, declined.error) == (2, "not confirmed; nothing was done")
    assert "Really (site Berlin)? [y/N]" in declined.notes
    assert "Berlin" in (await admin("sites", "list")).out
    assert (await admin("sites", "delete", "Berlin", stdin="y\n")).code == 0
    assert "Berlin" not in (await admin("sites", "list")).out


async def test_deleting_is_refused_where_nobody_can_be_asked(admin: Admin) -> None:
    for arguments in (
        ("sites", "delete", "Berlin"),
        ("client-tokens", "delete-all", "--actor", "Ada"),
        ("members", "replace", "--group", "Engineering"),
    ):
        ran = await admin(*arguments)
        assert ran.code == 2
        assert "--yes" in ran.error
    assert len((await admin("members", "list", "--group", "Engineering", "--json")).json()) == 1


# ── Versions
# ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_change_is_made_to_the_version_that_was_read_or_not_at_all(admin: Admin) -> None:
    tag = (await admin("sites", "show", "Berlin", "--etag")).out.strip()
    renamed = await admin("sites", "update", "Berlin", "--name", "Bern", "--if-match", tag)
    assert renamed.code == 0
    late = await admin("sites", "delete", "Bern", "--if-match", tag, "--yes")
    assert (late.code, late.error) == (
        5,
        "The object has changed since the version that If-Match names (412)",
    )


async def test_members_are_changed_in_the_version_that_was_listed(admin: Admin) -> None:
    group = ("--group", "Engineering")
    tag = (await admin("members", "list", *group, "--etag")).out.strip()
    assert (await admin("members", "remove", *group, "Ada", "--if-match", tag)).code == 0
    assert (await admin("members", "add", *group, "Ada", "--if-match", tag)).code == 5
    assert (await admin("members", "add", *group, "Ada", "--if-match", "über")).code == 1


# ── Refusals
# ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "there is no command 'nonsense' (`wardgate admin --help`)"),
        (("resource", "list"), "there is no command 'resource'; did you mean 'resources'?"),
        (
            ("sites", "list", "--nam", "x"),
            "there is no option '--nam'; did you mean '--name'? (`wardgate admin sites list --help`)",
        ),
        (("sites",), "sites needs a command: list, show, create"),
        (("sites", "dance"), "dance"),
        (("sites", "create"), "--name"),
        (("sites", "show"), "SITE"),
        (("sites", "list", "--limit", "0"), "--limit"),
        (("sites", "list", "--output", "xml"), "--output"),
        (("gateways", "list"), "--site"),
        (("actors", "create", "--name", "x", "--type", "robot"), "--type"),
        (("resources", "update", "net"), "nothing to change"),
        (("members", "add", "--group", "Engineering"), "ACTOR"),
        (("policies", "update", "x", "--condition", "remote_ip"), "PROPERTY OPERATOR VALUE"),
        (("policies", "update", "x", "--condition", "'open"), "--condition"),
        (("client-tokens", "create", "--actor", "Ada", "--expires-at", "soon"), "--expires-at"),
        (("client-tokens", "create", "--actor", "Ada", "--expires-at", "2030-01-01"), "time zone"),
        (("client-tokens", "create", "--actor", "Ada", "--expires-at", "9" * 30 + "d"), "--expires-at"),
        (("logs", "list"), "--type"),
    ],
)
async def test_wrong_usage_ends_with_2_and_one_line_before_anything_is_asked(
    answering: Callable[[Handler], Admin], arguments: tuple[str, ...], said: str
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError(request.url)

    ran = await answering(refuse)(*arguments)
    assert ran.code == 2, ran
    assert said in ran.error
    assert "\n" not in ran.error
    assert ran.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sites", "create", "--name", "Berlin"), "name: has already been taken (422)"),
        (
            ("policies", "create", "--group", "Engineering", "--resource", "net"),
            "Policy for the selected Group and Resource already exists (422)",
        ),
        (("sites", "create", "--name", "x" * 65), "name: "),
        (("groups", "update", "Engineering", "--name", " "), "name: can't be blank"),
        (("resources", "update", "net", "--address", "127.0.0.1/8"), "address: cannot contain loopback"),
        (("resources", "update", "net", "--filter", "icmp", "--filter", "tcp:99999"), "filters[1].ports: "),
        (("policies", "list", "--group", ""), "(400)"),
        (("actors", "update", "Ada", "--email", "nowhere"), "email: is an invalid email address"),
        (("client-tokens", "create", "--actor", "Ada", "--expires-at", "2001-01-01T00:00:00Z"), "expires_at"),
        (("account-settings", "update", "--dns-type", "custom", "--dns-server", "host"), "addresses"),
    ],
)
async def test_values_that_the_portal_refuses_end_with_5(
    admin: Admin, arguments: tuple[str, ...], said: str
) -> None:
    ran = await admin(*arguments)
    assert ran.code == 5, ran
    assert said in ran.error
    assert "\n" not in ran.error


async def test_rules_and_wrong_tokens_end_with_4(
    admin: Admin, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden = await admin("sites", "delete", "Internet", "--yes")
    assert (forbidden.code, forbidden.error) == (4, "System managed Site cannot be modified (403)")
    monkeypatch.setenv("WARDGATE_TOKEN", world.operator_token)
    assert (await admin("sites", "list")).code == 4
    monkeypatch.setenv("WARDGATE_OPERATOR_TOKEN", world.client_token)
    assert (await admin("relays", "list")).code == 4


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(500, text="<html>"),
        httpx2.Response(200, text="hello"),
        httpx2.Response(200, json={"ok": True}),
        httpx2.Response(200, json=[]),
        httpx2.Response(200, json={"data": "x"}),
        httpx2.Response(200, json={"data": [1]}),
        httpx2.Response(200, json={"data": {}}),
        httpx2.Response(200, content=b"{", headers={"content-type": "application/json"}),
        httpx2.Response(302, headers={"location": "http://elsewhere.example/"}),
    ],
    ids=[
        "failure",
        "text",
        "no data",
        "list",
        "text within",
        "numbers within",
        "no list",
        "broken",
        "redirect",
    ],
)
async def test_what_is_no_portal_is_told_apart(
    answering: Callable[[Handler], Admin], answer: httpx2.Response
) -> None:
    ran = await answering(lambda _request: answer)("sites", "list")
    assert ran.code == 1
    assert "http://portal.example" in ran.error
    assert "\n" not in ran.error


async def test_pages_that_never_end_are_left(answering: Callable[[Handler], Admin]) -> None:
    pages = iter([[{"id": "1", "name": "a"}], []])
    admin = answering(
        lambda _request: httpx2.Response(
            200, json={"data": next(pages), "metadata": {"next_page": "again", "count": "many"}}
        )
    )
    assert (await admin("sites", "list", "--json")).json() == [{"id": "1", "name": "a"}]


async def test_a_portal_out_of_reach_or_silent_is_named(answering: Callable[[Handler], Admin]) -> None:
    def silent(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("late", request=request)

    def refused(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused", request=request)

    for handler, said in ((silent, "did not answer in time"), (refused, "cannot reach the portal")):
        for arguments in (("sites", "list"), ("logs", "export", "--type", "change")):
            ran = await answering(handler)(*arguments)
            assert ran.code == 1
            assert said in ran.error


# ── Address and token
# ────────────────────────────────────────────────────────────────────────────────────────


async def test_the_profile_is_used_where_nothing_else_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: Waits
) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"url": "http://p.example", "token": ".api", "operator_token": ".op"}))
    profile.chmod(0o600)
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path))
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.headers['authorization']} {request.url.host}")
        return listing()

    admin = runner(httpx2.MockTransport(handle), waits)
    await admin("sites", "list")
    await admin("relays", "list")
    given = tmp_path / "token"
    given.write_text(".file\n")
    await admin("relays", "list", "--token-file", str(given), "--url", "http://other.example")
    assert asked == ["Bearer .api p.example", "Bearer .op p.example", "Bearer .file other.example"]


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [
        (0o644, '{"url": "http://p.example", "token": "t"}', "chmod 600"),
        (0o600, "[]", "is damaged"),
        (0o600, "{", "is damaged"),
        (0o600, '{"url": "http://p.example", "token": "t\\nx"}', "copied whole"),
        (None, "", "WARDGATE_URL and WARDGATE_TOKEN"),
    ],
)
async def test_a_profile_that_is_open_broken_or_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: Waits, mode: int | None, content: str, said: str
) -> None:
    if mode is not None:
        (tmp_path / "profile.json").write_text(content)
        (tmp_path / "profile.json").chmod(mode)
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path))
    ran = await runner(httpx2.MockTransport(lambda _request: listing()), waits)("sites", "list")
    assert ran.code == 1
    assert said in ran.error


async def test_a_profile_without_the_operators_token_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: Waits
) -> None:
    (tmp_path / "profile.json").write_text('{"url": "http://p.example", "token": "t"}')
    (tmp_path / "profile.json").chmod(0o600)
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path))
    ran = await runner(httpx2.MockTransport(lambda _request: listing()), waits)("relays", "list")
    assert "WARDGATE_OPERATOR_TOKEN" in ran.error


@pytest.mark.parametrize(("option", "said"), [("--ca-file", "CA file"), ("--token-file", "--token-file")])
async def test_a_file_that_is_not_there_is_named(
    answering: Callable[[Handler], Admin], tmp_path: Path, option: str, said: str
) -> None:
    ran = await answering(lambda _request: listing())("sites", "list", option, str(tmp_path / "none"))
    assert ran.code == 1
    assert said in ran.error
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    ran = await answering(lambda _request: listing())("sites", "list", "--ca-file", str(empty))
    assert (ran.code, "CA file" in ran.error) == (1, True)


# ── The process
# ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_process_ends_with_the_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARDGATE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("WARDGATE_TOKEN", "x")
    for arguments, code in ((["sites", "list"], 1), (["sites", "dance"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["admin", *arguments])
        assert ended.value.code == code
        error = capsys.readouterr().err
        assert error.startswith("wardgate: ")
        assert error.count("\n") == 1


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["sites", "--help"], ["sites", "create", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(["admin", *arguments])
        assert ended.value.code in (0, None)
        assert "Exit codes: 0 done" in capsys.readouterr().out


async def test_everyone_is_listed_with_all_and_can_be_named(admin: Admin, world: World) -> None:
    assert "Everyone" not in (await admin("groups", "list")).out
    every = await admin("groups", "list", "--all")
    assert "Everyone" in every.out
    assert "managed" in every.out
    made = await admin("policies", "create", "--group", "Everyone", "--resource", "net", "--json")
    shown = await admin("groups", "show", "Everyone", "--json")
    assert made.json()["group_id"] == shown.json()["id"]
    assert "Everyone" in (await admin("policies", "list")).out


async def test_what_a_client_is_not_shown_is_listed_by_its_name(admin: Admin, world: World) -> None:
    async with world.client() as peer:
        await peer.join()
        (client,) = (await admin("clients", "list", "--json")).json()
        (resource, *_) = (await admin("offers", "list", "--client", client["name"], "--json")).json()
    assert {"is_offered", "reason"} <= resource.keys()


async def test_a_policy_may_be_made_disabled(admin: Admin, world: World) -> None:
    made = await admin(
        "policies", "create", "--group", "Everyone", "--resource", "net", "--disabled", "--json"
    )
    assert made.json()["is_disabled"] is True


async def test_a_count_that_is_a_minimum_says_so(
    admin: Admin, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await admin("sites", "create", "--name", f"site {number}")
    monkeypatch.setattr(log_reading, "SCANNED_AT_ONCE", 1)
    monkeypatch.setattr(log_reading, "COUNTED", 8)
    notes = (await admin("logs", "list", "--type", "change", "--limit", "1", "--json")).notes
    assert re.fullmatch(r"wardgate: 1 of at least [2-8] shown\n", notes)
