"""What follows from the declarations of the tables: each derivation against what the specification has."""

import runpy
from dataclasses import fields
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import LargeBinary

from unit.portal.store.whole_account import fill_account
from wardgate.portal.access.tables import Policy
from wardgate.portal.database.consequences import (
    ACCOUNT_TABLES_IN_DELETION_ORDER,
    DELETED_WITH_ACCOUNTS,
    DEPENDANTS,
    DEPENDANTS_OF_ACCOUNTS,
    Dependant,
)
from wardgate.portal.schema.declaration import OnDelete, Recording
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.schema.row_building import REDACTED
from wardgate.portal.store import Store
from wardgate.portal.tables import TABLES, metadata

ROOT = Path(__file__).parents[4]
BEARER = {"secret_salt", "secret_hash"}
SECRETS = {
    "accounts": {"ingest_signing_key"},
    "actors": {"password_hash"},
    "devices": {"psk_base"},
    "one_time_passcodes": {"code_hash"},
    "google_auth_providers": {"client_secret"},
    "entra_auth_providers": {"client_secret"},
    "okta_auth_providers": {"client_secret"},
    "oidc_auth_providers": {"client_secret"},
    "sign_in_links": {"secret_hash"},
    "totp_authenticators": {"sealed_secret"},
    "recovery_codes": {"hashes"},
    "second_factor_attempts": {"sealed_secret"},
    "client_tokens": BEARER,
    "gateway_tokens": BEARER,
    "api_tokens": BEARER,
    "relay_tokens": BEARER,
    "operator_links": {"secret_hash"},
    "operator_tokens": BEARER,
}
INTERNAL = {
    "policy_authorizations",
    "portal_sessions",
    "operator_links",
    "sign_in_links",
    "pending_identities",
    "auth_providers",
    "second_factor_tries",
}
LATEST_USE = {
    "devices": {"public_key", "client_token_id", "gateway_token_id"},
    "api_tokens": set(),
    "totp_authenticators": {"last_step", "last_used_at"},
    "passkeys": {"sign_count", "last_used_at"},
}
GRANTS = "policy_authorizations"
DELETION_MAP = {  # portal-domain §2
    "actors": {
        "pending_identities",
        "one_time_passcodes",
        "client_tokens",
        "api_tokens",
        "portal_sessions",
        "sign_in_links",
        "memberships",
        "devices",
        "external_identities",
        "totp_authenticators",
        "passkeys",
        "recovery_codes",
        "second_factor_attempts",
        "second_factor_tries",
    },
    "auth_providers": {"client_tokens", "portal_sessions", "pending_identities", "second_factor_attempts"}
    | {f"{kind}_auth_providers" for kind in ("email_otp", "userpass", "google", "entra", "okta", "oidc")},
    "one_time_passcodes": {"pending_identities"},
    "groups": {"memberships"},
    "memberships": {GRANTS},
    "sites": {"resources", "gateway_tokens", "devices"},
    "resources": {"policies", GRANTS, "static_device_pool_members"},
    "policies": {GRANTS},
    "devices": {GRANTS, "gateway_tokens", "static_device_pool_members"},
    "client_tokens": {GRANTS},
}
CLEARED = {
    ("groups", "policies", "group_id"),
    ("client_tokens", "devices", "client_token_id"),
    ("gateway_tokens", "devices", "gateway_token_id"),
}


def test_every_table_is_declared_once_with_a_row_of_its_columns() -> None:
    assert set(TABLES) == set(metadata.tables)
    for name, declaration in TABLES.items():
        assert declaration.row_class.table == name
        assert {field.name for field in fields(declaration.row_class)} == set(declaration.c.keys()), name


def test_exactly_these_columns_are_secret() -> None:
    assert {name: set(one.secrets) for name, one in TABLES.items() if one.secrets} == SECRETS


def test_whatever_holds_bytes_in_a_recorded_table_is_secret() -> None:
    for declaration in TABLES.values():
        if declaration.recording is not Recording.NONE:
            held = {column.name for column in declaration.c if isinstance(column.type, LargeBinary)}
            assert held <= declaration.secrets, declaration.name


def test_exactly_these_tables_are_kept_from_the_audit_log() -> None:
    assert {name for name, one in TABLES.items() if one.recording is Recording.INTERNAL} == INTERNAL


def test_the_latest_use_is_what_a_connection_reports_of_itself() -> None:
    found = {name: set(one.latest_use) for name, one in TABLES.items() if one.latest_use}
    seen = {
        name: {one.name for one in TABLES[name].c if one.name.startswith("last_seen_")} for name in LATEST_USE
    }
    assert found == {name: LATEST_USE[name] | seen[name] for name in LATEST_USE}


def test_the_deletion_map_is_the_specifications() -> None:
    deleted = {
        target: names
        for target, dependants in DEPENDANTS.items()
        if (names := {one.table for one in dependants if one.on_delete is OnDelete.DELETE})
    }
    cleared = {
        (target, one.table, one.column)
        for target, dependants in DEPENDANTS.items()
        for one in dependants
        if one.on_delete is OnDelete.CLEAR
    }
    assert (deleted, cleared) == (DELETION_MAP, CLEARED)


def test_an_accounts_tables_go_before_what_they_reference() -> None:
    position = {name: index for index, name in enumerate(ACCOUNT_TABLES_IN_DELETION_ORDER)}
    assert set(position) == {name for name, one in TABLES.items() if one.is_tenants}
    for name, index in position.items():
        for key in TABLES[name].table.foreign_keys:
            target = key.column.table.name
            assert target == "accounts" or index < position[target], (name, target)


def test_with_an_account_go_its_logs_and_its_mail_is_let_go_of() -> None:
    assert set(DELETED_WITH_ACCOUNTS) == {
        "changes",
        "decisions",
        "api_request_logs",
        "session_logs",
        "flow_logs",
        "idempotency_keys",
    }
    assert (Dependant("outbound_emails", "account_id", OnDelete.CLEAR),) == DEPENDANTS_OF_ACCOUNTS


async def test_an_image_is_the_row_without_its_secrets(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        whole = await fill_account(transaction, account_id)
    for row in whole.rows:
        _check_image(row)


def _check_image(row: TenantRow) -> None:
    declaration = TABLES[row.table]
    image = declaration.rows.encode(row)
    again = declaration.rows.decode(image)
    for name in (column.name for column in declaration.c):
        if name in declaration.secrets:
            assert image[name] == REDACTED
            with pytest.raises(AttributeError):
                getattr(again, name)
        else:
            assert getattr(again, name) == getattr(row, name), (row.table, name)


def test_an_older_image_lacks_what_its_table_has_got_since() -> None:
    id_, resource_id = UUID(int=1), UUID(int=2)
    image = {"id": str(id_), "resource_id": str(resource_id), "was_dropped": 1}
    row: Policy = TABLES["policies"].rows.decode(image)
    assert (row.id, row.resource_id, row.group_id, row.conditions) == (id_, resource_id, None, [])
    assert row.flow_log_uploads_enabled


def test_the_page_is_what_the_declarations_say() -> None:
    generator = runpy.run_path(str(ROOT / "scripts" / "tables_reference.py"))
    assert generator["PAGE"].read_text() == generator["page"](), "run `make tables-reference`"
