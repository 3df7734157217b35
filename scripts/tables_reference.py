"""Write docs/tables.md from the declarations of the tables; a test compares the page with them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wardgate.portal.schema.declaration import (
    AllConnections,
    Audience,
    MembersOf,
    Named,
    Nobody,
    OnDelete,
    Recording,
    TableDeclaration,
)
from wardgate.portal.schema.rights import Action
from wardgate.portal.tables import DOMAINS

PAGE = Path(__file__).parent.parent / "docs" / "tables.md"

HEAD = """# Tables

What the portal keeps, table by table. The page is written by `make tables-reference` from the declarations in
`src/wardgate/portal/<domain>/tables.py` and `schema/change_feed.py`, from which the program itself takes all of this.

- **References**: what a column names, and what becomes of the row when that is deleted: it goes too (→), or
  the column is cleared (⇢). Rows of an account go with the account.
- **Changes**: whether the change feed has them for the audit log (`audit`), for the portal itself only (`internal`),
  or not at all.
- **Secret**: columns that the change feed has as `[redacted]`.
- **Heard by**: which control channels are told of a change.
- **Rights**: of administrators, API clients, users and service accounts, in this order: `r`ead, `i`nsert, `u`pdate,
  `d`elete. Nobody: only the portal itself.
"""

CHANGES = {Recording.AUDIT: "audit", Recording.INTERNAL: "internal", Recording.NONE: "–"}
ROLES = ("account_admin_user", "api_client", "account_user", "service_account")


def page() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    for domain, declarations in DOMAINS.items():
        yield f"## `{domain}`\n"
        yield "| table | references | changes | secret | heard by | rights |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for declaration in declarations:
            cells = (
                f"`{declaration.name}`",
                _references(declaration),
                CHANGES[declaration.recording],
                _code(sorted(declaration.secrets)),
                _audience(declaration.heard_by),
                _rights(declaration),
            )
            yield f"| {' | '.join(cells)} |"
        yield ""


def _references(declaration: TableDeclaration[Any]) -> str:
    arrows = {OnDelete.DELETE: "→", OnDelete.CLEAR: "⇢"}
    return ", ".join(
        f"`{one.column}` {arrows[one.on_delete]} `{one.target}`" for one in declaration.references
    )


def _audience(audience: Audience) -> str:
    match audience:
        case Nobody():
            return ""
        case AllConnections(of_insertions):
            return "all of the account" + ("" if of_insertions else ", but for insertions")
        case Named(columns, of_insertions):
            return f"who is named in {_code(columns)}" + ("" if of_insertions else ", but for insertions")
        case MembersOf(column):
            return f"members of `{column}`"


def _rights(declaration: TableDeclaration[Any]) -> str:
    if not declaration.rights:
        return "nobody"
    return " ".join(
        "".join(action.value[0] for action in Action if action in declaration.rights[role]) or "–"
        for role in ROLES
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page())
