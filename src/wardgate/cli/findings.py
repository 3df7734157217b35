"""What `wardgate doctor` looks at, one function a thing; each returns what it found and, if need be, the cure.

Nothing is changed, and a check that cannot be made is itself a finding.
"""

import asyncio
import email.utils
import errno
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import wardgate
from wardgate.connect.connections import ConnectionView
from wardgate.net.certificate_refusal import certificate_refusal
from wardgate.net.errors import HostRefused
from wardgate.net.firewall import ForwardAccepts
from wardgate.net.host_dns import RESOLV_CONF, Method
from wardgate.net.nftables import Nftables, NftCommand
from wardgate.net.resolv_conf import name_servers as servers_in
from wardgate.net.resolv_conf import names_a_sentinel
from wardgate.net.sysctl import PROC_SYS
from wardgate.peer.status import DnsView, Status

TIMEOUT_S: Final = 10.0
MAX_SKEW_S: Final = 30.0
"""Beyond it, TURN credentials and expiries are misjudged; TLS survives more."""
LEAST_ROOM: Final = 200 * 1024 * 1024  # bytes
LEAST_MTU: Final = (
    1280 + 80
)  # bytes: the tunnel's own, with the outer headers of IPv6, UDP, WireGuard and a relay
SOON: Final = 14 * 86_400  # seconds
ENOUGH_QUESTIONS: Final = 20
MAX_UNANSWERED: Final = 0.2  # of the questions to name servers; each that is lost is a program that waits
MAX_LOSS: Final = 0.02  # of the packets from a peer; from there on TCP is slow


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `cure` is empty when nothing is wrong."""

    what: str
    state: State
    message: str
    cure: str = ""

    @classmethod
    def ok(cls, what: str, message: str) -> "Finding":
        return cls(what, State.OK, message)

    @classmethod
    def warning(cls, what: str, message: str, cure: str) -> "Finding":
        return cls(what, State.WARNING, message, cure)

    @classmethod
    def fault(cls, what: str, message: str, cure: str) -> "Finding":
        return cls(what, State.FAULT, message, cure)


def portal_findings(url: str, *, ca_file: Path | None = None) -> Iterator[Finding]:
    """Look at the way to the portal as a peer goes it: name, port, TLS, answer, version, clock."""
    parts = urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme in ("wss", "https")
    port = parts.port or (443 if is_secure else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Finding.fault(
            "name of the portal", f"{host} has no address here: {error.strerror or error}",
            "check the URL, and this host's resolver (/etc/resolv.conf)",
        )  # fmt: skip
        return
    yield Finding.ok(
        "name of the portal", f"{host} is {', '.join(sorted({str(one[4][0]) for one in found}))}"
    )
    context = ssl.create_default_context(cafile=ca_file) if is_secure else None
    connection = (
        HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        if context is not None
        else HTTPConnection(host, port, timeout=TIMEOUT_S)
    )
    with closing(connection):
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/readyz")
            answer = connection.getresponse()
            body, date = answer.read(64 * 1024).decode(errors="replace"), answer.headers.get("date")
        except ssl.SSLCertVerificationError as error:
            yield Finding.fault(
                "certificate of the portal", f"is not accepted: {certificate_refusal(error)}",
                "renew it on the portal, or install here the authority that signed it; is this host's clock right?",
            )  # fmt: skip
            return
        except (OSError, HTTPException) as error:
            yield Finding.fault(
                "portal", f"{host}:{port} does not answer: {_reason(error)}",
                f"allow TCP {port} from here to {host}, and see that the portal runs",
            )  # fmt: skip
            return
    if answer.status != 200:
        yield Finding.warning("portal", f"answers {answer.status}: {body[:200]}", "see the portal's log")
    elif f'"{wardgate.__version__}"' in body:
        yield Finding.ok("portal", f"is ready, and of the same version ({wardgate.__version__})")
    else:
        yield Finding.warning(
            "versions", f"the portal says {body[:200]}, this is {wardgate.__version__}",
            "upgrade the portal first, then this host",
        )  # fmt: skip
    if not is_secure:
        yield Finding.warning(
            "portal", "is reached without TLS", "give the portal a certificate, and use wss://"
        )
    yield from _clock(date)


def _clock(date: str | None) -> Iterator[Finding]:
    if date is None:
        return
    try:
        skew = (datetime.now(UTC) - email.utils.parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return
    if abs(skew) <= MAX_SKEW_S:
        yield Finding.ok("clock", "agrees with the portal's")
    else:
        ahead = "ahead of" if skew > 0 else "behind"
        yield Finding.fault(
            "clock", f"is {_skew_text(abs(skew))} {ahead} the portal's",
            "set it, and keep it by NTP (timedatectl set-ntp true); access ends at the wrong time otherwise",
        )  # fmt: skip


def _skew_text(seconds: float) -> str:
    """Such as 42 s, 0:05:00, and 400 days, 0:00:01."""
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def tunnel_device(path: Path = Path("/dev/net/tun")) -> Finding:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        cure = (
            "load the module (modprobe tun), or give the container the device"
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
            else "run this as root, or allow the user to open it"
        )
        return Finding.fault("tunnel device", f"{path}: {error.strerror}", cure)
    return Finding.ok("tunnel device", f"{path} can be opened")


def tool(name: str, *, package: str, why: str) -> Finding:
    if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        return Finding.fault(f"command {name}", f"is missing: {why}", f"apt-get install {package}")
    return Finding.ok(f"command {name}", "is there")


def mtu(
    interfaces: Path = Path("/sys/class/net"), routes: Path = Path("/proc/net/route")
) -> Iterator[Finding]:
    """Look at the interfaces of IPv4's default routes."""
    try:
        lines = [line.split() for line in routes.read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return
    for name in sorted(
        {fields[0] for fields in lines if len(fields) > 7 and fields[1] == fields[7] == "00000000"}
    ):
        try:
            found = int((interfaces / name / "mtu").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if found < LEAST_MTU:
            yield Finding.warning(
                "mtu", f"{name} carries {found} bytes at most, full packets of the tunnel take {LEAST_MTU}",
                f"raise it: ip link set {name} mtu 1500, if the network allows it",
            )  # fmt: skip
        else:
            yield Finding.ok("mtu", f"{name} carries {found} bytes")


def forwarding(
    interface: str, *, is_running: bool, nft: Nftables | None = None, proc_sys: Path = PROC_SYS
) -> Iterator[Finding]:
    """Look at what decides whether a gateway's host forwards; a gateway sets it when it starts, and keeps it so."""
    for parameter in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        name, file = parameter.replace("/", "."), proc_sys / parameter
        try:
            is_on = file.read_text(encoding="ascii").strip() != "0"
        except OSError:
            continue  # a host without this family
        if is_on:
            yield Finding.ok("sysctl", f"{name} is on")
        elif not os.access(file, os.W_OK):
            yield Finding.fault(
                "sysctl", f"{name} is off, and cannot be set from here",
                f"run this as root; in a container, start it with the option --sysctl {name}=1",
            )  # fmt: skip
        elif is_running:
            yield Finding.fault(
                "sysctl", f"{name} is off while the gateway runs",
                "find what turns it off (grep -r forward /etc/sysctl.d); the gateway turns it on again",
            )  # fmt: skip
        else:
            yield Finding.ok("sysctl", f"{name} is off; the gateway turns it on when it starts")
    accepts = ForwardAccepts(nft or NftCommand(), interface=interface)
    try:
        chains = [chain for chain in asyncio.run(accepts.read()) if chain.drops]
    except (OSError, HostRefused) as error:
        yield Finding.warning("forward chains", str(error), "run this as root, with nftables installed")
        return
    for chain in chains:
        if not accepts.differs((chain,)):
            yield Finding.ok("forward chains", f"`{chain}` drops, and lets {interface} pass")
        elif is_running:
            yield Finding.fault(
                "forward chains", f"`{chain}` drops what comes from and goes to {interface}",
                f"accept packets from and to {interface} there; the gateway does so, unless it is refused",
            )  # fmt: skip
        else:
            yield Finding.ok("forward chains", f"`{chain}` drops; the gateway has it let {interface} pass")


def name_servers(dns: DnsView | None, resolv_conf: Path = RESOLV_CONF) -> Finding:
    """Look at whom this host's programs ask for names; `dns`: what a running client says of it."""
    try:
        text = resolv_conf.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        text, why = "", error.strerror or str(error)
    else:
        why = "names none"
    asked = ", ".join(map(str, servers_in(text)))
    if not asked:
        return Finding.fault(
            "name servers", f"{resolv_conf}: {why}", f"write a line `nameserver ADDRESS` into {resolv_conf}"
        )
    if dns is not None and dns.method == Method.RESOLV_CONF and not names_a_sentinel(text):
        return Finding.fault(
            "name servers", f"programs ask {asked}, not the client: names of resources are unknown to them",
            f"find what rewrites {resolv_conf}, or give the client --dns-control systemd-resolved where that runs",
        )  # fmt: skip
    return Finding.ok("name servers", f"programs ask {asked}")


def room(directory: Path) -> Finding:
    """Look at the disk of a directory, or of the nearest that exists above it."""
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < LEAST_ROOM:
        return Finding.fault(
            "disk",
            f"{directory} has {free // 1_000_000} MB left",
            "free some: nothing can be kept when it is full",
        )
    return Finding.ok("disk", f"{directory} has {free / 1e9:.1f} GB left")


def running(status: Status) -> Iterator[Finding]:
    """Look at what a running client or gateway tells of itself."""
    if status.version != wardgate.__version__:
        yield Finding.warning(
            "versions", f"{status.version} runs, {wardgate.__version__} is installed",
            f"systemctl restart wardgate-{status.part}",
        )  # fmt: skip
    if status.is_connected:
        yield Finding.ok(f"running {status.part}", "is connected to the portal")
    else:
        yield Finding.fault(
            f"running {status.part}",
            "is not connected to the portal",
            f"journalctl -u wardgate-{status.part} says why",
        )
    if status.relays:
        yield Finding.ok(
            "relays", f"{len(status.relays)} reached over UDP, the nearest in {status.relays[0].rtt_ms:g} ms"
        )
    elif status.is_connected:
        yield Finding.warning(
            "relays", "none is reached", "allow UDP to port 3478 of the relays, and see that a relay runs"
        )
    for resource in status.resources:
        if resource.refusal is not None:
            yield Finding.warning(
                "access", f"to {resource.kind} {resource.name!r} was refused: {resource.refusal}",
                "`wardgate why HOST` tells which conditions are not met",
            )  # fmt: skip
    yield from _connections(status.connections)
    for setting in status.host:
        if setting.refusal is not None:
            yield Finding.fault("this host", f"refuses {setting.name}: {setting.refusal}", "see docs/host.md")
        elif setting.repairs:
            yield Finding.warning(
                "this host", f"{setting.name} was put back {setting.repairs} times",
                "find out which other program changes it, such as a firewall's or network manager's reload",
            )  # fmt: skip
    asked, unanswered = (status.counts.get(name, 0) for name in ("dns_forwarded", "dns_unanswered"))
    if asked >= ENOUGH_QUESTIONS and unanswered > MAX_UNANSWERED * asked:
        yield Finding.warning(
            "name servers", f"did not answer {unanswered} of {asked} questions since the {status.part} started",
            "ask them as it does: dig @SERVER NAME; `wardgate status` names a client's, /etc/resolv.conf a gateway's",
        )  # fmt: skip
    for name in ("udp_receive_dropped", "udp_send_dropped"):
        if dropped := status.counts.get(name, 0):
            yield Finding.warning(
                "socket buffers", f"{dropped} datagrams were lost in them ({name})",
                "raise net.core.rmem_max and wmem_max (docs/host.md)",
            )  # fmt: skip


def _connections(connections: tuple[ConnectionView, ...]) -> Iterator[Finding]:
    """Look at the connections together: a gateway has many."""
    standing = [one for one in connections if one.path is not None]
    relayed = [one for one in standing if one.path != "direct"]
    if relayed:
        yield Finding.warning(
            "paths", f"{len(relayed)} of {len(standing)} are relayed; to {relayed[0].peer_id} {relayed[0].why}",
            "let UDP from the tunnel's port out to any address; docs/install.md lists ports",
        )  # fmt: skip
    losses = [(one.figures.loss, one.peer_id) for one in standing if one.figures is not None]
    losing = [(loss, peer_id) for loss, peer_id in losses if loss is not None and loss > MAX_LOSS]
    if losing:
        loss, peer_id = max(losing)
        yield Finding.warning(
            "loss", f"{len(losing)} of {len(standing)} connections lose packets; {100 * loss:.1f} % of those"
            f" from {peer_id} do not arrive",
            "look for a full link, or a path MTU below 1,400 bytes, between the two",
        )  # fmt: skip


def udp_port(port: int) -> Finding:
    """Look whether a port is free, or held, as by the very process that is looked after."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Finding.ok("port", f"UDP {port} is in use, as it is while the service runs")
        return Finding.fault("port", f"UDP {port}: {error.strerror}", "choose another with --listen-port")
    return Finding.warning("port", f"UDP {port} is free: nothing serves it", "start the service")


def certificate(file: Path, now: datetime) -> Finding:
    """Look at how long a certificate is good for."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        return Finding.fault("certificate", f"{file}: {error}", "name a PEM file that this user can read")
    left = (found.not_valid_after_utc - now).total_seconds()
    if left < 0:
        return Finding.fault(
            "certificate", f"{file} has expired", "renew it; the portal takes the new one by itself"
        )
    if left < SOON:
        return Finding.warning("certificate", f"{file} ends in {left / 86_400:.0f} days", "renew it")
    return Finding.ok("certificate", f"{file} is good for {left / 86_400:.0f} days")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
