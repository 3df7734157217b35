"""Of a batch of changes each connection hears what is meant for it, in order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from support.worlds import ADA, BASICS, ROBOT, STAFF
from support.worlds import EVERYONE as EVERYONE_GROUP
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.database.row_changes import RowChange, row_change
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.snapshot.accounts import TOLD_A_TURN, AccountFacts, AccountView
from wardgate.portal.snapshot.audience import Batch, Interest

LAPTOP, TOKEN, GATEWAY, OTHER, ONE = (str(UUID(int=number)) for number in range(900, 905))
ADAS = Interest.in_(ADA.id, UUID(LAPTOP), UUID(TOKEN), actor_id=ADA.id)
ROBOTS = Interest.in_(ROBOT.id, actor_id=ROBOT.id)
GATEWAYS = Interest.in_(UUID(GATEWAY))
SNAPSHOT = Snapshot.of(BASICS)


def change(table: str, *, before: dict[str, Any] | None = None, **after: Any) -> RowChange:
    return row_change(entry(table, before=before, **after))


def entry(table: str, *, before: dict[str, Any] | None = None, **after: Any) -> Change:
    return Change(
        account_id=UUID(int=1),
        sequence=1,
        log_id="",
        object=table,
        operation="update" if before else "insert",
        audience="audit",
        before=before,
        after=after,
        subject=None,
        committed_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


def heard(interest: Interest, *changes: RowChange) -> list[RowChange]:
    return Batch(changes).part_for(interest, SNAPSHOT)


def test_everybody_hears_of_resources_and_sites_in_order() -> None:
    changes = [change("sites", id=ONE), change("resources", id=ONE), change("accounts", id=ONE)]
    for interest in (ADAS, ROBOTS, GATEWAYS):
        assert heard(interest, *changes) == changes


def test_a_new_device_is_heard_of_by_nobody_and_what_becomes_of_it_by_all() -> None:
    new = change("devices", id=ONE)
    renamed = change("devices", before={"id": ONE, "name": "old"}, id=ONE, name="new")
    for interest in (ADAS, GATEWAYS):
        assert heard(interest, new, renamed) == [renamed]


def test_a_membership_is_heard_of_by_the_clients_of_its_actor() -> None:
    row = change("memberships", id=OTHER, actor_id=str(ADA.id), group_id=str(STAFF.id))
    assert heard(ADAS, row) == [row]
    assert heard(ROBOTS, row) == heard(GATEWAYS, row) == []


def test_the_end_of_a_grant_is_heard_of_by_both_its_devices_and_its_beginning_by_nobody() -> None:
    devices = {"initiating_device_id": LAPTOP, "receiving_device_id": GATEWAY}
    row = row_change(replace(entry("policy_authorizations", before=devices), after=None))
    assert heard(ADAS, row) == heard(GATEWAYS, row) == [row]
    assert heard(ROBOTS, row) == []
    assert heard(ADAS, change("policy_authorizations", **devices)) == []


def test_a_token_is_heard_of_by_its_connection() -> None:
    assert heard(ADAS, change("client_tokens", id=TOKEN)) != []
    assert heard(ADAS, change("client_tokens", id=OTHER)) == []


def test_a_policy_is_heard_of_by_the_members_of_its_group_before_and_after() -> None:
    staff, nobody, everyone = (str(one) for one in (STAFF.id, UUID(int=905), EVERYONE_GROUP.id))
    for row in (
        change("policies", group_id=staff),
        change("policies", before={"group_id": staff}, group_id=None),
        change("policies", before={"group_id": staff}, group_id=nobody),
    ):
        assert heard(ADAS, row) == heard(ROBOTS, row) == [row]
        assert heard(GATEWAYS, row) == []
    assert heard(ADAS, change("policies", group_id=nobody)) == []
    assert heard(ADAS, change("policies", group_id=everyone)) != []
    assert heard(ROBOTS, change("policies", group_id=everyone)) == []


def test_own_and_common_changes_come_once_and_in_their_order() -> None:
    changes = [
        change("policies", before={"group_id": str(STAFF.id)}, group_id=str(EVERYONE_GROUP.id)),
        change("sites", id=ONE),
        change("memberships", actor_id=str(ADA.id)),
        change("memberships", actor_id=OTHER),
        change("actors", id=str(ADA.id)),
    ]
    assert heard(ADAS, *changes) == [*changes[:3], changes[4]]


def test_what_connections_do_not_know_is_heard_of_by_nobody() -> None:
    assert heard(ADAS, change("api_tokens", id=str(ADA.id)), change("portal_sessions", id=LAPTOP)) == []


def test_a_view_tells_its_listeners_what_they_are_interested_in() -> None:
    view = AccountView(AccountFacts(UUID(int=1)), SNAPSHOT, 0)
    ada, gateway, everything = _Ear(), _Ear(), _Ear()
    view.attach(ada, ADAS)
    view.attach(gateway, GATEWAYS)
    view.attach(everything)
    view.apply([entry("client_tokens", id=TOKEN)])
    assert [[one.rows[0].id for one in batch] for batch in ada.batches] == [[UUID(TOKEN)]]
    assert (gateway.batches, everything.batches) == ([], ada.batches)


def test_a_view_tells_who_enforces_a_change_before_who_is_only_told() -> None:
    view = AccountView(AccountFacts(UUID(int=1)), SNAPSHOT, 0)
    told: list[str] = []
    ada, gateway, gone = (_Ear(name, told) for name in ("client", "gateway", "gone"))
    for listener, interest in ((ada, ADAS), (gone, GATEWAYS), (gateway, GATEWAYS)):
        view.attach(listener, interest)
    view.detach(gone)
    devices = {"initiating_device_id": LAPTOP, "receiving_device_id": GATEWAY}
    view.apply([replace(entry("policy_authorizations", before=devices), operation="delete", after=None)])
    view.apply([replace(entry("sites", id=ONE, name="Berlin"), sequence=2)])
    assert told == ["gateway", "client", "gateway", "client"]


def test_a_view_is_at_the_position_of_grants_that_nobody_hears_of() -> None:
    view = AccountView(AccountFacts(UUID(int=1)), SNAPSHOT, 0)
    ada = _Ear()
    view.attach(ada, ADAS)
    view.apply([entry("policy_authorizations", initiating_device_id=LAPTOP, receiving_device_id=GATEWAY)])
    assert (view.sequence, view.moved_at, ada.batches) == (1, 0, [])


def test_thousands_of_clients_are_told_a_few_in_a_turn_when_all_gateways_have_heard() -> None:
    view = AccountView(AccountFacts(UUID(int=1)), SNAPSHOT, 0)
    told: list[str] = []
    clients = [_Ear("client", told) for _ in range(2 * TOLD_A_TURN + 1)]
    for client in clients:
        view.attach(client, ADAS)
    view.attach(_Ear("gateway", told), GATEWAYS)
    view.apply([entry("sites", id=ONE, name="Berlin")])
    assert told == ["gateway"]
    turns = []
    while view.has_untold:
        told.clear()
        view.tell_some(TOLD_A_TURN)
        turns.append(len(told))
    assert turns == [TOLD_A_TURN, TOLD_A_TURN, 1]
    assert all(len(client.batches) == 1 for client in clients)


def test_who_still_waits_hears_of_later_changes_together_with_earlier_ones_and_who_has_left_of_none() -> None:
    view = AccountView(AccountFacts(UUID(int=1)), SNAPSHOT, 0)
    clients = [_Ear() for _ in range(TOLD_A_TURN + 2)]
    for client in clients:
        view.attach(client, ADAS)
    view.apply([entry("sites", id=ONE, name="Berlin")])
    view.tell_some(TOLD_A_TURN)
    view.apply([replace(entry("sites", id=ONE, name="Bonn"), sequence=2)])
    view.detach(clients[-1])
    while view.has_untold:
        view.tell_some(TOLD_A_TURN)
    names = [[[one.rows[-1].name for one in batch] for batch in client.batches] for client in clients]
    assert names == [[["Berlin"], ["Bonn"]]] * TOLD_A_TURN + [[["Berlin", "Bonn"]], []]


def test_a_view_that_is_lost_tells_nobody_of_changes_any_more() -> None:
    view = AccountView(AccountFacts(UUID(int=1)), SNAPSHOT, 0)
    clients = [_Ear() for _ in range(TOLD_A_TURN + 1)]
    for client in clients:
        view.attach(client, ADAS)
    view.apply([entry("sites", id=ONE, name="Berlin")])
    view.lose()
    view.tell_some(TOLD_A_TURN)
    assert all(client.is_lost and client.batches == [] for client in clients)


class _Ear:
    """A listener that remembers."""

    def __init__(self, name: str = "", told: list[str] | None = None) -> None:
        self.batches: list[Sequence[RowChange]] = []
        self.is_lost = False
        self._name = name
        self._told = told

    def handle_changes(self, changes: Sequence[RowChange]) -> None:
        self.batches.append(changes)
        if self._told is not None:
            self._told.append(self._name)

    def handle_view_lost(self) -> None:
        self.is_lost = True
