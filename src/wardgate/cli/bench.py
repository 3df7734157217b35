"""`wardgate bench control`: a crowd of peers against a portal, and what was seen."""

import asyncio
import json
import random
from dataclasses import asdict
from typing import Final

import wardgate
from wardgate.cli.commands import bench as options
from wardgate.cli.errors import UserError
from wardgate.cli.garbage import settle
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import Terminal, echo
from wardgate.connect.portal_session import SessionEnded
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.portal_link import PortalRefused, PortalUnreachable
from wardgate.peer.crowd import Crowd, Percentiles, Plan, Report

INCOMPLETE: Final = 9
"""The exit code; those below it are taken (`cli.errors`, `explain`, `protocol`)."""


def control(settings: Settings) -> int:
    """Carry out the plan and print what was seen.

    Raises:
        UserError: something is missing, or the portal does not let the crowd in.
    """
    plan = _plan(settings)
    terminal = Terminal.of_this_process()
    if raise_descriptor_limit() < plan.clients + plan.gateways + 64:
        raise UserError("this process may not open so many sockets: raise its limit with `ulimit -n`")
    settle()  # a pass of the collector would count as the portal's time
    crowd = Crowd(plan, rng=random.Random(), say=terminal.note)  # noqa: S311 - keys of nobody
    try:
        report = asyncio.run(crowd.run())
    except ExceptionGroup as group:
        raise _told(group.exceptions[0]) from group
    echo(json.dumps(asdict(report), indent=2) if settings[AS_JSON] else _as_text(report))
    return INCOMPLETE if report.absent or report.unanswered else 0


def _plan(settings: Settings) -> Plan:
    url, client_token = settings[options.API_URL], settings[options.CLIENT_TOKEN]
    gateway_token, gateways = settings[options.GATEWAY_TOKEN], settings[options.GATEWAYS]
    if url is None:
        raise UserError(
            "where is the portal? Give --api-url wss://portal.example.org or set WARDGATE_API_URL"
        )
    if client_token is None:
        raise UserError("clients need a token: set WARDGATE_CLIENT_TOKEN, or WARDGATE_CLIENT_TOKEN_FILE")
    if gateways and gateway_token is None:
        raise UserError("gateways need a token: set WARDGATE_GATEWAY_TOKEN, or WARDGATE_GATEWAY_TOKEN_FILE")
    return Plan(
        url=url,
        client_token=client_token,
        gateway_token=gateway_token,
        clients=settings[options.CLIENTS],
        gateways=gateways,
        connects_per_s=settings[options.RATE],
        resource_id=settings[options.RESOURCE],
        requests=settings[options.REQUESTS],
        requests_per_s=settings[options.REQUEST_RATE],
        hold_s=settings[options.HOLD],
        product_version=wardgate.__version__,
    )


def _told(error: BaseException) -> BaseException:
    match error:
        case PortalRefused():
            return UserError(f"the portal refuses the token: {error}")
        case PortalUnreachable():
            return UserError(f"no way to the portal: {error}")
        case SessionEnded():
            return UserError(f"the portal ended the session of a peer: {error}")
        case _:
            return error


def _as_text(report: Report) -> str:
    lines = []
    for name, found in (
        ("connect to init", report.connect),
        ("request to gateway", report.authorise),
        ("request to answer", report.granted),
        ("away until back", report.away),
        ("late by itself", report.late),
    ):
        if found is not None:
            lines.append(_line(name, found))
    for name, counts in (("refused", report.refused), ("denied", report.failed), ("lost", report.lost)):
        lines += [f"{name}: {count} times {what}" for what, count in counts.items()]
    if report.returned:
        lines.append(f"{report.returned} times a peer came back")
    lines.append(f"{report.absent} clients away at the end, {report.unanswered} requests without an answer")
    return "\n".join(lines)


def _line(name: str, found: Percentiles) -> str:
    return f"{name}: {found.count}, p50 {found.p50_ms:g} ms, p99 {found.p99_ms:g} ms, at most {found.max_ms:g} ms"
