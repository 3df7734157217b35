"""From an upgrade request to its rows (protocol §2.3): token, account, device, found or created.

All refusals of a connection are decided here and in `endpoint`; a `Refused` carries what the answer needs
(§1.5).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

from wardgate.portal import credentials
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus import Address, Bus
from wardgate.portal.channels.client_devices import ClientDevices
from wardgate.portal.channels.known_clients import KnownClients, Listening
from wardgate.portal.devices.rules import PSK_BASE_BYTES
from wardgate.portal.devices.tables import Device
from wardgate.portal.http.origin import Origin
from wardgate.portal.installation.tables import Account, RelayToken
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.sites.tables import GatewayToken
from wardgate.portal.store import Transaction
from wardgate.wire.errors import InvalidConnectParameters
from wardgate.wire.tokens import InvalidToken, Token
from wardgate.wire.upgrade import (
    ClientParameters,
    GatewayParameters,
    RelayParameters,
    parse_client_parameters,
    parse_gateway_parameters,
    parse_relay_parameters,
)
from wardgate.wire.user_agent import announced_version


class Refused(Exception):
    """Answer the upgrade with this status and problem code; without a code the body is empty."""

    def __init__(
        self, status: HTTPStatus, code: str | None, detail: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


class ConnectedClient(NamedTuple):
    """A client that was let in.

    Attributes:
        held: its grants from before this connection, its own and those to it; None if not read with the rest.
    """

    account: Account
    actor: Actor
    token: ClientToken
    device: Device
    public_key: str
    origin: Origin
    held: Sequence[PolicyAuthorization] | None = None


class ConnectedGateway(NamedTuple):
    """A gateway that was let in; `held` are the grants to it, None if not read with the rest."""

    account: Account
    token: GatewayToken
    device: Device
    public_key: str
    origin: Origin
    held: Sequence[PolicyAuthorization] | None = None


class ConnectedRelay(NamedTuple):
    """A relay that was let in; nobody grants it anything."""

    token: RelayToken
    parameters: RelayParameters
    origin: Origin
    held: Sequence[PolicyAuthorization] | None = None


Connected = ConnectedClient | ConnectedGateway | ConnectedRelay


def has_foreign_key(bus: Bus, account_id: UUID, address: Address, public_key: str) -> bool:
    """Tell whether another device of the account is connected with this public key.

    A public key does not prove possession of the private one, and everybody who has reached a device knows
    its key. A second device with the same key would take over the first one's tunnels. Of two, the first
    wins: the second is answered 409 `public_key_in_use` at its upgrade or, when both upgrades were under way
    at once, its channel is closed at its join without a reason, so that it comes back to the 409. Both are
    what peers try again after (control-plane §1.5, §1.11): the owner of the key, if it came second, gets in
    as soon as the other has gone. Accounts do not see each other's keys: no two of them meet at a peer, and
    one must not be able to lock the other out.
    """
    holder = bus.holder_of_key(account_id, public_key)
    return holder is not None and holder.address != address


def latest_session(origin: Origin) -> dict[str, Any]:
    """Return a device's columns of `LATEST_SESSION` that its connection's origin fills."""
    return {
        "last_seen_user_agent": origin.user_agent,
        "last_seen_remote_ip": str(origin.remote_ip),
        "last_seen_remote_ip_location_region": origin.region,
        "last_seen_remote_ip_location_city": origin.city,
        "last_seen_remote_ip_location_lat": origin.lat,
        "last_seen_remote_ip_location_lon": origin.lon,
        "last_seen_version": announced_version(origin.user_agent),
    }


def invalid_token() -> Refused:
    """401: the only status that stops a peer for good."""
    return Refused(HTTPStatus.UNAUTHORIZED, "invalid_token", "Invalid token")


async def connect_client(
    known: KnownClients,
    devices: ClientDevices,
    shown: Token,
    query: Mapping[str, str],
    origin: Origin,
    listening: Listening,
    *,
    is_one_of_many: bool,
) -> ConnectedClient:
    """Find the client's rows; a device that connects for the first time is created.

    Args:
        shown: the token, which is genuine, but perhaps revoked.
        listening: follows the device before its grants are read, which are not if what it reports is written.
        is_one_of_many: there is a crowd, which is looked up together.

    Raises:
        Refused: the token is dead, the account is over its limit, or the query does not validate, in this order.
    """
    parameters: ClientParameters | None = None
    fault: Refused | None = None
    try:
        parameters = _checked_client(query, origin)
    except Refused as refused:
        fault = refused
    found = await known.find(shown, parameters, listening, is_one_of_many=is_one_of_many)
    if found is None:
        raise invalid_token()
    if found.is_over_limit:
        raise Refused(
            HTTPStatus.PAYMENT_REQUIRED, "limits_exceeded", "The account has more users than it may have"
        )
    if parameters is None:
        assert fault is not None
        raise fault
    device, held = found.device, found.held
    if device is None or held is None:
        device, is_new = await devices.save(found.actor, parameters)
        if is_new:
            # Made while the view was listened to: what happened to it since is heard, and nothing was granted before.
            listening.follow(device.id)
            held = ()
    return ConnectedClient(
        found.account, found.actor, found.token, device, parameters.public_key, origin, held
    )


async def connect_gateway(
    services: Services, shown: Token, query: Mapping[str, str], origin: Origin
) -> ConnectedGateway:
    """Find the gateway's rows; one that connects with a site's token for the first time is created.

    Raises:
        Refused: as `connect_client`; also when the token's device is gone.
    """
    async with services.store.reading() as transaction:
        try:
            account, token = await credentials.find_gateway(shown, transaction=transaction)
        except InvalidToken:
            raise invalid_token() from None
        if token.rotated_at is not None and token.rotated_at + credentials.ROTATION_GRACE <= transaction.now:
            raise invalid_token()
        if account.is_disabled:
            # Not the token's fault: the gateway tries again, and is back when a deletion is cancelled.
            raise Refused(HTTPStatus.FORBIDDEN, "account_disabled", "The account is disabled")
        parameters = _checked_gateway(query)
        device = await _find_gateway(transaction, token, parameters)
    if token.device_id is not None:
        if device is None:
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "unhandled_connect_error", "the gateway is gone")
        if token.rotated_at is None:
            await _finish_rotation(services, token)
    elif device is None:
        device = await _make_gateway(services, token, parameters)
    return ConnectedGateway(account, token, device, parameters.public_key, origin)


async def connect_relay(
    services: Services, shown: Token, query: Mapping[str, str], origin: Origin
) -> ConnectedRelay:
    """Check a relay's token and addresses.

    Raises:
        Refused: as `connect_client`; also a relay without an address.
    """
    async with services.store.reading() as transaction:
        try:
            token = await credentials.find_relay(shown, transaction=transaction)
        except InvalidToken:
            raise invalid_token() from None
    try:
        parameters = parse_relay_parameters(query)
    except InvalidConnectParameters as error:
        raise _invalid(error) from error
    if parameters.ipv4 is None and parameters.ipv6 is None:
        raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "unhandled_connect_error", "missing_ip")
    return ConnectedRelay(token, parameters, origin)


def _checked_client(query: Mapping[str, str], origin: Origin) -> ClientParameters:
    problems: tuple[tuple[str, str], ...] = ()
    if announced_version(origin.user_agent) is None:
        problems = (("user_agent", "is invalid"),)
    try:
        parameters = parse_client_parameters(query)
    except InvalidConnectParameters as error:
        raise _invalid(InvalidConnectParameters((*error.problems, *problems))) from error
    if problems:
        raise _invalid(InvalidConnectParameters(problems))
    return parameters


def _checked_gateway(query: Mapping[str, str]) -> GatewayParameters:
    try:
        return parse_gateway_parameters(query)
    except InvalidConnectParameters as error:
        raise _invalid(error) from error


def _invalid(error: InvalidConnectParameters) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_connect_params", str(error))


async def _find_gateway(
    transaction: Transaction, token: GatewayToken, parameters: GatewayParameters
) -> Device | None:
    devices = transaction.of(token.account_id).devices
    if token.device_id is not None:
        return await devices.load(token.device_id)
    return await devices.find_by(site_id=token.site_id, firezone_id=parameters.external_id)


async def _make_gateway(services: Services, token: GatewayToken, parameters: GatewayParameters) -> Device:
    async with services.store.writing() as transaction:
        found = await _find_gateway(transaction, token, parameters)
        if found is not None:
            return found
        return await transaction.of(token.account_id).devices.insert(
            Device(
                id=transaction.new_id(),
                account_id=token.account_id,
                type="gateway",
                name=parameters.name or _letters(transaction, 5),
                psk_base=transaction.random_bytes(PSK_BASE_BYTES),
                firezone_id=parameters.external_id,
                site_id=token.site_id,
            )
        )


async def _finish_rotation(services: Services, token: GatewayToken) -> None:
    """Delete the tokens that this one replaces, which disconnects stragglers (§2.4)."""
    async with services.store.reading() as transaction:
        tokens = transaction.of(token.account_id).gateway_tokens
        rotated = (tokens.c.device_id == token.device_id, tokens.c.rotated_at.is_not(None))
        if await tokens.find(*rotated) is None:
            return
    async with services.store.writing() as transaction:
        await transaction.of(token.account_id).gateway_tokens.delete_where(*rotated)


def _letters(transaction: Transaction, count: int) -> str:
    return "".join("abcdefghijklmnop"[byte % 16] for byte in transaction.random_bytes(count))
