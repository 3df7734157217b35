"""What is accepted as a passkey, and what is not."""

import json
from dataclasses import replace
from uuid import UUID

import pytest

from support.authenticator import SoftAuthenticator
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.second_factor.passkeys import MAX_ANSWER_CHARS, BadAnswer, RelyingParty
from wardgate.portal.sign_in.tables import Passkey

ID = UUID(int=1)
ACCOUNT = Account(
    id=ID, name="Acme", legal_name="Acme", slug="acme", key="abcdef", ingest_signing_key=b"k" * 32
)
ACTOR = Actor(id=ID, account_id=ID, type="account_user", name="Ada", email="ada@acme.example")
PARTY = RelyingParty("portal.example", "https://portal.example")
CHALLENGE, ANOTHER = (
    "Y2hhbGxlbmdlLW9uZS1vZi0zMi1ieXRlcy1sb25nISE",
    "YW5vdGhlci1jaGFsbGVuZ2Utb2YtMzItYnl0ZXMtISE",
)

TOO_LONG = "x" * (MAX_ANSWER_CHARS + 1)


def authenticator(**claims: object) -> SoftAuthenticator:
    return SoftAuthenticator(**{"origin": PARTY.origin, "rp_id": PARTY.id, **claims})  # type: ignore[arg-type]


def registered(soft: SoftAuthenticator) -> Passkey:
    options = PARTY.to_register(ACCOUNT, ACTOR, [], challenge=CHALLENGE)
    made = PARTY.registered(soft.create(options), challenge=CHALLENGE)
    return Passkey(
        id=ID,
        account_id=ID,
        actor_id=ID,
        name="Key",
        credential_id=made.credential_id,
        public_key=made.public_key,
        sign_count=made.sign_count,
    )


def signed(soft: SoftAuthenticator, passkey: Passkey, challenge: str = CHALLENGE) -> str:
    return soft.get(PARTY.to_authenticate([passkey], challenge=challenge))


@pytest.mark.parametrize(
    ("url", "party"),
    [
        ("https://portal.example", PARTY),
        ("https://Portal.Example:443", PARTY),
        ("https://portal.example:8443", RelyingParty("portal.example", "https://portal.example:8443")),
        ("http://localhost:8080", RelyingParty("localhost", "http://localhost:8080")),
        ("http://portal.example", None),  # browsers: no secure context
        ("https://192.0.2.1", None),  # no host name
        ("https://[2001:db8::1]", None),
        ("http://127.0.0.1:8080", None),
    ],
)
def test_browsers_know_passkeys_on_https_and_host_names_only(url: str, party: RelyingParty | None) -> None:
    assert RelyingParty.of(url) == party


def test_a_passkey_is_registered_and_proves_its_holder() -> None:
    soft = authenticator()
    passkey = registered(soft)
    assert PARTY.authenticated(signed(soft, passkey), [passkey], challenge=CHALLENGE) == (passkey, 1)


def test_options_want_a_verified_user_and_name_what_is_known() -> None:
    passkey = registered(authenticator())
    create = json.loads(PARTY.to_register(ACCOUNT, ACTOR, [passkey], challenge=CHALLENGE))
    assert create["rp"]["id"] == "portal.example"
    assert create["authenticatorSelection"]["userVerification"] == "required"
    assert [one["id"] for one in create["excludeCredentials"]] == [passkey.credential_id]
    get = json.loads(PARTY.to_authenticate([passkey], challenge=CHALLENGE))
    assert (get["userVerification"], get["challenge"]) == ("required", CHALLENGE)


@pytest.mark.parametrize(
    "claims",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://portal.example"},
        {"origin": "https://portal.example:444"},
        {"rp_id": "evil.example"},
        {"is_verified": False},
    ],
)
def test_an_answer_for_elsewhere_or_without_a_verified_user_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(BadAnswer):
        registered(authenticator(**claims))
    soft = authenticator()
    passkey = registered(soft)
    for name, value in claims.items():
        setattr(soft, name, value)
    with pytest.raises(BadAnswer):
        PARTY.authenticated(signed(soft, passkey), [passkey], challenge=CHALLENGE)


def test_an_answer_to_another_challenge_is_refused() -> None:
    soft = authenticator()
    passkey = registered(soft)
    with pytest.raises(BadAnswer):
        PARTY.authenticated(signed(soft, passkey, ANOTHER), [passkey], challenge=CHALLENGE)
    with pytest.raises(BadAnswer):
        PARTY.registered(
            soft.create(PARTY.to_register(ACCOUNT, ACTOR, [], challenge=ANOTHER)), challenge=CHALLENGE
        )


def test_a_counter_that_does_not_grow_tells_of_a_copy() -> None:
    soft = authenticator(counter=5)
    passkey = registered(soft)
    PARTY.authenticated(signed(soft, passkey), [passkey], challenge=CHALLENGE)
    with pytest.raises(BadAnswer):
        PARTY.authenticated(
            signed(soft, replace(passkey, sign_count=6)),
            [replace(passkey, sign_count=7)],
            challenge=CHALLENGE,
        )


def test_another_key_under_a_known_name_is_refused() -> None:
    passkey = registered(authenticator())
    with pytest.raises(BadAnswer):
        PARTY.authenticated(signed(authenticator(), passkey), [passkey], challenge=CHALLENGE)
    with pytest.raises(BadAnswer):
        PARTY.authenticated(signed(authenticator(), passkey), [], challenge=CHALLENGE)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "null",
        "[]",
        "{}",
        "1",
        '{"id": 1}',
        '{"id": "x", "response": null}',
        "[" * 10_000,
        TOO_LONG,
    ],
)
def test_what_is_no_answer_is_refused(answer: str) -> None:
    passkey = registered(authenticator())
    with pytest.raises(BadAnswer):
        PARTY.authenticated(answer, [passkey], challenge=CHALLENGE)
    with pytest.raises(BadAnswer):
        PARTY.registered(answer, challenge=CHALLENGE)


@pytest.mark.parametrize("name", ["clientDataJSON", "authenticatorData", "signature"])
@pytest.mark.parametrize("value", [None, 1, "", "!", "AAAA", {"a": 1}])
def test_an_answer_with_a_part_spoilt_is_refused(name: str, value: object) -> None:
    soft = authenticator()
    passkey = registered(soft)
    answer = json.loads(signed(soft, passkey))
    answer["response"][name] = value
    with pytest.raises(BadAnswer):
        PARTY.authenticated(json.dumps(answer), [passkey], challenge=CHALLENGE)


@pytest.mark.parametrize("value", [None, 1, "", "!", "AAAA", "oWNmbXRkbm9uZQ"])
def test_a_registration_with_a_part_spoilt_is_refused(value: object) -> None:
    answer = json.loads(authenticator().create(PARTY.to_register(ACCOUNT, ACTOR, [], challenge=CHALLENGE)))
    answer["response"]["attestationObject"] = value
    with pytest.raises(BadAnswer):
        PARTY.registered(json.dumps(answer), challenge=CHALLENGE)
