"""Running one of the host's own tools to its end."""

import asyncio
import contextlib
import os
import signal
from typing import Final

from wardgate.net.errors import HostRefused

_LIMIT_S: Final = 20.0  # a tool that hangs must not hang us


async def run_host_command(*arguments: str, text: str = "", missing: str | None = None) -> str:
    """Return what the command printed.

    Args:
        text: what it reads.
        missing: the message of HostRefused when there is no such command; without it that is an OSError like others.

    Raises:
        HostRefused: no such command.
        OSError: it failed, with the first line of its complaint.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise (
            HostRefused(missing) if missing is not None else OSError(f"the command {arguments[0]} is missing")
        ) from error
    try:
        async with asyncio.timeout(_LIMIT_S):
            output, complaint = await process.communicate(text.encode())
    except BaseException as error:
        # Not `process.kill`: it reaps one that has just ended, and asyncio complains that its child is gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, TimeoutError):
            raise OSError(f"{arguments[0]} did not end within {_LIMIT_S:g} s") from error
        raise
    if process.returncode != 0:
        # nft prints warnings about iptables' tables before what it complains of.
        lines = [line for line in complaint.decode(errors="replace").splitlines() if not line.startswith("#")]
        reason = (lines or ["no reason given"])[0].strip()
        raise OSError(f"{' '.join(arguments[:2])} failed: {reason}")
    return output.decode(errors="replace")
