from uuid import UUID

import pytest

from wardgate.model.ids import AccountId, TokenId
from wardgate.wire.tokens import InvalidToken, TokenKind, WrongTokenKind, kind_of, mint_fragment, parse_token

KEY = b"k" * 32
SECRET = bytes(range(32))
ACCOUNT = AccountId(UUID("33333333-3333-4333-8333-333333333333"))
TOKEN = TokenId(UUID("44444444-4444-4444-8444-444444444444"))
NONCE = "ab" * 32


def fragment(kind: TokenKind = TokenKind.CLIENT, account_id: AccountId | None = ACCOUNT) -> str:
    return mint_fragment(kind, account_id=account_id, token_id=TOKEN, secret=SECRET, key=KEY)


def test_a_token_of_a_sign_in_is_the_clients_nonce_and_the_portals_fragment() -> None:
    parsed = parse_token(NONCE + fragment(), expected=TokenKind.CLIENT, key=KEY)
    assert (parsed.account_id, parsed.token_id, parsed.nonce, parsed.secret) == (
        ACCOUNT,
        TOKEN,
        NONCE,
        SECRET,
    )


@pytest.mark.parametrize("kind", TokenKind)
def test_a_token_shows_its_kind_and_fits_a_header(kind: TokenKind) -> None:
    text = fragment(kind)
    assert text.startswith(f".wg_{kind.word}_")
    assert kind_of(text) is kind
    assert len(text) < 200
    assert text.isascii()
    assert not any(char.isspace() or char == "=" for char in text)


def test_a_token_in_capitals_is_the_same_token() -> None:
    prefix, payload = (
        TokenKind.CLIENT.value,
        fragment().removeprefix(".").removeprefix(TokenKind.CLIENT.value),
    )
    shouted = parse_token(prefix + payload.upper(), expected=TokenKind.CLIENT, key=KEY)
    assert shouted == parse_token(prefix + payload, expected=TokenKind.CLIENT, key=KEY)


@pytest.mark.parametrize(
    "char", ["0", "1", "8", "9", "_", "+", "-", " ", "!", "=", "\n", "\0", "v", "ı", "²", "٣", "\ud800"]
)
@pytest.mark.parametrize("place", [0, 64, 127])
def test_what_is_no_base32_is_no_token(char: str, place: int) -> None:
    text = fragment()
    at = len(text) - 128 + place
    with pytest.raises(InvalidToken):
        parse_token(f"{text[:at]}{char}{text[at + 1 :]}", expected=TokenKind.CLIENT, key=KEY)


def test_a_copied_token_may_lack_its_leading_dot() -> None:
    assert parse_token(fragment().lstrip("."), expected=TokenKind.CLIENT, key=KEY).nonce == ""


def test_a_relay_token_belongs_to_no_account() -> None:
    text = fragment(TokenKind.RELAY, None)
    assert parse_token(text, expected=TokenKind.RELAY, key=KEY).account_id is None


def test_a_token_of_another_kind_is_named_in_the_error() -> None:
    with pytest.raises(WrongTokenKind, match="this is a gateway token, a client token is needed"):
        parse_token(fragment(TokenKind.GATEWAY), expected=TokenKind.CLIENT, key=KEY)


def test_a_renamed_prefix_does_not_turn_a_token_into_another_kind() -> None:
    forged = fragment(TokenKind.GATEWAY).replace("wg_gateway_", "wg_client_")
    with pytest.raises(InvalidToken, match="invalid token"):
        parse_token(forged, expected=TokenKind.CLIENT, key=KEY)


def test_a_token_of_another_installation_is_refused() -> None:
    with pytest.raises(InvalidToken):
        parse_token(fragment(), expected=TokenKind.CLIENT, key=b"x" * 32)


@pytest.mark.parametrize("position", [12, 60, -1])
def test_a_changed_character_is_refused(position: int) -> None:
    text = list(fragment())
    text[position] = "b" if text[position] != "b" else "c"
    with pytest.raises(InvalidToken):
        parse_token("".join(text), expected=TokenKind.CLIENT, key=KEY)


@pytest.mark.parametrize(
    "text", ["", ".", "c1", ".SFMyNTY.g2gD.sig", ".wg_client_", "n" * 200 + fragment(), "é" + fragment()]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        parse_token(text, expected=TokenKind.CLIENT, key=KEY)


def test_the_stored_hash_depends_on_nonce_secret_and_salt() -> None:
    parsed = parse_token(NONCE + fragment(), expected=TokenKind.CLIENT, key=KEY)
    stored = parsed.hashed(b"s" * 16)
    assert parsed.matches(secret_hash=stored, salt=b"s" * 16)
    assert not parsed.matches(secret_hash=stored, salt=b"t" * 16)
    without_nonce = parse_token(fragment(), expected=TokenKind.CLIENT, key=KEY)
    assert not without_nonce.matches(secret_hash=stored, salt=b"s" * 16)


@pytest.mark.parametrize("position", [0, 8, 31, 63])
def test_every_character_of_the_stored_hash_counts(position: int) -> None:
    parsed = parse_token(fragment(), expected=TokenKind.CLIENT, key=KEY)
    stored = list(parsed.hashed(b"s" * 16))
    stored[position] = "0" if stored[position] != "0" else "1"
    assert not parsed.matches(secret_hash="".join(stored), salt=b"s" * 16)


def test_secrets_do_not_appear_in_the_representation() -> None:
    parsed = parse_token(NONCE + fragment(), expected=TokenKind.CLIENT, key=KEY)
    assert NONCE not in repr(parsed)
    assert "secret" not in repr(parsed)
