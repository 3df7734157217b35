"""`wardgate up`: portal, relay and gateway for real use on this machine, as three children of one parent.

The parent makes what is missing (account, tokens), hands each child its token in a file of mode 0600, starts
again what ends, with growing pauses, and takes all down on Ctrl-C or SIGTERM. Only the gateway keeps
CAP_NET_ADMIN. Everything that lasts is in the data directory, so a second start continues where the first one
was.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2

from wardgate.cli import logs
from wardgate.cli.commands import up as options
from wardgate.cli.errors import UserError
from wardgate.cli.init import SIGN_IN_LINK_LIFETIME_S, Wanted, initialise
from wardgate.cli.parameters import CONFIG
from wardgate.cli.portal_settings import listener_of, portal_settings
from wardgate.cli.profile import data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.portal import credentials, data_directory
from wardgate.portal.data_directory import DataDirectoryUnusable
from wardgate.portal.devices.rules import make_site_token
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Store, Transaction, Unusable
from wardgate.wire.tokens import InvalidToken

log = logging.getLogger(__name__)

READY_S: Final = 30.0
STOP_S: Final = 15.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
"""A child that ran this long is counted as well: its next pause is the first again."""

CLIENT_TOKEN_THERE: Final = "/etc/wardgate/client-token"  # noqa: S105 - where it goes on the client's host
CLIENT_TOKEN_LIFETIME: Final = timedelta(days=90)
_CAP_NET_BIND_SERVICE: Final = 10
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_CAPBSET_DROP: Final = 24
_LAST_CAPABILITY: Final = 63


def run(settings: Settings) -> None:
    """Run portal, relay and gateway until told to stop.

    Raises:
        UserError: one of them cannot start.
    """
    os.environ[logs.PART] = "up"
    logs.set_up(settings[options.LOG_FORMAT], settings[options.LOG_LEVEL])
    address = str(settings[options.PUBLIC_ADDRESS] or _own_address())
    directory = data_dir_of(settings)
    portal = portal_settings(settings, data_dir=directory, listen=options.LISTEN)
    if settings[options.EXTERNAL_URL] is None and portal.acme is None:
        scheme = "http" if portal.tls_certificate is None else "https"
        portal = replace(portal, external_url=f"{scheme}://{_in_url(address)}:{portal.port}")
    name, slug, email = (
        settings[one] for one in (options.ACCOUNT_NAME, options.ACCOUNT_SLUG, options.ADMIN_EMAIL)
    )
    # Another portal on this port would answer for ours: find out before anything is made.
    listener_of(portal).close()
    result = initialise(settings, portal, Wanted(name, slug, email), new_tokens=False, is_url_set=True)
    try:
        keys = data_directory.load_keys(directory)
        tokens = asyncio.run(_hand_over_tokens(portal, keys, result.account_slug))
    except (DataDirectoryUnusable, Unusable) as error:
        raise UserError(str(error)) from error
    plan = _children(portal, tokens, address, settings)
    has_gateway = any(child.name == "gateway" for child in plan)
    text = instructions(portal, result.sign_in_link, tokens, has_gateway=has_gateway)
    asyncio.run(_run(plan, portal, lambda: echo(text)))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Files of mode 0600, each with one token; and the secret of a link that signs the operator in, once."""

    relay: Path
    gateway: Path
    client: Path
    operator_link: str


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    capabilities: frozenset[int] | None  # None: all that the parent has


async def _hand_over_tokens(portal: PortalSettings, keys: Keys, slug: str) -> Tokens:
    """Make sure that each token file holds a token that works; make what does not."""
    assert portal.data_dir is not None
    folder = portal.data_dir / "peers"
    data_directory.prepare(folder)
    relay, gateway, client = (folder / f"{kind}-token" for kind in ("relay", "gateway", "client"))
    store = await Store.open(portal.database, Environment.of_this_process())
    try:
        async with store.writing() as transaction:
            account = await transaction.accounts.by_slug(slug)
            assert account is not None
            for path, find, make in (
                (relay, credentials.find_relay_token, _make_relay_token),
                (gateway, credentials.find_gateway_token, _make_gateway_token),
                (client, credentials.find_client_token, _make_client_token),
            ):
                with contextlib.suppress(OSError, InvalidToken):
                    await find(path.read_text().strip(), transaction=transaction, keys=keys)
                    continue
                text = await make(transaction, account, keys)
                data_directory.write_private(path, f"{text}\n".encode())
            operator_link = await credentials.issue_operator_link(
                lifetime_s=SIGN_IN_LINK_LIFETIME_S, transaction=transaction, keys=keys
            )
    finally:
        await store.close()
    return Tokens(relay, gateway, client, operator_link)


async def _make_relay_token(transaction: Transaction, _account: Account, keys: Keys) -> str:
    issued = await credentials.issue(
        transaction.relay_tokens, transaction=transaction, keys=keys, name="wardgate up"
    )
    return issued.text


async def _make_gateway_token(transaction: Transaction, account: Account, keys: Keys) -> str:
    tables = transaction.of(account.id)
    site = await tables.sites.find(tables.sites.c.managed_by == "account")
    if site is None:
        raise UserError("the account has no site for the gateway: make one first")
    issued = await make_site_token(tables, transaction, site.id, keys=keys)
    return issued.text


async def _make_client_token(transaction: Transaction, account: Account, keys: Keys) -> str:
    tables = transaction.of(account.id)
    admin = await tables.actors.find(tables.actors.c.type == "account_admin_user")
    assert admin is not None
    issued = await credentials.issue(
        tables.client_tokens,
        transaction=transaction,
        keys=keys,
        account_id=account.id,
        actor_id=admin.id,
        expires_at=transaction.now + CLIENT_TOKEN_LIFETIME,
    )
    return issued.text


def _children(portal: PortalSettings, tokens: Tokens, address: str, settings: Settings) -> list[_Child]:
    assert portal.data_dir is not None
    # With TLS or hosts of their own the external name is part of the way: then the children take it too.
    is_reached_by_address = portal.tls_certificate is None and portal.hosts is None
    inside = f"ws://127.0.0.1:{portal.port}/" if is_reached_by_address else f"{portal.socket_url}/"
    bare = {
        name: value for name, value in os.environ.items() if not name.startswith(("WARDGATE_", "FIREZONE_"))
    }
    log_lines = {
        "WARDGATE_LOG_FORMAT": settings[options.LOG_FORMAT],
        "WARDGATE_LOG_LEVEL": logging.getLevelName(settings[options.LOG_LEVEL]).lower(),
    }
    common = {**bare, **log_lines}
    # The portal reads what `up` itself has read: both must mean the same database and certificate.
    portals = {**os.environ, **log_lines}
    if settings[CONFIG] is not None:
        portals["WARDGATE_CONFIG"] = str(settings[CONFIG])
    family = "PUBLIC_IP6_ADDR" if ":" in address else "PUBLIC_IP4_ADDR"
    children = [
        _Child(
            "portal",
            ("portal", "--data-dir", str(portal.data_dir), "--listen",
            f"{_in_url(portal.host)}:{portal.port}",
             "--external-url", portal.external_url),
            portals,
            frozenset({_CAP_NET_BIND_SERVICE}),
        ),
        _Child(
            "relay",
            ("relay",),
            {**common, "WARDGATE_API_URL": inside, "WARDGATE_TOKEN_FILE": str(tokens.relay), family: address},
            frozenset({_CAP_NET_BIND_SERVICE}),
        ),
    ]  # fmt: skip
    if os.geteuid() == 0 and Path("/dev/net/tun").exists():
        gateway = {"WARDGATE_API_URL": inside, "WARDGATE_TOKEN_FILE": str(tokens.gateway)}
        children.append(_Child("gateway", ("gateway",), {**common, **gateway}, None))
    return children


def instructions(portal: PortalSettings, link: str, tokens: Tokens, *, has_gateway: bool) -> str:
    """What a person needs once everything is up. The client's token stays in its file: logs and process lists
    have many readers."""
    lines = [
        "",
        f"Wardgate is up at {portal.web_url}, data in {portal.data_dir}.",
        "",
        "Sign in within the hour; each link works once:",
        f"  as the account's administrator  {link}",
        f"  as the operator                 {portal.operator_sign_in_url(tokens.operator_link)}",
        "",
        f"Start a client elsewhere with the token in {tokens.client}:",
        f"  sudo install -D -m 600 /dev/stdin {CLIENT_TOKEN_THERE}    # paste the token, Enter, Ctrl-D",
        f"  sudo wardgate client --api-url {portal.socket_url} --token-path {CLIENT_TOKEN_THERE}",
    ]
    if portal.is_exposed:
        lines += [
            "",
            "Warning: this is plain HTTP on a public address: anyone on the path can read passwords and tokens.",
            "Let the portal get a certificate (WARDGATE_ACME_DOMAIN), give it one (WARDGATE_TLS_CERTIFICATE and",
            "WARDGATE_TLS_KEY), or put a TLS proxy in front of it and set --external-url (docs/deploy).",
        ]
    if not has_gateway:
        lines += [
            "",
            "No gateway runs here: it needs root and /dev/net/tun. Start `wardgate up` with sudo to have one.",
        ]
    return "\n".join([*lines, "", "Ctrl-C stops everything; the next start continues from here."])


async def _run(plan: list[_Child], portal: PortalSettings, on_ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    first, *others = plan
    process = await _start(first)
    try:
        await _wait_until_ready(process, portal, stop)
        if stop.is_set():
            return
        on_ready()
        async with asyncio.TaskGroup() as keepers:
            keepers.create_task(_keep(first, stop, process))
            for child in others:
                keepers.create_task(_keep(child, stop, None))
    finally:
        await _end(process)


async def _start(child: _Child) -> asyncio.subprocess.Process:
    environment = {**child.environment, logs.PART: child.name}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wardgate.cli.main",
        *child.arguments,
        env=environment,
        # Ctrl-C reaches the whole terminal group: the parent alone decides the order of the end.
        start_new_session=True,
        preexec_fn=lambda: _prepare(child.capabilities),
    )


async def _wait_until_ready(
    process: asyncio.subprocess.Process, portal: PortalSettings, stop: asyncio.Event
) -> None:
    """Wait for `/readyz`.

    Raises:
        UserError: the portal ended (it has said why), or is not ready in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_S
    async with httpx2.AsyncClient(timeout=1.0, verify=False, trust_env=False) as http:
        while not stop.is_set():
            if process.returncode is not None:
                raise UserError("the portal did not start; see its message above")
            with contextlib.suppress(httpx2.HTTPError):
                scheme = "https" if portal.tls_certificate is not None else "http"
                answer = await http.get(f"{scheme}://127.0.0.1:{portal.port}/readyz")
                if answer.status_code == 200:
                    return
            if loop.time() >= deadline:
                raise UserError(f"the portal is not ready after {READY_S:.0f} s; see its log above")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.1)


async def _keep(child: _Child, stop: asyncio.Event, process: asyncio.subprocess.Process | None) -> None:
    """Run a child until `stop`, starting it again when it ends."""
    loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            started_at = loop.time()
            process = process or await _start(child)
            ending = asyncio.create_task(process.wait())
            await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                ending.cancel()
                break
            pause_s = FIRST_PAUSE_S if loop.time() - started_at >= STEADY_S else pause_s
            log.warning(
                "a child ended; restarting it",
                extra={"child": child.name, "code": process.returncode, "in_s": pause_s},
            )
            process = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    finally:
        stopping.cancel()
        if process is not None:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _prepare(kept: frozenset[int] | None) -> None:
    """Between fork and exec: end with the parent however it ends; give up all capabilities but these (None
    keeps all)."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.geteuid() != 0 or kept is None:
        return
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in kept:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def _own_address() -> str:
    """Return the address that this machine uses towards the internet; no packet is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
