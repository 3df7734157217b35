"""`oidc-provider` on Node, as a process of the tests' own on loopback, over TLS."""

import asyncio
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from support.certificates import write_certificate
from support.free_port import free_port
from support.once import alone_at
from support.patience import PATIENCE_S
from support.provider_office import ADMIN, CALLBACK, CLIENT, SECRET

SOURCES = Path(__file__).parents[1] / "interop" / "openid_provider"
CACHE = Path(__file__).parents[2] / ".cache" / "openid-provider"
"""Where the provider's packages stay: none of what they need gets into the project's environment."""


def new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


@dataclass(slots=True)
class NodeProvider:
    """The provider's process; it may be stopped, and started again as another."""

    node: str
    place: Path
    folder: Path
    port: int = field(default_factory=free_port)
    skew_s: float = 0.0
    key: RSAKey = field(default_factory=new_key)
    client: dict[str, Any] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @classmethod
    def installed(cls, node: str, folder: Path) -> "NodeProvider":
        """Return one that has not been started, with the certificate of the folder, which is made if there is none."""
        if not (folder / "ca.pem").exists():
            make_authority(folder)
        return cls(node, _install(), folder)

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    async def start(self) -> None:
        options = {
            "issuer": self.issuer,
            "port": self.port,
            "certificate": str(self.ca_file),
            "key": str(self.folder / "key.pem"),
            "jwks": {"keys": [self.key.as_dict(private=True)]},
            "skewMs": self.skew_s * 1000,
            "clients": [
                {
                    "client_id": CLIENT,
                    "client_secret": SECRET,
                    "redirect_uris": [CALLBACK],
                    **self.client,
                }
            ],
            "people": {
                ADMIN: {"email": "ada@example.org", "email_verified": True, "name": "Ada", "groups": ["dev"]},
                **self.people,
            },
        }
        self.process = await asyncio.create_subprocess_exec(
            self.node, self.place / "provider.mjs", json.dumps(options),
            cwd=self.place, env={**os.environ, "NODE_NO_WARNINGS": "1"}, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while (line := await self.process.stdout.readline()).strip() != b"ready":
                assert line, "the provider ended"

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await self.process.wait()
            self.process = None

    def form_of(self, page: str, person: str) -> dict[str, str]:
        return (
            {"prompt": "login", "login": person, "password": "x"}
            if 'name="login"' in page
            else {"prompt": "consent"}
        )

    async def begin_again(self, **changed: Any) -> None:
        """Stop it and start it with something changed."""
        await self.stop()
        for name, value in changed.items():
            setattr(self, name, value)
        await self.start()


def make_authority(folder: Path) -> Path:
    """Write a provider's certificate, which signs itself, into the folder; returns its path."""
    write_certificate(folder / "ca.pem", folder / "key.pem", name="localhost")
    return folder / "ca.pem"


def find_node() -> str:
    """Return the path of Node; the test is skipped where there is none."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("no Node on this machine")
    return found


def _install() -> Path:
    """Have the provider with what it needs, as the lock says; returns where it is."""
    lock = (SOURCES / "package-lock.json").read_text()
    with alone_at(CACHE):
        if not (CACHE / "complete").exists() or (CACHE / "complete").read_text() != lock:
            CACHE.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCES / name, CACHE / name)
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=CACHE, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            (CACHE / "complete").write_text(lock)
        source = (SOURCES / "provider.mjs").read_text()
        if not (kept := CACHE / "provider.mjs").exists() or kept.read_text() != source:
            kept.write_text(source)
    return CACHE
