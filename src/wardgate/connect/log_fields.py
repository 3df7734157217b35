"""Field names in the log records of peers."""

from typing import Final

CLIENT_ID: Final = "client_id"
DEVICE: Final = "device"  # the name of another client
GATEWAY_ID: Final = "gateway_id"
RESOURCE_ID: Final = "resource_id"
RESOURCE: Final = "resource"  # its name, as SITE and ACTOR are names
SITE: Final = "site"
ACTOR: Final = "actor"
RELAY_ID: Final = "relay_id"
REASON: Final = "reason"
TOOK_S: Final = "took_s"
PATH: Final = "path"
RTT_MS: Final = "rtt_ms"
VIOLATED: Final = "violated_properties"
