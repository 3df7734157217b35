"""The guide of a new installation, followed in a browser to its end: every command is the one that the pages show.

The browser runs on the client's host, so that the last step opens the resource's page in it through the tunnel.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from support.patience import PATIENCE_S
from wardgate.lab import Internet
from wardgate.lab.host import Host, Process, wait_until
from wardgate.lab.installation import WEB4, Installation

PORTAL = "http://portal:8080"
# The lab's hosts are root's. It ends the shell only, so what that has started ends with it.
AS_ROOT = 'sudo() { setpriv --pdeathsig KILL -- "$@"; }; '

expect.set_options(timeout=PATIENCE_S * 1000)


@pytest.fixture
def fresh() -> Iterator[Installation]:
    """A portal that knows one account and its administrator, and nothing else."""
    with Internet() as internet:
        lab = Installation(internet, relay_count=1, portal_settings={"WARDGATE_EXTERNAL_URL": PORTAL})
        lab.portal_site.host.add_hosts({"portal": "127.0.0.1"})
        lab.init()
        lab.start_portal()
        yield lab


@pytest.fixture
def page(fresh: Installation, tmp_path: Path) -> Iterator[Page]:
    """A tab of Chromium on the client's host."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "make test installs chromium"
    wrapper = tmp_path / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(fresh.client_site.host.command(chromium))} "$@"\n')
    wrapper.chmod(0o700)
    with sync_playwright() as playwright:
        # Tests run as root, for whom Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=wrapper, args=["--no-sandbox"])
        yield browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        browser.close()


@pytest.mark.timeout(420)  # a browser and four processes of the product, one after the other
def test_the_first_steps_lead_to_a_page_opened_through_the_tunnel(fresh: Installation, page: Page) -> None:
    start_relay(fresh, page)
    page.goto(PORTAL + re.sub(r"^https?://[^/]+", "", fresh.sign_in_link))
    page.get_by_role("link", name="Continue").click()
    expect(step(page, "site")).to_contain_text("done")  # the site that every account has

    page.get_by_role("button", name="Deploy a gateway").click()
    state = page.locator("#gateway-state")
    expect(state).to_contain_text("Waiting for")
    page.get_by_text("By hand").click()
    run(fresh.gateway_site.host, "gateway", page.locator("#hand").inner_text())
    expect(state).to_contain_text("is online")

    page.goto(f"{PORTAL}/demo/get_started")
    expect(step(page, "gateway")).to_contain_text("1 online")
    page.get_by_role("link", name="Add a resource").click()
    page.get_by_text("One address", exact=True).click()
    page.fill("#name", "Wiki")
    page.fill("#address", WEB4)
    page.locator("#options-site_id label", has_text="Default Site").click()
    page.get_by_role("button", name="Create resource").click()
    expect(page.locator("#side-heading")).to_have_text("Wiki")

    page.goto(f"{PORTAL}/demo/get_started")
    expect(step(page, "resource")).to_contain_text("Wiki")
    page.get_by_role("link", name="New group").click()  # a service account is not in Everyone
    page.fill("#name", "Servers")
    page.get_by_role("button", name="Create group").click()
    expect(page.locator("#side-heading")).to_have_text("Servers")
    page.goto(f"{PORTAL}/demo/get_started")
    page.get_by_role("link", name="New policy").click()
    page.locator("#group_id label", has_text="Servers").click()
    page.locator("#resource_id label", has_text="Wiki").click()
    page.get_by_role("button", name="Create policy").click()
    expect(page.locator(".toast")).to_contain_text("was created")

    page.goto(f"{PORTAL}/demo/get_started")
    expect(step(page, "policy")).to_contain_text("done")
    page.get_by_role("link", name="service account", exact=True).click()
    page.fill("#name", "Build server")
    page.locator("label.option", has_text="Servers").click()
    page.get_by_role("button", name="Create service account").click()
    page.get_by_text("By hand").click()
    command = page.locator("#command").inner_text()

    guide = page.context.new_page()
    guide.goto(f"{PORTAL}/demo/get_started")
    expect(step(guide, "client")).to_contain_text("not done yet")
    client = run(fresh.client_site.host, "client", command)
    wait_until(lambda: "tunnel interface is up" in client.log(), "the tunnel", limit_s=60)
    expect(step(guide, "client")).to_contain_text("1 online")

    page.goto(f"http://{WEB4}/get", timeout=PATIENCE_S * 1000)
    assert page.locator("body").inner_text()
    expect(step(guide, "access")).to_contain_text("Build server → Wiki")
    expect(guide.get_by_text("Everything works")).to_be_visible()


def start_relay(lab: Installation, page: Page) -> None:
    """Let the operator make a relay, and start it as the page says."""
    page.goto(
        lab.wardgate(
            lab.portal_site.host,
            "sign-in-link",
            "--operator",
            "--data-dir=/var/lib/wardgate",
            environment={"WARDGATE_EXTERNAL_URL": PORTAL},
        ).strip()
    )
    expect(page.get_by_text("No relay is online")).to_be_visible()
    page.goto(f"{PORTAL}/operator/relays/new")
    page.fill("#name", "relay-1")
    page.get_by_role("button", name="Create relay").click()
    page.get_by_text("By hand").click()
    token, command = page.locator("#token").inner_text(), page.locator("#command").inner_text()
    site = lab.relay_sites[0]
    folder = site.host.etc / "wardgate"
    folder.mkdir()
    (folder / "relay-token").write_text(f"{token}\n")
    (folder / "relay-token").chmod(0o600)
    run(site.host, "relay", command.replace("203.0.113.7", site.public4))
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#side-status")).to_contain_text("Online")


def step(page: Page, name: str) -> object:
    return page.locator(f"#step-{name} summary")


def run(host: Host, name: str, command: str) -> Process:
    """Run what a page shows for copying."""
    found = str(Path(sys.executable).parent)
    return host.start(name, "sh", "-c", f"PATH={found}:$PATH; {AS_ROOT}{command}")
