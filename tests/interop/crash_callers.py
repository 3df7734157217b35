"""Who loads a portal until it is killed, and what each was told: `Caller` changes groups, `Founder` makes and
ends accounts.

What was acknowledged must stand. Of each caller one call may be under way at the kill; it is there whole or
not at all, which `settle` finds out and takes over. A call that makes something carries an `Idempotency-Key`
and is repeated after the restart: it must be answered as if nothing had happened.
"""

import contextlib
import http.client
import json
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from support.patience import PATIENCE_S

ACCOUNTS = 4


@dataclass(frozen=True, slots=True)
class Answer:
    body: dict[str, Any]
    is_replayed: bool


class LoadedCaller(ABC):
    """One thread over one connection; it ends when the connection breaks.

    Attributes:
        acknowledged: calls that were answered.
    """

    def __init__(self, number: int, token: str) -> None:
        self.number = number
        self.acknowledged = 0
        self._token = token
        self._counter = 0

    def work(self, port: int) -> None:
        rng = random.Random(self.number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            self.repeat(connection)
            while True:
                self._counter += 1
                self.step(connection, rng)
                self.acknowledged += 1

    @abstractmethod
    def repeat(self, connection: http.client.HTTPConnection) -> None:
        """Ask again for what the former portal did or did not do."""

    @abstractmethod
    def step(self, connection: http.client.HTTPConnection, rng: random.Random) -> None:
        """Make one call and remember what was told."""

    def call(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: object | None = None,
        *,
        key: str | None = None,
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status in (200, 201), (response.status, content)
        return Answer(json.loads(content), response.getheader("Idempotent-Replayed") == "true")


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """A call about a group: what it shall be, None: gone. `id` is None while it is being made."""

    id: str | None
    wanted: Group | None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A group that was asked for under a key. `told` is the answer, if one came; `id` is None if it was not made."""

    key: str
    name: str
    id: str | None
    told: dict[str, Any] | None = None


class Caller(LoadedCaller):
    """Makes, renames and deletes groups of its own and exchanges all their members at once.

    Attributes:
        known: its groups by id, as acknowledged.
        repeated: how many calls were answered again after a restart.
    """

    def __init__(self, number: int, token: str, actor_ids: list[str]) -> None:
        super().__init__(number, token)
        self.known: dict[str, Group] = {}
        self.repeated = 0
        self._actor_ids = actor_ids
        self._under_way: Change | None = None
        self._made: Made | None = None

    @property
    def mark(self) -> str:
        """What the names of its groups begin with."""
        return f"caller {self.number} "

    def repeat(self, connection: http.client.HTTPConnection) -> None:
        made = self._made
        if made is None:
            return
        if made.id is None:
            self._under_way = Change(None, Group(made.name), made.key)
        answer = self._make(connection, made.key, made.name)
        self._under_way = None
        id_ = answer.body["data"]["id"]
        assert answer.is_replayed is (made.id is not None)
        self.repeated += answer.is_replayed
        if made.id is None:
            self.known[id_] = Group(made.name)
        else:
            assert id_ == made.id
            assert made.told is None or answer.body == made.told
        self._made = Made(made.key, made.name, id_, answer.body)

    def step(self, connection: http.client.HTTPConnection, rng: random.Random) -> None:
        name = f"{self.mark}call {self._counter}"
        id_ = rng.choice(list(self.known)) if self.known and rng.random() < 0.6 else None
        if id_ is None:
            key = f"{self.number}/{self._counter}"
            self._under_way = Change(None, Group(name), key)
            told = self._make(connection, key, name).body
            self._under_way = None
            id_ = told["data"]["id"]
            self.known[id_] = Group(name)
            self._made = Made(key, name, id_, told)
            return
        group, path = self.known[id_], f"/groups/{id_}"
        match rng.choice(("rename", "members", "members", "delete")):
            case "rename":
                change, call = (
                    Change(id_, replace(group, name=name)),
                    ("PATCH", path, {"group": {"name": name}}),
                )
            case "members":
                members = frozenset(rng.sample(self._actor_ids, rng.randint(0, len(self._actor_ids))))
                body = {"memberships": [{"actor_id": one} for one in sorted(members)]}
                change, call = (
                    Change(id_, replace(group, members=members)),
                    ("PUT", f"{path}/memberships", body),
                )
            case _:
                change, call = Change(id_, None), ("DELETE", path, None)
        self._under_way = change
        self.call(connection, *call)
        self._under_way = None
        _apply(self.known, id_, change.wanted)

    def settle(self, found: dict[str, Group]) -> None:
        """Compare what is stored of this caller's groups with what it knows, and take over the call that was
        cut off.
        """
        change, self._under_way = self._under_way, None
        id_ = None if change is None else change.id
        if change is not None and found != self.known:
            if id_ is None:
                (id_,) = found.keys() - self.known.keys()
            _apply(self.known, id_, change.wanted)
        assert found == self.known
        if change is not None and change.key is not None and change.wanted is not None:
            self._made = Made(change.key, change.wanted.name, id_)

    def _make(self, connection: http.client.HTTPConnection, key: str, name: str) -> Answer:
        return self.call(connection, "POST", "/groups", {"group": {"name": name}}, key=key)


def _apply(known: dict[str, Group], id_: str, wanted: Group | None) -> None:
    if wanted is None:
        del known[id_]
    else:
        known[id_] = wanted


@dataclass(frozen=True, slots=True)
class Founded:
    slug: str
    is_ending: bool


class Founder(LoadedCaller):
    """The operator: makes a few accounts, then schedules their deletion and calls it off, again and again.

    Attributes:
        known: its accounts by id, as acknowledged.
    """

    def __init__(self, number: int, token: str) -> None:
        super().__init__(number, token)
        self.known: dict[str, Founded] = {}
        self._under_way: tuple[str | None, Founded] | None = None

    def repeat(self, connection: http.client.HTTPConnection) -> None:
        """Nothing: `settle` has found out what was done."""

    def step(self, connection: http.client.HTTPConnection, rng: random.Random) -> None:
        if len(self.known) < ACCOUNTS:
            account = {
                "name": f"Founded {self._counter}",
                "slug": f"founded_{self._counter}",
                "admin_email": f"ada@{self._counter}.example",
            }
            wanted = Founded(account["slug"], is_ending=False)
            self._under_way = (None, wanted)
            told = self.call(connection, "POST", "/wardgate/accounts", {"account": account}).body
            self.known[told["data"]["id"]] = wanted
        else:
            id_ = rng.choice(sorted(self.known))
            founded = self.known[id_]
            wanted = replace(founded, is_ending=not founded.is_ending)
            self._under_way = (id_, wanted)
            path = f"/wardgate/accounts/{id_}/deletion"
            if wanted.is_ending:
                self.call(connection, "POST", path, {"deletion": {"slug": founded.slug}})
            else:
                self.call(connection, "DELETE", path)
            self.known[id_] = wanted
        self._under_way = None

    def settle(self, found: dict[str, Founded]) -> None:
        """As `Caller.settle`."""
        if self._under_way is not None and found != self.known:
            id_, wanted = self._under_way
            if id_ is None:
                (id_,) = found.keys() - self.known.keys()
            self.known[id_] = wanted
        assert found == self.known
        self._under_way = None
