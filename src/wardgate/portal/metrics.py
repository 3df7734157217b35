"""What one portal process counts and times, in Prometheus' terms (docs/metrics.md). No label names a person,
a device or an account.

Metrics that other parts move are attributes. What is known elsewhere (open channels, counted events) is read
when somebody scrapes. Times come from the environment's clock; the library's own is never asked.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

DECISION_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Around the budget of 5 ms."""

LAG_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
"""Around the 20 ms of a change made here and the 250 ms of one made by another process."""

FAULTS: Final = ("background_failures", "channel_crashes", "journal_failures", "rest_failures")
"""Events that stand at 0 from the start: to Prometheus a counter that begins at 1 has not increased, and nobody would
be told of the first."""

_DENIALS: Final = "denials_"
_REPLIES: Final = "replies_"


class Metrics:
    """The metrics of one process.

    Attributes:
        requests: HTTP answers by part (rest, web, health, upgrade) and status.
        channels_closed: control channels that ended, by kind of peer, close code, and who closed.
        decision_s: from a client's request to the gateway's or the denial's frame.
        feed_lag_s: from a change's commit to its arrival at a reader.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = CounterMetric(
            "wardgate_portal_requests",
            "HTTP requests answered, refused upgrades included.",
            ["part", "status"],
            registry=self.registry,
        )
        self.channels_closed = CounterMetric(
            "wardgate_portal_channels_closed",
            "Control channels that ended.",
            ["kind", "code", "by"],
            registry=self.registry,
        )
        self.decision_s = Histogram(
            "wardgate_portal_decision_seconds",
            "From a client's request to what it causes: a message to the gateway, or a denial.",
            buckets=DECISION_BUCKETS_S,
            registry=self.registry,
        )
        self.feed_lag_s = Histogram(
            "wardgate_portal_feed_lag_seconds",
            "From the commit of a change to its arrival at a reader of the feed.",
            buckets=LAG_BUCKETS_S,
            registry=self.registry,
        )

    def export(
        self,
        counters: "Counter[str]",
        channels: Mapping[str, int],
        jobs: Mapping[str, int],
        geoip_built_at: datetime | None,
    ) -> bytes:
        """Write everything in Prometheus' text format.

        Args:
            counters: events since the start, by name.
            channels: open control channels, by kind of peer.
            jobs: background jobs, by state.
            geoip_built_at: when the IP database in use was built; None if none is in use.
        """
        moment = CollectorRegistry()
        moment.register(_Read(lambda: _families(counters, channels, jobs, geoip_built_at)))
        written: bytes = generate_latest(self.registry) + generate_latest(moment)
        return written


class _Read:
    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self.collect = families


def _families(
    counters: "Counter[str]",
    channels: Mapping[str, int],
    jobs: Mapping[str, int],
    geoip_built_at: datetime | None,
) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "wardgate_portal_grants", "Requests of clients that were granted.", value=counters["grants"]
    )
    denials = CounterMetricFamily(
        "wardgate_portal_denials", "Requests of clients that were denied.", labels=["reason"]
    )
    replies = CounterMetricFamily(
        "wardgate_portal_error_replies", "Messages of peers answered with an error.", labels=["reason"]
    )
    events = CounterMetricFamily("wardgate_portal_events", "Other events.", labels=["event"])
    for name, count in sorted((dict.fromkeys(FAULTS, 0) | counters).items()):
        if name.startswith(_DENIALS):
            denials.add_metric([name.removeprefix(_DENIALS)], count)
        elif name.startswith(_REPLIES):
            replies.add_metric([name.removeprefix(_REPLIES)], count)
        elif name != "grants":
            events.add_metric([name], count)
    yield denials
    yield replies
    yield events
    yield _gauge("wardgate_portal_channels", "Open control channels.", "kind", channels)
    yield _gauge("wardgate_portal_jobs", "Background jobs in the store.", "state", jobs)
    yield GaugeMetricFamily(
        "wardgate_portal_geoip_database_built_seconds",
        "When the IP database in use was built, in seconds since 1970.",
        value=None if geoip_built_at is None else geoip_built_at.timestamp(),
    )


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
