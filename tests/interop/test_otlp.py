"""Metrics and spans as a collector gets them: decoded by the published protocol's own classes."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from wardgate.net.exposition import exposition
from wardgate.net.otlp import ENDPOINTS, OtlpUnusable, exported, is_wanted
from wardgate.portal.metrics import Metrics

TRACE = "0af7651916cd43dd8448eb211c80319c"  # the example of W3C Trace Context
PARENT = "b7ad6b7169203331"


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    metrics: ClassVar[list[Any]] = []
    spans: ClassVar[list[Any]] = []
    headers_seen: ClassVar[list[str | None]] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.headers_seen.append(self.headers["x-tenant"])
        if self.path == "/v1/metrics":
            self.metrics.append(ExportMetricsServiceRequest.FromString(body))
        elif self.path == "/v1/traces":
            self.spans.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Yields the environment in which the exporters find it."""
    for kept in (Collector.metrics, Collector.spans, Collector.headers_seen):
        kept.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment
        server.shutdown()
        thread.join()


async def test_a_collector_gets_the_metrics_of_a_peer_and_its_spans(collector: dict[str, str]) -> None:
    async def read() -> str:
        return exposition("gateway", {"connections": 3, "packets_sent": 7})

    async with exported("gateway", collector, read) as record:
        assert record is not None
        caller = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        record("connect", 0.25, {"wardgate.peer_id": "gw-1"}, caller)
        record("connect", 0.5, {}, {"traceparent": "00-not-a-trace"})

    (request,) = Collector.metrics  # what is pushed at the end; the interval is a minute
    (resource,) = request.resource_metrics
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (named["service.name"], named["service.namespace"]) == ("wardgate-gateway", "wardgate")
    assert named["deployment.environment.name"] == "test"
    by_name = {one.name: one for one in resource.scope_metrics[0].metrics}
    assert by_name["wardgate_gateway_connections"].gauge.data_points[0].as_int == 3
    sent = by_name["wardgate_gateway_packets_sent"].sum
    assert (sent.is_monotonic, sent.aggregation_temporality, sent.data_points[0].as_int) == (True, 2, 7)

    spans = [
        span
        for one in Collector.spans
        for resource in one.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    joined, rooted = spans
    assert (joined.name, joined.trace_id.hex(), joined.parent_span_id.hex()) == ("connect", TRACE, PARENT)
    assert joined.end_time_unix_nano - joined.start_time_unix_nano == 250_000_000
    assert {one.key: one.value.string_value for one in joined.attributes} == {"wardgate.peer_id": "gw-1"}
    assert rooted.parent_span_id == b""
    assert set(Collector.headers_seen) == {"acme"}


async def test_histograms_and_labels_of_the_portal_arrive_as_they_are(collector: dict[str, str]) -> None:
    metrics = Metrics()
    metrics.requests.labels("rest", "200").inc(5)
    for took_s in (0.0001, 0.003, 7.0):
        metrics.decision_s.observe(took_s)

    async def read() -> str:
        return metrics.export(Counter(), {"client": 2}, {}, None).decode()

    environment = collector | {"OTEL_TRACES_EXPORTER": "none", "OTEL_SERVICE_NAME": "front"}
    async with exported("portal", environment, read) as record:
        assert record is None
    (request,) = Collector.metrics
    by_name = {one.name: one for one in request.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = by_name["wardgate_portal_decision_seconds"].histogram.data_points
    assert (point.count, point.sum, sum(point.bucket_counts)) == (3, pytest.approx(7.0031), 3)
    assert (point.bucket_counts[0], point.bucket_counts[3], point.bucket_counts[-1]) == (1, 1, 1)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    (answered,) = by_name["wardgate_portal_requests"].sum.data_points
    assert {one.key: one.value.string_value for one in answered.attributes} == {
        "part": "rest",
        "status": "200",
    }
    assert not Collector.spans


async def test_a_collector_that_refuses_ends_nothing(
    collector: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collector, "status", 400)

    async def read() -> str:
        return exposition("relay", {"allocations": 1})

    async with exported("relay", collector, read) as record:
        assert record is not None
        record("connect", 0.1, {}, {})
    assert Collector.metrics


async def nothing() -> str:
    raise AssertionError("nobody wants metrics")


async def test_without_an_endpoint_nothing_is_measured_or_imported() -> None:
    for environment in (
        {},
        {ENDPOINTS[0]: ""},
        {ENDPOINTS[0]: "http://collector", "OTEL_SDK_DISABLED": "true"},
    ):
        assert not is_wanted(environment)
        async with exported("relay", environment, nothing) as record:
            assert record is None


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "port 4318"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "there are otlp and none"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "often"}, "not a number of milliseconds"),
    ],
)
async def test_what_is_not_spoken_is_told_at_the_start(variables: dict[str, str], told: str) -> None:
    with pytest.raises(OtlpUnusable, match=told):
        async with exported("relay", {ENDPOINTS[0]: "http://collector"} | variables, nothing):
            raise AssertionError("it began all the same")
