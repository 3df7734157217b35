"""Every change that the specification names is played by a row of the tables of hooks (protocol §3.6.9)."""

from itertools import chain
from pathlib import Path

from portal.channels import test_hooks as hooks
from portal.channels import test_pool_hooks as pools

SPEC = Path(__file__).parents[3] / "docs" / "spec" / "control-plane-protocol.md"

PLAYED = {
    "membership inserted": ("membership: insert, own",),
    "membership deleted": ("membership: delete, own", "membership: delete, own, another group grants it too"),
    "policy created / enabled": ("policy: insert, for a group of ours", "policy: disabled → enabled"),
    "policy deleted / disabled / its group deleted": (
        "policy: delete",
        "policy: enabled → disabled",
        "group: delete, its policy is orphaned",
    ),
    "policy's resource, group or conditions changed": (
        "policy: resource changed",
        "policy: group changed to one of others",
        "policy: conditions changed, they fail",
        "policy: conditions changed, another policy grants it too",
    ),
    "policy `flow_log_uploads_enabled` flipped": ("policy: flow-log flag changed",),
    "policy description changed": ("policy: description changed",),
    "resource name / description changed": ("resource: name changed", "resource: description changed"),
    "resource filters changed": ("resource: filters changed", "pool: filters changed"),
    "resource address / type / ip_stack changed": (
        "resource: address changed",
        "resource: type changed",
        "resource: ip_stack changed",
    ),
    "resource moved to another site": ("resource: site changed", "resource: site changed, at an old client"),
    "resource's site removed": ("resource: site removed",),
    "resource deleted": ("resource: delete", "pool: delete"),
    "site renamed": ("site: renamed", "site: renamed, at an old client"),
    "static pool member added": ("member: insert",),
    "static pool member removed": ("member: delete", "member: delete, it is in another pool that is shown"),
    "member device's tunnel IPs changed": ("device of a member: addresses",),
    "member device deleted": ("device of a member: delete", "device of a dynamic pool: delete"),
    "own device verified / unverified": (
        "device: verified, which a policy asks for",
        "device: verified_at set → null, which a policy asks for",
    ),
    "own tunnel IPs changed": ("device: own addresses", "device: gateway's addresses"),
    "own device deleted": ("device: own delete",),
    "account DNS / search-domain config changed": ("account: config changed",),
    "account slug changed": ("account: slug changed",),
    "account disabled": ("account: enabled → disabled",),
    "actor disabled / deleted, auth provider disabled": (
        "actor: enabled → disabled",
        "actor: delete",
        "auth provider: enabled → disabled",
    ),
    "client token deleted": ("client token: delete",),
    "gateway token deleted": ("gateway token: delete",),
    "gateway device deleted": ("device: gateway's delete",),
}

ELSEWHERE = {
    "expired authorization row removed by cleanup": "test_timers: an expired grant is removed without a word",
}


def test_every_change_of_the_specification_is_played() -> None:
    section = SPEC.read_text().partition("### 3.6.9 ")[2].partition("\n### ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    changes = [row for row in rows if row != "Change"]
    assert len(changes) > 20
    assert sorted(changes) == sorted([*PLAYED, *ELSEWHERE])


def test_what_is_named_as_played_is_there() -> None:
    tables = (hooks.ACCOUNTS, hooks.PEOPLE, hooks.DEVICES, hooks.POLICIES, hooks.RESOURCES)
    there = {hook.row for hook in chain.from_iterable(tables)} | {hook.row for hook in pools.HOOKS}
    assert set(chain.from_iterable(PLAYED.values())) - there == set()
