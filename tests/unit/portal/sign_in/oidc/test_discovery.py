import asyncio
from typing import Any

import pytest

from support.identity_provider import ISSUER, PARTY, ScriptedOutbound, document_of, public, rsa_key
from support.portal import HeldClock
from wardgate.portal.outbound import Answer, Failure, Question
from wardgate.portal.sign_in.oidc.discovery import COOL_DOWN_S, FAILURE_LIFETIME_S, MAX_ENTRIES, Discovery
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure

URI = PARTY.discovery_uri
KEYS = f"{ISSUER}/keys"


@pytest.fixture
def outbound() -> ScriptedOutbound:
    scripted = ScriptedOutbound()
    scripted.put_discovery()
    return scripted


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def discovery(outbound: ScriptedOutbound, clock: HeldClock) -> Discovery:
    return Discovery(outbound, clock)


async def failure_of(discovery: Discovery) -> OidcFailure:
    with pytest.raises(OidcFailed) as caught:
        await discovery.load(URI)
    return caught.value.failure


async def test_is_fetched_once_and_kept_an_hour(
    discovery: Discovery, outbound: ScriptedOutbound, clock: HeldClock
) -> None:
    first = await discovery.load(URI)
    assert (first.issuer, first.token_endpoint) == (ISSUER, f"{ISSUER}/token")
    clock.at_s += 3599
    await discovery.load(URI)
    assert outbound.count(URI) == 1
    clock.at_s += 1
    await discovery.load(URI)
    assert outbound.count(URI) == outbound.count(KEYS) == 2


@pytest.mark.parametrize(
    ("document", "keys", "lifetime_s"),
    [
        ({"cache_control": "public, max-age=600"}, {}, 600),
        ({"cache_control": "max-age=600", "age": "100"}, {}, 500),
        ({"cache_control": "max-age=600"}, {"cache_control": "max-age=120"}, 120),
        ({"cache_control": "max-age=86400"}, {}, 3600),
        ({"cache_control": "max-age=600", "age": "x"}, {}, 600),
        ({"cache_control": "max-age=10", "age": "100"}, {}, 0),
        ({}, {"cache_control": "no-store, max-age=600"}, 0),
    ],
)
async def test_lives_as_long_as_both_answers_may(
    discovery: Discovery,
    outbound: ScriptedOutbound,
    clock: HeldClock,
    document: dict[str, str],
    keys: dict[str, str],
    lifetime_s: int,
) -> None:
    outbound.put(URI, document_of(ISSUER), **document)
    outbound.put(KEYS, {"keys": public(rsa_key())}, **keys)
    await discovery.load(URI)
    if lifetime_s:
        clock.at_s += lifetime_s - 1
        await discovery.load(URI)
        assert outbound.count(URI) == 1
        clock.at_s += 1
    await discovery.load(URI)
    assert outbound.count(URI) == 2


async def test_an_unknown_key_has_it_fetched_again_once_a_while(
    discovery: Discovery, outbound: ScriptedOutbound, clock: HeldClock
) -> None:
    await discovery.load(URI)
    outbound.put_discovery(rsa_key("k2"))
    assert (await discovery.load_with_key(URI, "k2")).keys[0]["kid"] == "k1", "it has only just been fetched"
    clock.at_s += COOL_DOWN_S
    assert (await discovery.load_with_key(URI, "k1")).keys[0]["kid"] == "k1"
    assert outbound.count(URI) == 1, "a known key asks for nothing"
    assert (await discovery.load_with_key(URI, "k2")).keys[0]["kid"] == "k2"
    for _ in range(5):
        await discovery.load_with_key(URI, "k9")
    assert outbound.count(URI) == 2


async def test_a_failed_refetch_keeps_the_old_keys(
    discovery: Discovery, outbound: ScriptedOutbound, clock: HeldClock
) -> None:
    await discovery.load(URI)
    clock.at_s += COOL_DOWN_S
    outbound.answers[KEYS] = Failure.TIMED_OUT
    assert (await discovery.load_with_key(URI, "k2")).keys[0]["kid"] == "k1"
    assert (await discovery.load(URI)).keys[0]["kid"] == "k1"


async def test_many_who_come_at_once_ask_once(outbound: ScriptedOutbound, clock: HeldClock) -> None:
    answer = outbound.answers[URI]

    class Slow(ScriptedOutbound):
        async def ask(self, question: Question) -> Answer:
            await asyncio.sleep(0)
            return await ScriptedOutbound.ask(self, question)

    slow = Slow({URI: answer, KEYS: outbound.answers[KEYS]})
    discovery = Discovery(slow, clock)
    await asyncio.gather(*(discovery.load(URI) for _ in range(20)))
    assert slow.count(URI) == 1


async def test_remembers_so_many_documents_and_no_more(
    discovery: Discovery, outbound: ScriptedOutbound
) -> None:
    await discovery.load(URI)
    for number in range(MAX_ENTRIES):
        outbound.answers.pop(f"https://{number}.test/", None)
        with pytest.raises(OidcFailed):
            await discovery.load(f"https://{number}.test/")
    await discovery.load(URI)
    assert outbound.count(URI) == 2


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Failure.NAME_UNKNOWN, OidcFailure.NAME_UNKNOWN),
        (Failure.ADDRESS_REFUSED, OidcFailure.ADDRESS_REFUSED),
        (Failure.CONNECTION_REFUSED, OidcFailure.CONNECTION_REFUSED),
        (Failure.CERTIFICATE_REFUSED, OidcFailure.CERTIFICATE_REFUSED),
        (Failure.TIMED_OUT, OidcFailure.PROVIDER_TIMED_OUT),
        (Failure.TOO_LARGE, OidcFailure.MALFORMED),
        (Answer(404, {}, b""), OidcFailure.NOT_FOUND),
        (Answer(503, {}, b""), OidcFailure.PROVIDER_FAILED),
        (Answer(403, {}, b""), OidcFailure.MALFORMED),
        (Answer(200, {}, b"<html>"), OidcFailure.MALFORMED),
        (Answer(200, {}, b"[]"), OidcFailure.MALFORMED),
    ],
)
async def test_says_what_is_wrong(
    discovery: Discovery, outbound: ScriptedOutbound, clock: HeldClock, answer: Any, failure: OidcFailure
) -> None:
    outbound.answers[URI] = answer
    assert await failure_of(discovery) is failure
    outbound.put_discovery()
    outbound.answers[KEYS] = answer
    clock.at_s += FAILURE_LIFETIME_S
    assert await failure_of(discovery) is failure


async def test_a_provider_that_is_down_is_not_asked_by_everybody(
    discovery: Discovery, outbound: ScriptedOutbound, clock: HeldClock
) -> None:
    outbound.answers[URI] = Failure.TIMED_OUT
    for _ in range(10):
        assert await failure_of(discovery) is OidcFailure.PROVIDER_TIMED_OUT
    assert outbound.count(URI) == 1
    outbound.put_discovery()
    clock.at_s += FAILURE_LIFETIME_S
    assert (await discovery.load(URI)).issuer == ISSUER


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        ({"issuer": None}, OidcFailure.MALFORMED),
        ({"issuer": 1}, OidcFailure.MALFORMED),
        ({"jwks_uri": None}, OidcFailure.MALFORMED),
        ({"authorization_endpoint": "javascript:alert(1)"}, OidcFailure.MALFORMED),
        ({"authorization_endpoint": "https://idp.test/\r\nx"}, OidcFailure.MALFORMED),
        ({"authorization_endpoint": "/authorize"}, OidcFailure.MALFORMED),
        ({"authorization_endpoint": "https://[::1"}, OidcFailure.MALFORMED),
        ({"token_endpoint": ["https://idp.test/token"]}, OidcFailure.MALFORMED),
        ({"userinfo_endpoint": "file:///etc/passwd"}, OidcFailure.MALFORMED),
        ({"response_types_supported": ["id_token"]}, OidcFailure.UNSUITABLE),
        ({"code_challenge_methods_supported": ["plain"]}, OidcFailure.UNSUITABLE),
    ],
)
async def test_a_document_says_what_is_needed(
    discovery: Discovery, outbound: ScriptedOutbound, changed: dict[str, Any], failure: OidcFailure
) -> None:
    outbound.put(URI, {**document_of(ISSUER), **changed})
    assert await failure_of(discovery) is failure


@pytest.mark.parametrize("keys", [{}, {"keys": {}}, {"keys": [{"kid": "k"}] * 101}])
async def test_keys_are_a_list_of_bounded_length(
    discovery: Discovery, outbound: ScriptedOutbound, keys: object
) -> None:
    outbound.put(KEYS, keys)
    assert await failure_of(discovery) is OidcFailure.MALFORMED
