"""What of a stranger's link a sign-in carries on, and where it may lead."""

from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from wardgate.portal.sign_in.flow import Context, Flow, MalformedFlow

ACCOUNT_ID = UUID("9d5f6d1c-6c0e-4f0e-9a53-1d7f5a3c1e11")
HEX = "a1" * 32


@pytest.mark.parametrize("name", ["client", "gui-client"])
def test_both_names_of_gui_clients_mean_one(name: str) -> None:
    flow = Flow.parse({"as": name, "state": HEX, "nonce": HEX})
    assert flow == Flow(Context.GUI_CLIENT, HEX, HEX)
    assert flow.parameters == {"as": "gui-client", "state": HEX, "nonce": HEX}


@pytest.mark.parametrize("name", ["", "portal", "GUI-CLIENT", "admin", "gui-client "])
def test_anything_else_is_the_portal_and_carries_no_nonce(name: str) -> None:
    flow = Flow.parse({"as": name, "state": HEX, "nonce": HEX, "utm_source": "x"})
    assert flow == Flow(Context.PORTAL)
    assert flow.parameters == {}


def test_a_headless_client_has_neither_state_nor_nonce() -> None:
    assert Flow.parse({"as": "headless-client", "state": HEX, "nonce": HEX}) == Flow(Context.HEADLESS_CLIENT)


@pytest.mark.parametrize(
    ("state", "nonce"),
    [
        ("", HEX),
        (HEX, ""),
        (HEX, "a.b"),
        (HEX, "a" * 129),
        ("a" * 513, HEX),
        ("a\r\nSet-Cookie: x=y", HEX),
        (HEX, "a b"),
        (HEX, "é"),
        ("<script>", HEX),
        (f"{HEX}\n", HEX),
        (HEX, f"{HEX}\n"),
    ],
)
def test_a_state_or_nonce_that_no_client_would_choose_is_refused(state: str, nonce: str) -> None:
    with pytest.raises(MalformedFlow):
        Flow.parse({"as": "gui-client", "state": state, "nonce": nonce})


def test_a_flow_survives_its_own_url() -> None:
    for given in (
        {"as": "gui-client", "state": "s+/=._~-", "nonce": "n+/=_~-"},
        {"as": "headless-client"},
        {"redirect_to": "/acme/sites?page=2&q=a%20b"},
    ):
        flow = Flow.parse(given)
        query = parse_qs(urlsplit(flow.url("/acme/sign_in", error="x")).query)
        assert query.pop("error") == ["x"]
        assert Flow.parse({name: values[0] for name, values in query.items()}) == flow


@pytest.mark.parametrize(
    "path", ["/acme", "/acme/", "/ACME/sites", f"/{ACCOUNT_ID}/sites?a=b&c=/d", "/acme/a.b/x%20y"]
)
def test_leads_to_any_path_of_the_account(path: str) -> None:
    assert Flow.parse({"redirect_to": path}).destination(ACCOUNT_ID, "acme") == path


@pytest.mark.parametrize(
    "target",
    [
        "",
        "acme",
        "//evil.example/acme",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/acme",
        "https:/acme",
        "javascript:alert(1)",
        "/other/sites",
        "/acme/../other",
        "/acme/%2e%2E/other",
        "/acme/./x",
        "/acme\\..\\other",
        "/acme.evil",
        "/acme@evil.example",
        "/%61cme/sites",
        "/acme\r\nSet-Cookie: a=b",
        "/acme\n",
        "/acme\t",
        " /acme",
        "/acme/é",
        "/acme#x",
        "/acme/" + "a" * 2000,
        "///acme",
    ],
)
def test_leads_nowhere_else(target: str) -> None:
    assert Flow.parse({"redirect_to": target}).destination(ACCOUNT_ID, "acme") == "/acme"
