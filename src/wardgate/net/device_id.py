"""Stable identity of a device and its name (operations §6, control-plane-protocol §2.6).

In this order: the setting, the file of an earlier start, a value derived from the machine id, a random value that is then
saved. The derivation is the published software's, so that a host that changes over keeps its identity at the portal.
"""

import hashlib
import hmac
import json
import platform
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MACHINE_ID: Final = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class IdentityFile:
    """Where one kind of device keeps its id, and the key of the derivation (ASCII)."""

    path: Path
    app_id: bytes


CLIENT: Final = IdentityFile(
    Path("/var/lib/dev.firezone.client/config/firezone-id.json"), b"e1e465ce763e4759945c650ac334501f"
)
GATEWAY: Final = IdentityFile(Path("/var/lib/firezone/gateway_id"), b"753b38f9f96947ef8083802d5909a372")


def external_id(
    configured: str | None,
    identity: IdentityFile,
    *,
    machine_id: Path = MACHINE_ID,
    draw_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
) -> str:
    """Return the id to present to the portal; a UUID is presented as its SHA-256, as published peers do.

    Raises:
        OSError: nothing was known and the drawn id cannot be saved.
    """
    return _present(
        configured
        or _stored(identity.path)
        or _derived(machine_id, identity.app_id)
        or _drawn(identity, draw_uuid)
    )


def device_name(configured: str | None) -> str:
    """The display name: the setting, else the host name, cut to what the portal takes (255 characters)."""
    return (configured or platform.node() or str(uuid.uuid4()))[:255]


def user_agent(component: str, version: str, *, os_release: Path = Path("/etc/os-release")) -> str:
    """`<OS>/<version> <component>/<version> (<arch>; <kernel>)` (control-plane-protocol §1.4), ASCII only."""
    facts = dict(_assignments(os_release))
    name = facts.get("NAME", platform.system())
    system = f"{name.replace('/', '-')}/{facts.get('VERSION_ID', platform.release())}"
    return f"{system} {component}/{version} ({platform.machine()}; {platform.release()})".encode(
        "ascii", "ignore"
    ).decode()


def _present(device_id: str) -> str:
    try:
        uuid.UUID(device_id)
    except ValueError:
        return device_id
    # Some installations stored plain UUIDs and meant them to stay private.
    return hashlib.sha256(device_id.encode()).hexdigest()


def _stored(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    stored = content.get("id") if isinstance(content, dict) else None
    return stored if isinstance(stored, str) and stored else None


def _derived(machine_id: Path, app_id: bytes) -> str | None:
    try:
        content = machine_id.read_bytes()
    except OSError:
        return None
    return hmac.new(app_id, content, hashlib.sha256).hexdigest() if content.strip() else None


def _drawn(identity: IdentityFile, draw_uuid: Callable[[], uuid.UUID]) -> str:
    drawn = hashlib.sha256(str(draw_uuid()).encode()).hexdigest()
    identity.path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
    identity.path.write_text(json.dumps({"id": drawn}), encoding="utf-8")
    identity.path.chmod(0o640)
    return drawn


def _assignments(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [(key, value.strip('"')) for key, _, value in (line.partition("=") for line in lines) if value]
