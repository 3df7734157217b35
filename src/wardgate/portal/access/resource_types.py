"""What the types of resources are called."""

from collections.abc import Mapping
from typing import Final

TYPE_NAMES: Final[Mapping[str, str]] = {
    "dns": "DNS",
    "ip": "IP",
    "cidr": "CIDR",
    "internet": "Internet",
    "static_device_pool": "Device pool",
    "dynamic_device_pool": "Device pool by name",
}
