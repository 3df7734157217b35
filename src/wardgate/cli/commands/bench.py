"""The options of `wardgate bench`."""

from typing import Final
from uuid import UUID

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import peers
from wardgate.cli.parameters import AS_JSON, CONFIG, Form, Parameter, Setting

_MOST: Final = 100_000

API_URL: Final = peers.API_URL
CLIENT_TOKEN: Final = Setting[str | None](
    name="client_token",
    help="a client token, for all clients; needed",
    read=values.secret,
    default=None,
    form=Form.ABSENT,
)
GATEWAY_TOKEN: Final = Setting[str | None](
    name="gateway_token",
    help="a site's gateway token, for all gateways",
    read=values.secret,
    default=None,
    form=Form.ABSENT,
    fallback="no gateways",
)
CLIENTS: Final = Parameter(
    name="clients", help="how many clients", read=values.whole_number_within(1, _MOST), default=100, value="N"
)
GATEWAYS: Final = Parameter(
    name="gateways", help="how many gateways", read=values.whole_number_within(0, 1000), default=0, value="N"
)
RATE: Final = Parameter(
    name="rate",
    help="how many clients connect a second",
    read=values.number_from(0.1),
    default=50.0,
    value="N",
)
RESOURCE: Final = Parameter[UUID | None](
    name="resource",
    help="id of a resource that clients ask for",
    read=values.object_id,
    default=None,
    value="ID",
)
REQUESTS: Final = Parameter(
    name="requests",
    help="how many requests for it in all",
    read=values.whole_number_within(1, 10_000_000),
    default=1000,
    value="N",
)
REQUEST_RATE: Final = Parameter(
    name="request_rate",
    help="how many of them a second",
    read=values.number_from(0.1),
    default=100.0,
    value="N",
)
HOLD: Final = Parameter(
    name="hold",
    help="how long all stay connected at the end, to look at the portal meanwhile or to restart it",
    read=values.parse_duration_s,
    default=0.0,
    value="DURATION",
)

_CONTROL: Final = Command(
    name="control",
    help="Put load on a portal: many clients and gateways in one process, without tunnels.",
    details="Sizes a host: how fast peers connect, how soon a request is granted, who comes back after a restart."
    " Run it against a portal for trying out: it makes a device for each peer, and all clients are one person's. The"
    " portal's limit on connects of one token and address is to be raised for it (WARDGATE_CONNECT_REFILL_RATE and"
    " WARDGATE_CONNECT_CAPACITY). Exit codes: 0, or 9 if a peer stayed away or a request without an answer.",
    parameters=(
        API_URL, CLIENT_TOKEN, GATEWAY_TOKEN, CLIENTS, GATEWAYS, RATE, RESOURCE, REQUESTS, REQUEST_RATE, HOLD, AS_JSON,
        CONFIG,
    ),
    examples=(
        "wardgate bench control --api-url ws://127.0.0.1:8080 --clients 1000 --rate 200 --json",
        "wardgate bench control --clients 2000 --gateways 2 --resource 5f2c0000-0000-4000-8000-000000000000"
        " --requests 10000 --request-rate 1000",
    ),
    section="bench",
    run="wardgate.cli.bench:control",
)  # fmt: skip
COMMAND: Final = Command(
    name="bench",
    help="Measure what a portal on your host carries.",
    examples=_CONTROL.examples,
    children=lambda: (_CONTROL,),
)
