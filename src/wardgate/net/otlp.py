"""Metrics and spans for an OpenTelemetry collector, over OTLP/HTTP, as the standard `OTEL_*` variables say.

Off unless an endpoint is set; then nothing of OpenTelemetry is even imported. The metrics are those of `/metrics`,
pushed every `OTEL_METRIC_EXPORT_INTERVAL`; counters and histograms are cumulative. Spans are recorded when they have
ended. What cannot be delivered is dropped and logged by the exporter; nothing waits for the collector.

Deliberately absent: gRPC, logs (they go to the journal), and any name of a person or device in a metric's attributes.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import wardgate
from wardgate.supervision import Tasks

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData
    from prometheus_client import Metric

ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
DEFAULT_INTERVAL_MS: Final = 60_000.0  # OpenTelemetry's
LEAST_INTERVAL_MS: Final = 1_000.0  # ours
SPOKEN: Final = "http/protobuf"
Record = Callable[[str, float, Mapping[str, str | int], Mapping[str, str]], None]
"""Name of a span that has just ended, how many seconds it took, its attributes, and what the caller's trace is (W3C
`traceparent`, `tracestate`), if there is one."""

Read = Callable[[], Awaitable[str | None]]
"""Give the process' metrics in Prometheus' text format; None if there are none now."""

log = logging.getLogger(__name__)


class OtlpUnusable(Exception):
    """The variables ask for what cannot be done here."""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether an endpoint is set, and OpenTelemetry not switched off."""
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not is_disabled and any(environment.get(name) for name in ENDPOINTS)


@contextlib.asynccontextmanager
async def exported(part: str, environment: Mapping[str, str], read: Read) -> AsyncIterator[Record | None]:
    """Push a part's metrics until the block ends, and once more then; yields what records spans, None for nobody.

    Args:
        part: `portal`, `relay`, `gateway` or `client`.
        environment: where the variables are; the exporters themselves read `os.environ`.

    Raises:
        OtlpUnusable: a variable asks for what is not spoken, or OpenTelemetry is not installed.
    """
    if not is_wanted(environment):
        yield None
        return
    exporters = await asyncio.to_thread(_Exporters, part, environment)
    tasks = Tasks()
    if exporters.metrics is not None:
        tasks.start(_push(exporters, read, _interval_s(environment)), name="metrics for the collector")
    log.info("metrics and spans are exported over OTLP", extra={"signals": exporters.signals})
    try:
        yield exporters.record if exporters.tracer is not None else None
    finally:
        await tasks.close()
        await _push_once(exporters, read)
        await asyncio.to_thread(exporters.close)


async def _push(exporters: "_Exporters", read: Read, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        await _push_once(exporters, read)


async def _push_once(exporters: "_Exporters", read: Read) -> None:
    text = None if exporters.metrics is None else await read()
    if text is not None:
        await asyncio.to_thread(exporters.push, text)


def _interval_s(environment: Mapping[str, str]) -> float:
    text = environment.get("OTEL_METRIC_EXPORT_INTERVAL") or str(DEFAULT_INTERVAL_MS)
    try:
        return max(float(text), LEAST_INTERVAL_MS) / 1000
    except ValueError as error:
        raise OtlpUnusable(
            f"OTEL_METRIC_EXPORT_INTERVAL is {text!r}, not a number of milliseconds"
        ) from error


def _is_signal_on(environment: Mapping[str, str], signal: str) -> bool:
    """Tell whether one signal is exported.

    Raises:
        OtlpUnusable: by an exporter or in a protocol that is not ours.
    """
    exporter = environment.get(f"OTEL_{signal}_EXPORTER") or "otlp"
    if exporter == "none":
        return False
    if exporter != "otlp":
        raise OtlpUnusable(f"OTEL_{signal}_EXPORTER is {exporter!r}: there are otlp and none")
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name) or SPOKEN
        if protocol != SPOKEN:
            raise OtlpUnusable(
                f"{name} is {protocol!r}: only {SPOKEN} is spoken, to which collectors listen on port 4318"
            )
    return any(environment.get(name) for name in ENDPOINTS if signal in name or name == ENDPOINTS[0])


class _Exporters:
    """OpenTelemetry's exporters and what they say of this process."""

    def __init__(self, part: str, environment: Mapping[str, str]) -> None:
        wanted = {signal: _is_signal_on(environment, signal) for signal in ("METRICS", "TRACES")}
        _interval_s(environment)
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise OtlpUnusable(
                "an OTLP endpoint is set, but OpenTelemetry is not installed: pip install 'wardgate[otlp]'"
            ) from error
        attributes = {"service.namespace": "wardgate", "service.version": wardgate.__version__}
        named = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not environment.get("OTEL_SERVICE_NAME") and "service.name=" not in named:
            attributes["service.name"] = f"wardgate-{part}"
        attributes = {name: value for name, value in attributes.items() if f"{name}=" not in named}
        self._resource: Any = Resource.create(attributes)
        self._started_at_ns = time.time_ns()
        self._propagator: Any = TraceContextTextMapPropagator()
        self.signals = [signal.lower() for signal, is_on in wanted.items() if is_on]
        self.metrics: Any = OTLPMetricExporter() if wanted["METRICS"] else None
        self._provider: Any = None
        self.tracer: Any = None
        if wanted["TRACES"]:
            self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            self.tracer = self._provider.get_tracer("wardgate", wardgate.__version__)

    def push(self, text: str) -> None:
        """Export metrics; what cannot be delivered is logged by the exporter."""
        from prometheus_client.parser import text_string_to_metric_families

        families = text_string_to_metric_families(text)
        self.metrics.export(metrics_data(families, self._resource, self._started_at_ns, time.time_ns()))

    def record(
        self, name: str, took_s: float, attributes: Mapping[str, str | int], caller: Mapping[str, str]
    ) -> None:
        """Record a span that has just ended."""
        ended_at_ns = time.time_ns()
        context = self._propagator.extract(caller) if caller else None
        span = self.tracer.start_span(
            name, context=context, start_time=ended_at_ns - int(took_s * 1e9), attributes=attributes
        )
        span.end(end_time=ended_at_ns)

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()
        if self.metrics is not None:
            self.metrics.shutdown()


def metrics_data(
    families: "Iterable[Metric]", resource: Any, started_at_ns: int, now_ns: int
) -> "MetricsData":
    """Turn what Prometheus reads into what OpenTelemetry exports; names lose `_total`, labels become attributes."""
    from opentelemetry.sdk.metrics import export as otel
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    cumulative = otel.AggregationTemporality.CUMULATIVE

    def number(sample: Any) -> Any:
        return otel.NumberDataPoint(sample.labels, started_at_ns, now_ns, sample.value)

    metrics = []
    for family in families:
        data: Any
        if family.type == "counter":
            points = [number(one) for one in family.samples if one.name.endswith("_total")]
            data = otel.Sum(points, cumulative, is_monotonic=True)
        elif family.type == "histogram":
            data = otel.Histogram(list(_histograms(family, started_at_ns, now_ns)), cumulative)
        else:
            data = otel.Gauge([number(one) for one in family.samples])
        metrics.append(otel.Metric(family.name, family.documentation, "", data))
    scope = InstrumentationScope("wardgate", wardgate.__version__)
    return otel.MetricsData([otel.ResourceMetrics(resource, [otel.ScopeMetrics(scope, metrics, "")], "")])


def _histograms(family: "Metric", started_at_ns: int, now_ns: int) -> Iterable[Any]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    by_labels: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        one = by_labels.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        if sample.name.endswith("_bucket"):
            one["buckets"].append((float(sample.labels["le"]), int(sample.value)))
        else:
            one[sample.name.removeprefix(f"{family.name}_")] = sample.value
    unknown: Any = None  # Prometheus does not keep them
    for key, one in by_labels.items():
        bounds, below = zip(*sorted(one["buckets"]), strict=True)
        counts = [count - before for count, before in zip(below, (0, *below), strict=False)]
        yield HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=started_at_ns,
            time_unix_nano=now_ns,
            count=int(one["count"]),
            sum=one["sum"],
            bucket_counts=counts,
            explicit_bounds=bounds[:-1],  # the last one is infinite
            min=unknown,
            max=unknown,
        )
