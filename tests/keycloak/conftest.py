"""Keycloak as a process of the tests' own on loopback, over TLS; `make test-keycloak` installs it."""

import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.certificates import write_certificate
from support.free_port import free_port
from support.provider_office import ADMIN, CALLBACK, CLIENT, SECRET

HOME = Path(__file__).parents[2] / ".cache" / "keycloak"
START_S = 600
"""A weak machine takes two minutes to begin with an empty database."""

PASSWORD = "correct horse battery"


@dataclass(slots=True)
class Keycloak:
    """The server, and its administrator."""

    folder: Path
    port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def start(self) -> None:
        write_certificate(self.ca_file, self.folder / "key.pem", name="localhost")
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(HOME / "bin" / "kc.sh"),
                    "start",
                    "--optimized",
                    "--cache=local",
                    f"--hostname={self.url}",
                    "--http-host=127.0.0.1",
                    f"--https-port={self.port}",
                    f"--https-certificate-file={self.ca_file}",
                    f"--https-certificate-key-file={self.folder / 'key.pem'}",
                    f"--http-management-port={self.management_port}",
                    "--http-management-scheme=http",
                ],
                env={
                    **os.environ,
                    "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m",
                    "KC_BOOTSTRAP_ADMIN_CLIENT_ID": "tests",
                    "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": self.secret,
                },
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # the script starts Java and does not hand signals on
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.5)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def admin(self, method: str, path: str, content: object = None) -> Any:
        """Ask Keycloak's administration for something; returns its answer's content."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with httpx2.Client(base_url=self.url, verify=context, timeout=60) as client:
            granted = client.post(
                "/realms/master/protocol/openid-connect/token",
                data={"grant_type": "client_credentials", "client_id": "tests", "client_secret": self.secret},
            )
            assert granted.status_code == 200, granted.text
            bearer = {"authorization": f"Bearer {granted.json()['access_token']}"}
            answer = client.request(method, f"/admin/realms{path}", json=content, headers=bearer)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.management_port}/health/ready").is_success
        except httpx2.TransportError:
            return False


@dataclass(slots=True)
class Realm:
    """A realm with the portal's client, with Ada, who is in the group `dev`, and Eve, whom the portal does not know."""

    server: Keycloak
    name: str

    @property
    def issuer(self) -> str:
        return f"{self.server.url}/realms/{self.name}"

    @property
    def ca_file(self) -> Path:
        return self.server.ca_file

    def form_of(self, page: str, person: str) -> dict[str, str]:
        return {"username": person, "password": PASSWORD, "credentialId": ""}

    def make(self) -> None:
        realm = {
            "realm": self.name,
            "enabled": True,
            "groups": [{"name": "dev"}, {"name": "ops"}],
            "users": [_person(ADMIN, groups=["dev"]), _person("eve")],
            "clients": [_client(CLIENT, "pkce.code.challenge.method", "S256"), _client("another")],
        }
        self.server.admin("POST", "", realm)

    def admin(self, method: str, path: str, content: object = None) -> Any:
        return self.server.admin(method, f"/{self.name}{path}", content)

    def person(self, name: str = ADMIN) -> str:
        """Return the path of a person."""
        (found,) = self.admin("GET", f"/users?exact=true&username={name}")
        return f"/users/{found['id']}"

    def client(self, client_id: str = CLIENT) -> str:
        """Return the path of a client."""
        (found,) = self.admin("GET", f"/clients?clientId={client_id}")
        return f"/clients/{found['id']}"


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    assert HOME.exists(), "make test-keycloak installs Keycloak"
    server = Keycloak(tmp_path_factory.mktemp("keycloak"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def realm(keycloak: Keycloak, request: pytest.FixtureRequest) -> Realm:
    """A realm of the test's own."""
    made = Realm(keycloak, request.node.name)
    made.make()
    return made


def _person(name: str, *, groups: list[str] | None = None) -> Mapping[str, object]:
    return {
        "username": name,
        "enabled": True,
        "email": f"{name}@example.org",
        "emailVerified": True,
        "firstName": name.capitalize(),
        "lastName": "Lovelace",
        "groups": groups or [],
        "credentials": [{"type": "password", "value": PASSWORD}],
    }


def _client(client_id: str, *attribute: str) -> Mapping[str, object]:
    """Return what docs/sign-in/keycloak.md has people click."""
    return {
        "clientId": client_id,
        "secret": SECRET,
        "publicClient": False,
        "standardFlowEnabled": True,
        "directAccessGrantsEnabled": False,
        "redirectUris": [CALLBACK],
        "attributes": dict([attribute]) if attribute else {},
        "protocolMappers": [
            mapper(
                "groups",
                "oidc-group-membership-mapper",
                {"claim.name": "groups", "full.path": "false", "id.token.claim": "true"},
            )
        ],
    }


def mapper(name: str, kind: str, config: Mapping[str, str]) -> Mapping[str, object]:
    """Return what makes Keycloak put a claim into tokens."""
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}
