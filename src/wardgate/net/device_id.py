"""Where a device's identity comes from on this host (operations §6); how it is derived is the caller's
(`wardgate.wire`).
"""

import json
import platform
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardgate.net.errors import HostRefused

CLIENT_FILE: Final = Path("/var/lib/dev.firezone.client/config/firezone-id.json")
GATEWAY_FILE: Final = Path("/var/lib/firezone/gateway_id")
MACHINE_ID: Final = Path("/etc/machine-id")
DMI: Final = Path("/sys/class/dmi/id")
MAX_NAME: Final = 255  # characters, the portal's limit

_PLACEHOLDERS: Final = frozenset(
    (
        "", "123456789", "0123456789", "1234567890", "default string", "n/a", "na", "none", "not applicable",
        "not available", "not specified", "o.e.m.", "oem", "system serial number", "to be filled by o.e.m.",
        "unknown", "xxxxxxxx", "03000200-0400-0500-0006-000700080009",
    )
)  # fmt: skip
"""What makers leave where a serial number or UUID belongs; the first number is control-plane §1.3's."""


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """What a user agent says about the host."""

    name: str
    version: str
    arch: str
    kernel: str


def device_id(
    configured: str | None,
    *,
    stored_in: Path,
    derive: Callable[[bytes], str],
    draw: Callable[[], str],
    machine_id: Path = MACHINE_ID,
) -> str:
    """Return the setting, the stored id, one derived from the machine id, or a drawn one, which is then stored.

    Raises:
        HostRefused: the drawn id cannot be stored.
    """
    return configured or _stored(stored_in) or _derived(machine_id, derive) or _drawn(stored_in, draw)


def device_name(configured: str | None) -> str:
    """The display name: the setting, else the host name."""
    name = configured or platform.node() or str(uuid.uuid4())
    # Python carries the bytes of environment and host name that are no UTF-8 as lone surrogates, which no
    # encoder takes.
    return name.encode("utf-8", errors="replace").decode()[:MAX_NAME]


def operating_system(os_release: Path = Path("/etc/os-release")) -> OperatingSystem:
    facts = dict(_assignments(os_release))
    return OperatingSystem(
        name=facts.get("NAME", platform.system()).replace("/", "-"),
        version=facts.get("VERSION_ID", platform.release()),
        arch=platform.machine(),
        kernel=platform.release(),
    )


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the firmware says of this device (SMBIOS type 1); None: nothing, or nothing that distinguishes devices."""

    serial: str | None = None
    uuid: str | None = None


def hardware(directory: Path = DMI) -> Hardware:
    """Read the identifiers that policies of verified devices are about; only root may.

    Firmware that was never given any says so in words of its maker's.
    """
    return Hardware(_identifier(directory / "product_serial"), _identifier(directory / "product_uuid"))


def _identifier(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    is_shared = text.lower() in _PLACEHOLDERS or not text.strip("0-") or not text.lower().strip("f-")
    return None if is_shared or not text.isprintable() or len(text) > MAX_NAME else text


def _stored(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    stored = content.get("id") if isinstance(content, dict) else None
    return stored if isinstance(stored, str) and stored else None


def _derived(machine_id: Path, derive: Callable[[bytes], str]) -> str | None:
    try:
        content = machine_id.read_bytes()
    except OSError:
        return None
    return derive(content) if content.strip() else None


def _drawn(path: Path, draw: Callable[[], str]) -> str:
    drawn = draw()
    try:
        path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
        path.write_text(json.dumps({"id": drawn}), encoding="utf-8")
        path.chmod(0o640)
    except OSError as error:
        raise HostRefused(
            f"cannot store this device's id in {path}: {error.strerror}; set an id instead"
        ) from error
    return drawn


def _assignments(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [(key, value.strip('"')) for key, _, value in (line.partition("=") for line in lines) if value]
