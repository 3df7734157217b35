"""Commands that call the portal over REST: where it is and with what token; `explain`."""

from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import AS_JSON, CONFIG, Form, Parameter, Setting


def _token_file(text: str) -> str:
    try:
        return values.read_file(Path(text).expanduser())
    except ValueError as error:
        raise UserError(f"--token-file: {error}") from error


URL: Final = Setting[str | None](
    name="url",
    help="where REST is",
    read=values.text,
    default=None,
    value="URL",
    fallback="as in the profile",
)
TOKEN: Final = Setting[str | None](
    name="token",
    help="API token",
    read=values.secret,
    default=None,
    form=Form.ABSENT,
    fallback="as in the profile",
)
OPERATOR_TOKEN: Final = Setting[str | None](
    name="operator_token",
    help="operator's token, for what belongs to no account",
    read=values.secret,
    default=None,
    form=Form.ABSENT,
    fallback="as in the profile",
)
PROFILE: Final = Setting[Path | None](
    name="profile",
    help="file with the address and the tokens that init leaves",
    read=values.path,
    default=None,
    form=Form.ABSENT,
    fallback="profile.json in the data directory",
)
CA_FILE: Final = Setting[Path | None](
    name="ca_file",
    help="PEM file with the authorities that may have signed the portal's certificate",
    read=values.path,
    default=None,
    value="FILE",
    fallback="the system's",
)
SETTINGS: Final = (URL, TOKEN, OPERATOR_TOKEN, PROFILE, CA_FILE)

TOKEN_FILE: Final = Parameter[str | None](
    name="token_file",
    help="file that holds the token [env: WARDGATE_TOKEN_FILE]",
    read=_token_file,
    default=None,
    value="FILE",
)
CALLING: Final = (URL, TOKEN_FILE, CA_FILE, CONFIG)
"""What every command that calls the portal takes."""

NOTES: Final = (
    "Exit codes: 0 done · 1 failed (the portal cannot be reached, or failed itself) · 2 wrong usage, or not"
    " confirmed · 3 not found · 4 refused (token not accepted, or forbidden) · 5 the values are not valid, or"
    " conflict with what is there.\n\n"
    "Address and token: --url and --token-file, else WARDGATE_URL and WARDGATE_TOKEN (for what is the operator's"
    " WARDGATE_OPERATOR_TOKEN), else the profile file that `wardgate init` left."
)

RESOURCE: Final = Parameter(
    name="resource",
    help="the resource: name or id",
    read=values.text,
    default="",
    aliases=("--resource-id",),
    value="NAME",
    noun="resources",
    is_required=True,
)
ACTOR: Final = Parameter[str | None](
    name="actor",
    help="who asks: name, e-mail address or id of a person or service account; this or --client is required",
    read=values.text,
    default=None,
    aliases=("--actor-id",),
    value="NAME",
    noun="actors",
)
CLIENT: Final = Parameter[str | None](
    name="client",
    help="which of their devices asks: name or id",
    read=values.text,
    default=None,
    aliases=("--client-id",),
    value="NAME",
    noun="clients",
)
AT: Final = Parameter[str | None](
    name="at",
    help="look up what was answered then, at an ISO 8601 time such as 2026-11-22T09:00:00Z or so long ago (24h),"
    " instead of asking anew",
    read=values.text,
    default=None,
    value="TIME",
)
REMOTE_IP: Final = Parameter[str | None](
    name="remote_ip",
    help="address that the client would come from",
    read=values.text,
    default=None,
    value="IP",
)
REGION: Final = Parameter[str | None](
    name="region",
    help="country it would come from; looked up by --remote-ip",
    read=values.text,
    default=None,
    value="CODE",
)
PROVIDER: Final = Parameter[str | None](
    name="provider",
    help="provider by which it would have signed in",
    read=values.text,
    default=None,
    value="ID",
)
PORT: Final = Parameter[str | None](
    name="port",
    help="packet to ask the resource's filters about: 443/tcp, 53/udp or icmp",
    read=values.text,
    default=None,
    value="PORT/PROTOCOL",
)

EXPLAIN: Final = Command(
    name="explain",
    help="Say why an actor may or may not reach a resource.",
    details="Every policy, every condition, its input and its outcome. Inputs that only a connection "
    "has are taken from the client's, if it is connected, and are undetermined unless you give them.",
    parameters=(RESOURCE, ACTOR, CLIENT, AT, REMOTE_IP, REGION, PROVIDER, PORT, AS_JSON, *CALLING),
    examples=(
        "wardgate explain --actor grace@example.org --resource wiki --remote-ip 203.0.113.5",
        "wardgate explain --client laptop --resource wiki --port 81/tcp",
        "wardgate explain --client laptop --resource wiki --at 24h",
    ),
    notes="Exit codes: 0 granted · 6 denied · 7 undetermined · others as everywhere (1 failed, 2 wrong "
    "usage, 3 not found, 4 refused, 5 not"
    " valid).",
    section="rest",
    run="wardgate.cli.explain:run",
)
