"""What a peer decides about flow records: whether the engine records, under what, and where records go
(data-plane §5.8).

```
 portal ──init.flow_logs──► ┌─────────────┐ ──RecordFlows──► engine
        ──ingest tokens───► │ FlowLogging │ ◄──FlowsReported──
                            └─────────────┘ ──UploadFlows, KeepToken, KeepFlows──► spool, uploader
```

The portal's `init` says how often to upload; 0 ends recording, unless this host wants to see flows in its own log. Each
authorization brings a token: its claims say whether the policy wants records, and it is what they are uploaded with.
A flow of a client has the proxy address of a name: only here the name is known.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from msgspec import UNSET, UnsetType

from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import Programmable
from wardgate.wire.errors import RemoteProtocolError
from wardgate.wire.flow_records import FlowRecord, Outer, records_at_a_time
from wardgate.wire.ingest_tokens import parse_ingest_token
from wardgate.wire.messages import FlowLogs

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Role = Literal["initiator", "responder"]


@dataclass(frozen=True, slots=True)
class UploadFlows:
    """Upload to this portal from now on, every so many seconds; 0: not at all."""

    api_url: str
    interval_s: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class KeepToken:
    """Keep what an authorization's records are uploaded with."""

    role: Role
    authorization_id: str
    token: str
    expires_at: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class KeptFlow:
    role: Role
    authorization_id: str
    record: FlowRecord


@dataclass(frozen=True, slots=True)
class KeepFlows:
    """Keep records until they are uploaded; those of authorizations without a token are not wanted."""

    flows: tuple[KeptFlow, ...]


FlowAction = UploadFlows | KeepToken | KeepFlows


class FlowLogging:
    """One peer's. `prints`: write every flow to the log, whatever the portal wants."""

    def __init__(
        self,
        engine: Programmable,
        emit: Callable[[FlowAction], None],
        *,
        clock: ClockOffset,
        prints: bool,
        counts: bool = False,
        name_of: Callable[[str], str | None] | None = None,
    ) -> None:
        """Take what flows are for.

        Args:
            counts: have the engine record every flow, so that it knows how many are open.
            name_of: tells whose proxy address it is; for clients.
        """
        self._engine: Final = engine
        self._emit: Final = emit
        self._clock = clock
        self._prints: Final = prints
        self._records_all: Final = prints or counts
        self._name_of: Final = name_of
        self._uploads = False

    def handle_init(self, setting: FlowLogs | UnsetType) -> None:
        """Take over what the portal wants; an old one does not say, and gets nothing."""
        if setting is UNSET:
            setting = FlowLogs("", 0, 0)
        self._uploads = setting.upload_interval_secs > 0
        self._programme()
        self._emit(
            UploadFlows(
                setting.api_url, setting.upload_interval_secs, records_at_a_time(setting.upload_batch_size)
            )
        )

    def handle_clock_step(self, clock: ClockOffset) -> None:
        """The wall clock was set: flows that begin from now on count on it."""
        self._clock = clock
        self._programme()

    def handle_token(self, token: str | UnsetType) -> str | None:
        """Take the token of a grant; return the authorization that its flows are to be recorded under, if any."""
        if token is UNSET:
            return None
        try:
            claims = parse_ingest_token(token)
        except RemoteProtocolError as error:
            log.warning("flows of a grant are not recorded: its token is wrong", extra={"reason": str(error)})
            return None
        authorization_id = str(claims.policy_authorization_id)
        if claims.uploads_enabled:
            self._emit(KeepToken(claims.role, authorization_id, token, claims.exp))
        return authorization_id if claims.uploads_enabled or self._records_all else None

    def handle_reports(self, event: e.FlowsReported) -> None:
        """Hand flows on that have begun or ended."""
        if event.lost:
            log.warning("flow records were lost: too many at once", extra={"lost": event.lost})
        flows = tuple(self._kept(report) for report in event.reports)
        if self._prints:
            for flow in flows:
                _print(flow)
        if self._uploads:
            self._emit(KeepFlows(flows))

    def _programme(self) -> None:
        is_on = self._uploads or self._records_all
        try_apply(self._engine, c.RecordFlows(is_on, self._clock.unix_at_zero))

    def _kept(self, report: e.FlowReport) -> KeptFlow:
        (source, source_port), (destination, destination_port) = report.initiator, report.responder
        domain = report.domain if self._name_of is None else self._name_of(destination)
        end = report.end
        record = FlowRecord(
            protocol=report.protocol,
            inner_src_ip=source,
            inner_src_port=source_port,
            inner_dst_ip=destination,
            inner_dst_port=destination_port,
            domain=domain,
            outers=tuple(map(_outer, report.paths)),
            flow_start=_rfc_3339(report.started_at_us),
            flow_end=None if end is None else _rfc_3339(end.ended_at_us),
            last_packet=None if end is None else _rfc_3339(end.last_packet_at_us),
            rx_packets=None if end is None else end.rx_packets,
            tx_packets=None if end is None else end.tx_packets,
            rx_bytes=None if end is None else end.rx_bytes,
            tx_bytes=None if end is None else end.tx_bytes,
        )
        return KeptFlow(report.role, report.authorization_id, record)


def _outer(path: e.FlowPath) -> Outer:
    destination, destination_port = _split(path.destination)
    source, source_port = (None, None) if path.source is None else _split(path.source)
    return Outer(
        src_ip=source,
        src_port=source_port,
        dst_ip=destination,
        dst_port=destination_port,
        path_activated_at=_rfc_3339(path.activated_at_us),
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _rfc_3339(unix_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=unix_us)).isoformat().replace("+00:00", "Z")


def _print(flow: KeptFlow) -> None:
    record = flow.record
    what = {
        "authorization_id": flow.authorization_id,
        "role": flow.role,
        "protocol": record.protocol,
        "source": f"{record.inner_src_ip} {record.inner_src_port}",
        "destination": f"{record.inner_dst_ip} {record.inner_dst_port}",
    }
    if record.domain is not None:
        what["domain"] = record.domain
    if record.flow_end is None:
        log.info("flow begun", extra=what)
        return
    sizes = {name: getattr(record, name) for name in ("tx_packets", "rx_packets", "tx_bytes", "rx_bytes")}
    log.info("flow ended", extra={**what, "flow_start": record.flow_start, **sizes})
