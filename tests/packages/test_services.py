"""The packages' services under a running systemd, which has namespaces of its own; their sandboxes are at work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from packages.conftest import System
from wardgate.lab.host import wait_until

PARTS = ("portal", "relay", "gateway", "client")
LIMIT_S = 90.0  # each takes some seconds; the rest is room for a busy machine
DYNAMIC_USERS = range(61184, 65520)  # systemd.exec(5), DynamicUser=
RESOLVER = "nameserver 192.0.2.53\n"

_OWN_GROUP = """set -e
mount --make-rprivate /
mount -t cgroup2 none "$0/mnt"
mkdir -p "$0/mnt/$1"
echo $$ > "$0/mnt/$1/cgroup.procs"
umount "$0/mnt"
exec unshare --cgroup --pid --fork sh -ec "$2" "$0"
"""
"""Processes of the system are in a control group of its own, which it takes for the root of all."""
_BOOT = """
for kind in proc sysfs:sys tmpfs:run tmpfs:tmp tmpfs:dev cgroup2:sys/fs/cgroup; do
    mount -t "${kind%:*}" none "$0/${kind#*:}"
done
cd "$0/dev"
mkdir net pts shm
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 net/tun:10:200; do
    name=${node%%:*} numbers=${node#*:}
    mknod -m 666 "$name" c "${numbers%:*}" "${numbers#*:}"
done
mount -t devpts none pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx ptmx
cd "$0"
pivot_root . mnt
# Credentials reach a service by a mount that spreads.
mount --make-rshared /
umount -l /mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal
"""
_NETWORK = """set -e
ip link set lo up
ip link add lan type veth peer name far
ip address add 192.0.2.7/24 dev lan
ip link set lan up
ip link set far up
ip route add default via 192.0.2.1
printf 'nameserver 192.0.2.53\\n' > /etc/resolv.conf
"""
_PREPARE = """
import datetime, json, os, sys, urllib.request

made = json.load(sys.stdin)

def post(path, body, token="api_token", method="POST"):
    headers = {"Authorization": f"Bearer {made[token]}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:8080{path}", json.dumps(body).encode(), headers, method=method)
    return json.load(urllib.request.urlopen(request))["data"]

def keep(part, token, *settings):
    with open(f"/etc/wardgate/{part}-token", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(token)
    with open(f"/etc/wardgate/{part}.env", "w") as file:
        file.writelines(f"{one}\\n" for one in ("WARDGATE_API_URL=ws://127.0.0.1:8080", *settings))

relay = post("/wardgate/relay_tokens", {"relay_token": {"name": "relay"}}, "operator_token")
keep("relay", relay["token"], "WARDGATE_PUBLIC_IP4_ADDR=192.0.2.7")
site = post("/sites", {"site": {"name": "Office"}})["id"]
keep("gateway", post(f"/sites/{site}/gateways", {"gateway": {"name": "gateway"}})["token"])
group = post("/groups", {"group": {"name": "Servers"}})["id"]
actor = post("/actors", {"actor": {"name": "server", "type": "service_account"}})["id"]
post(f"/groups/{group}/memberships", {"memberships": [{"actor_id": actor}]}, method="PUT")
wiki = {"name": "Wiki", "type": "dns", "address": "wiki.internal.example", "site_id": site}
resource = post("/resources", {"resource": wiki})["id"]
post("/policies", {"policy": {"group_id": group, "resource_id": resource}})
until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
token = post(f"/actors/{actor}/client_tokens", {"client_token": {"expires_at": until.isoformat()}})["token"]
keep("client", token)
"""


_EVERYTHING = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


class Booted:
    """A system whose first process is systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.group = f"wardgate-test-{uuid4()}"
        self._outer = subprocess.Popen(
            [
                *("setsid", "-w", "unshare", "--mount", "--uts", "--ipc", "--net", "--fork", "--kill-child"),
                *("sh", "-c", _OWN_GROUP, str(root), self.group, _BOOT),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, text: str = "", check: bool = True) -> str:
        """Run a command in it; what it printed."""
        first = self._first()
        assert first is not None
        done = subprocess.run(
            ["nsenter", f"--target={first}", *_EVERYTHING, "env", "-i", _PATH, *command],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def is_up(self) -> bool:
        """Whether it has come up. Skips the test where systemd cannot run so."""
        if self._outer.poll() is not None:
            assert self._outer.stdout is not None
            pytest.skip(f"systemd does not run in namespaces on this machine: {self._outer.stdout.read()}")
        return self._first() is not None and self.run(
            "systemctl", "is-system-running", check=False
        ).strip() in {
            "running",
            "degraded",
            "starting",
        }

    def unit(self, part: str, *names: str) -> dict[str, str]:
        """Return properties of a part's unit."""
        shown = self.run("systemctl", "show", f"wardgate-{part}", f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def is_active(self, part: str) -> bool:
        return self.unit(part, "ActiveState")["ActiveState"] == "active"

    def log(self, part: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit=wardgate-{part}")

    def end(self) -> None:
        first = self._first()
        if first is not None:
            subprocess.run(["kill", "-KILL", str(first)], check=False)
        self._outer.communicate(timeout=60)
        tidy = 'mount -t cgroup2 none "$0" && find "$0/$1" -depth -type d -exec rmdir {} +'
        subprocess.run(["unshare", "--mount", "sh", "-c", tidy, self.root / "mnt", self.group], check=True)

    def _first(self) -> int | None:
        """Its systemd, by its number outside."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_first = re.search(r"^NSpid:\s+(\d+)\s+1$", (folder / "status").read_text(), re.MULTILINE)
                if is_first and self.group in (folder / "cgroup").read_text():
                    command = (folder / "cmdline").read_text()
                    return int(folder.name) if "systemd" in command.split("\0")[0] else None
            except OSError:
                continue  # it has ended
        return None


@pytest.fixture
def booted(debian: System) -> Iterator[Booted]:
    made = Booted(debian.root)
    try:
        wait_until(made.is_up, "systemd", LIMIT_S, every_s=0.2)
        yield made
    finally:
        made.end()


def test_every_part_runs_as_a_service_and_leaves_nothing(booted: Booted, dist: Path) -> None:
    booted.run("sh", "-c", _NETWORK)
    packages = sorted(dist.glob("*.deb"))
    for package in packages:
        shutil.copy(package, booted.root / "srv")
    booted.run("dpkg", "-i", *(f"/srv/{package.name}" for package in packages))
    for part in PARTS:
        state = booted.unit(part, "ActiveState", "ConditionResult")
        assert state == {"ActiveState": "inactive", "ConditionResult": "no"}, (
            f"{part} has nothing to run with"
        )

    made = booted.run(
        *(
            "setpriv",
            "--reuid=wardgate-portal",
            "--regid=wardgate-portal",
            "--clear-groups",
            "wardgate",
            "init",
        ),
        *("--data-dir", "/var/lib/wardgate", "--account-name", "Acme", "--account-slug", "acme"),
        *("--admin-email", "ada@acme.example", "--external-url", "http://127.0.0.1:8080", "--json"),
    )
    booted.run("systemctl", "start", "wardgate-portal")
    booted.run("/usr/lib/wardgate/python/bin/python3", "-c", _PREPARE, text=made)
    for part in PARTS[1:]:
        booted.run("systemctl", "start", "--no-block", f"wardgate-{part}")
    for part in PARTS:
        until(lambda part=part: booted.is_active(part), booted, part)  # type: ignore[misc]

    (status,) = json.loads(booted.run("wardgate", "status", "client", "--json"))
    assert (status["is_connected"], status["is_ready"]) == (True, True)
    assert status["dns"]["method"] == "etc-resolv-conf"
    assert booted.run("getent", "ahostsv4", "wiki.internal.example").startswith("100.96.")
    users = {part: user_of(booted, part) for part in PARTS}
    assert users["client"] == 0
    assert users["portal"] == int(booted.run("id", "-u", "wardgate-portal"))
    assert {users["gateway"], users["relay"]} <= set(DYNAMIC_USERS)

    # What is killed is started again, and tidies up after the one before it.
    before = booted.unit("gateway", "MainPID")
    booted.run("systemctl", "kill", "--signal=KILL", "wardgate-gateway")
    until(lambda: is_another(booted.unit("gateway", "ActiveState", "MainPID"), before), booted, "gateway")
    assert not [line for part in PARTS for line in booted.log(part).splitlines() if "Traceback" in line]

    names = [package.name.partition("_")[0] for package in packages]
    booted.run("dpkg", "--purge", *sorted(names, reverse=True))
    assert booted.run("cat", "/etc/resolv.conf") == RESOLVER
    assert "fwmark" not in booted.run("ip", "rule")
    assert "wardgate" not in booted.run("ip", "link")
    assert "wardgate" not in booted.run("nft", "list", "ruleset")
    assert "wardgate" not in booted.run(
        "systemctl", "list-units", "--all", "--plain", "wardgate*", "--no-legend"
    )


def test_the_installing_line_makes_services_that_hand_over_and_leave_nothing(
    booted: Booted, dist: Path
) -> None:
    booted.run("sh", "-c", _NETWORK)
    (archive,) = dist.glob("wardgate-*.tar.gz")
    name, builds = archive.name.removesuffix(".tar.gz"), "/srv/data/builds"
    program, url = f"/srv/{name}/bin/wardgate", "http://127.0.0.1:8080"
    (booted.root / builds[1:]).mkdir(parents=True)
    shutil.copy(archive, booted.root / builds[1:])
    booted.run("tar", "-xzf", f"{builds}/{archive.name}", "-C", "/srv")
    data = ("--data-dir", "/srv/data", "--external-url", url)
    account = ("--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example")
    made = booted.run(program, "init", *data, *account, "--json")
    booted.run("systemd-run", "--unit=wardgate-portal", "--property=Type=notify", program, "portal", *data)
    booted.run("mkdir", "/etc/wardgate")
    booted.run(f"/srv/{name}/python/bin/python3", "-c", _PREPARE, text=made)
    booted.run("mv", "/etc/wardgate", "/srv/made")

    def install(part: str, *options: str) -> str:
        given = f"WARDGATE_TOKEN_FILE=/srv/made/{part}-token WARDGATE_PUBLIC_IP4_ADDR=192.0.2.7"
        line = f"curl -fsSL {url}/install/{part}.sh | {given} sh -s -- {' '.join(options)} 2>&1"
        return booted.run("sh", "-c", line)

    for part in ("relay", "gateway"):
        said = install(part).splitlines()
        assert said[-1] == f"wardgate: the {part} runs (systemctl status wardgate-{part}.service)"
        assert all(line.startswith("wardgate: ") for line in said), "what it does, and no log of the program"
    former = booted.run("readlink", "/opt/wardgate/current").strip()

    # A byte that gzip ignores makes another build of the same program.
    with (booted.root / builds[1:] / archive.name).open("ab") as file:
        file.write(b"\0")
    before = booted.unit("gateway", "MainPID")
    install("gateway")
    until(lambda: is_another(booted.unit("gateway", "ActiveState", "MainPID"), before), booted, "gateway")
    assert "this process goes on for another" in booted.log("gateway")
    assert former in booted.run("sh", "-c", "echo /opt/wardgate/wardgate-*"), "the relay runs from it"
    install("relay")
    until(lambda: former not in programs(booted) and booted.is_active("relay"), booted, "relay")
    install("relay")
    assert former not in booted.run("sh", "-c", "echo /opt/wardgate/wardgate-*")

    for part in ("gateway", "relay"):
        install(part, "--uninstall")
    kept = booted.run("find", "/etc", "/opt", "/usr", "/var/lib", "/run", "-name", "*wardgate*").splitlines()
    assert [path for path in kept if "portal" not in path] == []
    assert "wardgate" not in booted.run("ip", "link") + booted.run("nft", "list", "ruleset")


def programs(booted: Booted) -> str:
    """What runs from where an installing script puts it."""
    return booted.run("sh", "-c", "readlink /proc/[0-9]*/exe | grep ^/opt/wardgate/", check=False)


def is_another(unit: dict[str, str], before: dict[str, str]) -> bool:
    """Whether a unit is active with another process than before."""
    return unit["ActiveState"] == "active" and unit["MainPID"] not in ("0", before["MainPID"])


def user_of(booted: Booted, part: str) -> int:
    process = booted.unit(part, "MainPID")["MainPID"]
    status = booted.run("cat", f"/proc/{process}/status")
    return int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])


def until(condition: Callable[[], Any], booted: Booted, part: str) -> None:
    try:
        wait_until(condition, f"wardgate-{part}", LIMIT_S, every_s=0.5)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{booted.log(part)}") from error
