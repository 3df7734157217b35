"""nftables in memory: tables of our own as opaque text, base chains of others with their rules."""

import re
from typing import Any


class FakeNftables:
    """Understands the few commands that `wardgate.net.firewall` sends; listings have the form of `nft -j`."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.chains: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.rules: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        self.listings = 0
        self.refusal: OSError | None = None
        self._changes = 0

    def add_chain(self, name: str, *expressions: list[dict[str, Any]], **properties: str) -> None:
        """A base chain at the forward hook; `name` is `family table chain`."""
        family, table, chain = name.split()
        key = (family, table, chain)
        self.chains[key] = {
            "family": family,
            "table": table,
            "name": chain,
            "type": "filter",
            "hook": "forward",
            "policy": "accept",
            **properties,
        }
        self.rules[key] = []
        for expression in expressions:
            self._insert(key, expression, at=len(self.rules[key]))

    def flush(self) -> None:
        """As `nft flush ruleset`."""
        self._changes += 1
        self.tables.clear()
        self.chains.clear()
        self.rules.clear()

    def generation(self) -> int | None:
        return self._changes

    async def apply(self, commands: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self._changes += 1
        if match := re.match(r"add table (\w+ \w+)\ndelete table \1\n(.*)", commands, re.DOTALL):
            self.tables.pop(match[1], None)
            if match[2]:
                self.tables[match[1]] = match[2]
            return
        for line in commands.splitlines():
            self._apply_line(line)

    async def listing(self, *what: str) -> list[dict[str, Any]]:
        self.listings += 1
        if what[0] == "table":
            text = self.tables.get(" ".join(what[1:]))
            return (
                []
                if text is None
                else [{"table": {"name": what[2], "handle": self._changes}}, {"text": text}]
            )
        if what[0] == "chains":
            return [{"chain": chain} for chain in self.chains.values()]
        family, table, chain = what[1:]
        return [{"rule": rule} for rule in self.rules[family, table, chain]]

    def _apply_line(self, line: str) -> None:
        if match := re.fullmatch(
            r'insert rule (\w+) (\w+) (\w+) (\w+) "(.+)" counter accept comment "(\w+)"', line
        ):
            matching = {"match": {"op": "==", "left": {"meta": {"key": match[4]}}, "right": match[5]}}
            expression = [matching, {"counter": {"packets": 0, "bytes": 0}}, {"accept": None}]
            self._insert((match[1], match[2], match[3]), expression, at=0, comment=match[6])
        elif match := re.fullmatch(r"delete rule (\w+) (\w+) (\w+) handle (\d+)", line):
            key = (match[1], match[2], match[3])
            kept = [rule for rule in self.rules[key] if rule["handle"] != int(match[4])]
            assert len(kept) == len(self.rules[key]) - 1, f"no such rule: {line}"
            self.rules[key] = kept
        else:
            raise AssertionError(f"not understood: {line}")

    def _insert(
        self, key: tuple[str, str, str], expression: list[dict[str, Any]], *, at: int, **more: str
    ) -> None:
        self._changes += 1
        self.rules[key].insert(at, {"handle": self._changes, "expr": expression, **more})
