"""Sign-in with a real OpenID provider (`oidc-provider` on Node), over TLS with an authority of its own, as a product's
operator would set it up: its network and its authority are named in the settings.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from support.node_provider import NodeProvider, find_node, new_key
from support.provider_office import ADMIN, PORTAL, SECRET, Office, office_of, settings_for, told
from wardgate.portal.sign_in.oidc.discovery import COOL_DOWN_S, FAILURE_LIFETIME_S, LIFETIME_S

pytestmark = pytest.mark.timeout(300)  # the first run fetches the provider


@pytest.fixture
async def idp(tmp_path: Path) -> AsyncIterator[NodeProvider]:
    provider = NodeProvider.installed(find_node(), tmp_path)
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
async def office(idp: NodeProvider) -> AsyncIterator[Office]:
    async with office_of(idp, settings_for(idp)) as office:
        await office.make_provider()
        assert (await office.verify()).status_code == 200
        await office.enable()
        yield office


async def test_signs_in_through_a_trial_and_then_for_good(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start)
        assert answer.status_code == 200, answer.text
        assert str(answer.url) == f"{PORTAL}/acme"
    async with office.portal.services.store.reading() as transaction:
        (identity,) = await transaction.of(office.world.account_id).external_identities.load_all()
    assert (identity.issuer, identity.idp_id, identity.name) == (office.idp.issuer, ADMIN, "Ada")


async def test_a_trial_finds_a_wrong_secret(idp: NodeProvider) -> None:
    async with office_of(idp, settings_for(idp)) as office:
        await office.make_provider(client_secret="wrong")
        answer = await office.verify()
        assert answer.status_code == 422
        assert "client id or secret" in told(answer)
        assert (await office.verify(client_secret=SECRET)).status_code == 200


async def test_without_the_setting_a_provider_on_loopback_is_out_of_reach(idp: NodeProvider) -> None:
    settings = replace(settings_for(idp), outbound_networks=(ip_network("10.0.0.0/8"),))
    async with office_of(idp, settings) as office:
        await office.make_provider()
        assert "private address" in told(await office.verify())


async def test_without_its_authority_it_is_not_trusted(idp: NodeProvider) -> None:
    async with office_of(idp, replace(settings_for(idp), outbound_ca=None)) as office:
        await office.make_provider()
        assert "certificate is not trusted" in told(await office.verify())


async def test_keys_that_were_rotated_are_found(office: Office) -> None:
    # The trial fetched the old keys just now: they are not asked for again for half a minute.
    office.clock.at_s += COOL_DOWN_S
    await office.idp.begin_again(key=new_key())
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == f"{PORTAL}/acme"


@pytest.mark.parametrize(("skew_s", "is_accepted"), [(20, True), (120, False), (-120, False)])
async def test_a_providers_clock_may_be_wrong_by_half_a_minute(
    office: Office, skew_s: float, is_accepted: bool
) -> None:
    await office.idp.begin_again(skew_s=skew_s)
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start)
    assert (str(answer.url) == f"{PORTAL}/acme") is is_accepted
    if not is_accepted:
        assert "clock" in told(answer)


async def test_a_replayed_callback_is_refused(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        callback = answer.headers["location"]
        assert (await browser.get(callback)).status_code == 303
        assert (await browser.get(callback)).status_code == 400
        async with office.browser() as other:
            assert (await other.get(callback)).status_code == 400


async def test_the_provider_names_itself_and_a_mixed_up_answer_is_refused(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        callback = answer.headers["location"]
        assert "iss=" in callback
        stripped = re.sub(r"&?iss=[^&]*", "", callback)
        page = await browser.get(stripped, follow_redirects=True)
    assert "another identity provider" in told(page)


async def test_a_code_that_was_asked_for_without_our_challenge_is_worth_nothing(office: Office) -> None:
    """PKCE downgrade: somebody in the middle replaces the challenge; the provider refuses our verifier."""
    async with office.browser() as browser:
        sent = (await browser.get(office.start)).headers["location"]
        downgraded = re.sub(r"code_challenge=[^&]*", "code_challenge=" + "A" * 43, sent)
        answer = await office.sign_in(browser, downgraded)
    assert "expired or was used already" in told(answer)


async def test_a_provider_that_is_down_is_told_at_every_step(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        await office.idp.stop()
        page = await browser.get(answer.headers["location"], follow_redirects=True)
        assert "refuses the connection" in told(page)
    office.clock.at_s += LIFETIME_S
    async with office.browser() as browser:
        page = await browser.get(office.start, follow_redirects=True)
        assert "refuses the connection" in told(page)
    await office.idp.start()
    office.clock.at_s += FAILURE_LIFETIME_S
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == f"{PORTAL}/acme"


async def test_somebody_unknown_and_somebody_unverified_get_nothing(office: Office) -> None:
    await office.idp.begin_again(
        people={
            "eve": {"email": "eve@example.org", "email_verified": True, "name": "Eve"},
            "mallory": {"email": "ada@example.org", "email_verified": False, "name": "Mallory"},
        }
    )
    for person, expected in (("eve", "Nobody with this identity"), ("mallory", "not verified your e-mail")):
        async with office.browser() as browser:
            assert expected in told(await office.sign_in(browser, office.start, person=person))
