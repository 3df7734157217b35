"""An account's settings: one set of defaults, read back as written, and what is not ours stays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from wardgate.portal.account_config import AccountConfig, OutdatedGatewayLetter, UpstreamDns

SET = AccountConfig(
    "corp.example",
    UpstreamDns("custom", "quad9", ("192.0.2.53", "2001:db8::53")),
    OutdatedGatewayLetter(is_enabled=False, last_notified_at=datetime(2026, 8, 22, 9, 0, 0, 5, UTC)),
)


@pytest.mark.parametrize("config", [AccountConfig(), SET])
def test_settings_are_read_back_as_they_were_written(config: AccountConfig) -> None:
    assert AccountConfig.parse(config.within({})) == config


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"clients_upstream_dns": None},
        {"notifications": {}},
        {"notifications": {"outdated_gateway": None}},
    ],
)
def test_what_is_not_stored_has_its_default(stored: dict[str, Any]) -> None:
    assert AccountConfig.parse(stored) == AccountConfig()


def test_what_another_release_stored_stays() -> None:
    stored = {"newer": 1, "notifications": {"other": 2}}
    written = SET.within(stored)
    assert (written["newer"], written["notifications"]["other"]) == (1, 2)
