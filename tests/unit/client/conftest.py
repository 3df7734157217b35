from ipaddress import ip_address

import pytest

from support.recording_engine import RecordingEngine
from unit.client.builders import (
    CIDR_RESOURCE,
    CLOCK,
    DNS_RESOURCE,
    drained,
    init,
)
from wardgate.client.machine import Client


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def client(engine: RecordingEngine) -> Client:
    made = Client(engine, clock=CLOCK)
    made.handle_system_resolvers((ip_address("192.0.2.53"),))
    made.handle_joined()
    made.handle_message(init(CIDR_RESOURCE, DNS_RESOURCE), now=0.0)
    drained(made)
    return made
