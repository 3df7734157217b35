"""The whole command line of `wardgate`."""

from collections.abc import Sequence
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import (
    bench,
    client,
    doctor,
    gateway,
    installation,
    looking,
    portal,
    protocol,
    relay,
    rest,
    up,
)
from wardgate.cli.parameters import Form, Parameter, switch

KEEP: Final = switch("keep", "leave everything running until Ctrl-C and say how to look into it")
DEMO_JSON: Final = switch("json", "print one JSON object with the steps and measurements, nothing else")
SIMULATED: Final = switch("simulated", "tell the story in the simulator: no root, virtual time")

DEMO: Final = Command(
    name="demo",
    help="Build a small internet and show access granted, explained and revoked.",
    details="Portal, two relays, a gateway and a client run as real processes behind NAT routers, in"
    " network namespaces. Nothing on this"
    " machine is changed, and everything is gone afterwards.",
    parameters=(KEEP, DEMO_JSON, SIMULATED),
    examples=("sudo wardgate demo", "sudo wardgate demo --keep", "wardgate demo --simulated --json"),
    run="wardgate.cli.demo:run",
)

SHELLS: Final = ("bash", "zsh", "fish")
SHELL: Final = Parameter(
    name="shell",
    help="which shell",
    read=values.one_of(*SHELLS),
    default="",
    form=Form.ARGUMENT,
    value="SHELL",
    choices=SHELLS,
    is_required=True,
)
COMPLETION: Final = Command(
    name="completion",
    help="Print a script that makes a shell complete these commands.",
    parameters=(SHELL,),
    examples=("wardgate completion bash > /etc/bash_completion.d/wardgate",),
    run="wardgate.cli.completion:run",
)


def _nouns() -> Sequence[Command]:
    from wardgate.cli.admin.arguments import nouns  # the catalogue is long, and most commands need none of it

    return nouns()


ADMIN: Final = Command(
    name="admin",
    help="Administer the portal over its REST API: list, create, change, delete.",
    details="Objects may be named instead of given by their ids.",
    examples=(
        "wardgate admin sites list",
        "wardgate admin resources create --name web --type dns --address web.corp.example --site Berlin",
    ),
    notes=rest.NOTES,
    children=_nouns,
    is_entrance=True,
)

VERSION: Final = switch("version", "print the version")

ROOT: Final = Command(
    name="wardgate",
    help="Zero-trust access that you run yourself.",
    examples=("sudo wardgate demo", "sudo wardgate up", "wardgate admin resources list"),
    parameters=(VERSION,),
    notes="`wardgate COMMAND --help` says more about a command.",
    children=lambda: (
        installation.INIT,
        portal.COMMAND,
        relay.COMMAND,
        gateway.COMMAND,
        client.COMMAND,
        looking.STATUS,
        looking.WHY,
        doctor.COMMAND,
        up.COMMAND,
        DEMO,
        rest.EXPLAIN,
        ADMIN,
        installation.BACKUP,
        installation.RESTORE,
        installation.UPGRADE,
        installation.DB,
        protocol.COMMAND,
        bench.COMMAND,
        COMPLETION,
        installation.SIGN_IN_LINK,
    ),
    is_entrance=True,
)
