"""What other machines install themselves with is served to anybody, and every checksum is that of what is served."""

import asyncio
import hashlib
import html
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

import wardgate
from support.browser import caller, sign_in_link
from support.pages import post
from support.portal import make_world, portal_running
from wardgate.portal.environment import Environment
from wardgate.portal.installation import installers
from wardgate.portal.installation.installers import PARTS, Installers
from wardgate.portal.settings import PortalSettings

BUILD = f"wardgate-{wardgate.__version__}-x86_64.tar.gz"
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    directory = tmp_path / "builds"
    directory.mkdir()
    return directory


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    settings = PortalSettings(
        data_dir=tmp_path, connect_capacity=1000.0, external_url="https://portal.example.org:8443"
    )
    async with portal_running(settings) as portal, caller(portal) as client:
        yield client


async def sums(visitor: httpx2.AsyncClient) -> dict[str, str]:
    text = (await visitor.get("/install/SHA256SUMS")).text
    return {name: checksum for checksum, name in (line.split() for line in text.splitlines())}


async def test_scripts_and_builds_are_listed_with_the_checksums_of_what_is_served(
    visitor: httpx2.AsyncClient, builds: Path
) -> None:
    (builds / BUILD).write_bytes(CONTENT)
    listed = await sums(visitor)
    assert set(listed) == {"client.sh", "gateway.sh", "relay.sh", BUILD}
    for name, checksum in listed.items():
        answer = await visitor.get(f"/install/{name}")
        assert hashlib.sha256(answer.content).hexdigest() == checksum, name
        assert answer.headers["content-length"] == str(len(answer.content))


async def test_a_script_names_this_portal_and_the_build_that_it_will_accept(
    visitor: httpx2.AsyncClient, builds: Path
) -> None:
    (builds / BUILD).write_bytes(CONTENT)
    script = (await visitor.get("/install/gateway.sh")).text
    assert "portal=https://portal.example.org:8443\n" in script
    assert "api_url=wss://portal.example.org:8443\n" in script
    assert f"builds='x86_64 {hashlib.sha256(CONTENT).hexdigest()} {BUILD}'\n" in script


async def test_a_build_that_was_replaced_is_listed_anew_at_once(
    visitor: httpx2.AsyncClient, builds: Path
) -> None:
    (builds / BUILD).write_bytes(CONTENT)
    before = (await sums(visitor))[BUILD]
    (builds / BUILD).write_bytes(CONTENT + b"more")
    assert (await sums(visitor))[BUILD] == hashlib.sha256(CONTENT + b"more").hexdigest() != before


async def test_nothing_but_builds_of_this_release_is_served(
    visitor: httpx2.AsyncClient, builds: Path, tmp_path: Path
) -> None:
    (builds / "wardgate-0.0.0-x86_64.tar.gz").write_bytes(b"former")
    (builds / "notes.txt").write_bytes(b"private")
    (builds / f"wardgate-{wardgate.__version__}-armv7l.tar.gz").mkdir()
    assert set(await sums(visitor)) == {f"{part}.sh" for part in PARTS}
    for name in (
        "wardgate-0.0.0-x86_64.tar.gz",
        "notes.txt",
        "..%2Fwardgate.db",
        "portal.sh",
        ".sh",
        "gateway",
    ):
        assert (await visitor.get(f"/install/{name}")).status_code == 404, name


async def test_a_head_tells_the_size_without_the_content(visitor: httpx2.AsyncClient, builds: Path) -> None:
    (builds / BUILD).write_bytes(CONTENT)
    answer = await visitor.head(f"/install/{BUILD}")
    assert (answer.headers["content-length"], answer.content) == (str(len(CONTENT)), b"")


async def test_only_so_many_machines_fetch_a_build_at_once(
    visitor: httpx2.AsyncClient, builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (builds / BUILD).write_bytes(CONTENT)
    monkeypatch.setattr(installers, "MAX_DOWNLOADS", 1)
    assert (await visitor.get(f"/install/{BUILD}")).content == CONTENT
    assert (await visitor.get(f"/install/{BUILD}")).status_code == 200  # what ended counts no more
    monkeypatch.setattr(installers, "MAX_DOWNLOADS", 0)
    refused = await visitor.get(f"/install/{BUILD}")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")


async def test_the_pages_show_the_line_and_the_checksum_of_its_script(tmp_path: Path) -> None:
    settings = PortalSettings(data_dir=tmp_path, connect_capacity=1000.0)
    async with portal_running(settings) as portal, caller(portal) as admin:
        world = await make_world(portal)
        await admin.get(await sign_in_link(world))
        page = (await post(admin, f"/acme/sites/{world.site.id}/deploy")).text
        checksum = (await sums(admin))["gateway.sh"]
    assert "curl -fsSL http://127.0.0.1:8080/install/gateway.sh | sudo sh" in html.unescape(page)
    assert checksum in page
    assert f"{tmp_path}/builds" in page, "there is no build: the page says where one belongs"


@pytest.mark.parametrize("part", PARTS)
def test_the_scripts_are_posix_and_without_a_known_mistake(part: str, tmp_path: Path) -> None:
    settings = PortalSettings(data_dir=tmp_path, external_url="https://it's a trap; rm -rf /.example")
    script = tmp_path / f"{part}.sh"
    script.write_text(asyncio.run(Installers(settings, Environment.of_this_process()).script(part)))
    subprocess.run(["dash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck on this machine")
    subprocess.run(["shellcheck", "--shell=sh", script], check=True)
