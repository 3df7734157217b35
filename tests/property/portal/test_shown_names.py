"""Whatever a device is called, its row says so, on one line of its own and in its own cell."""

import html
import re
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from support.hostile_names import HOSTILE_NAMES
from wardgate.model.ids import AccountId, ActorId, ClientId, DeviceId, TokenId
from wardgate.model.shown_text import shown_text
from wardgate.portal.bus import ClientPresence
from wardgate.portal.web.first_steps import FirstSteps
from wardgate.portal.web.overview import Overview, peer_cells
from wardgate.portal.web.rendering import load_templates

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ALL_DONE = FirstSteps((), None, None, True, "acme", "", "")
TEMPLATE = load_templates().from_string('{% import "ui.html" as ui %}{% include "online.html" %}')
"""As pages include it."""


@given(st.text(min_size=1) | st.sampled_from(HOSTILE_NAMES), st.text())
@example("2024 Thinkpad", "2025 T")
def test_any_name_is_shown_in_its_cell(name: str, owner: str) -> None:
    presence = ClientPresence(
        client_id=ClientId(DeviceId(UUID(int=1))),
        account_id=AccountId(UUID(int=2)),
        connection_id=UUID(int=3),
        token_id=TokenId(UUID(int=4)),
        actor_id=ActorId(UUID(int=5)),
        name=name,
        ipv4=IPv4Address("100.64.0.1"),
        ipv6=IPv6Address("fd00:2021:1111::1"),
        public_key="",
        psk_base=b"",
        user_agent=name,
        version=None,
        remote_ip=IPv4Address("203.0.113.5"),
        region=None,
        position=None,
        connected_at=NOW,
    )
    page = TEMPLATE.render(page=Overview((peer_cells(presence, owner),), (), (), (), ALL_DONE))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 6
    assert [html.unescape(cell) for cell in cells[:2]] == [told(name), told(owner)]
    assert re.sub(r"<[^>]*>", "", cells[5]) == "2026-11-22 00:00:00 UTC"
    assert all(one.isprintable() or one == "\n" for one in page)


def told(text: str) -> str:
    return "\n".join(map(shown_text, text.split("\n")))
