"""The engine of a client or gateway on this host, and what the host lends it meanwhile."""

import contextlib
from collections.abc import AsyncIterator

from wardgate.datapath.engine import HostedEngine, Role
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.privileges import buffer_limits, tunnel_refusal
from wardgate.net.reconciler import Reconciler
from wardgate.net.socket_mark import SOCKET_MARK


@contextlib.asynccontextmanager
async def hosted_engine(
    role: Role,
    *,
    private_key: str,
    tun_name: str,
    listen_port: int,
    raises_buffers: bool,
    tun_device: int | None = None,
) -> AsyncIterator[HostedEngine]:
    """Open the tunnel's engine for the length of the block.

    Args:
        raises_buffers: whether the host's limits of socket buffers are raised meanwhile.
        tun_device: the open device, where this process succeeds another.

    Raises:
        HostRefused: the host lacks or refuses what the tunnel needs.
    """
    raise_descriptor_limit()
    buffers = Reconciler(buffer_limits() if raises_buffers else ())
    await buffers.establish()
    try:
        try:
            engine = HostedEngine(
                role=role,
                private_key=private_key,
                tun_name=tun_name,
                listen_port=listen_port,
                firewall_mark=SOCKET_MARK,
                tun_device=tun_device,
            )
        except OSError as error:
            raise tunnel_refusal(error, tun_name) from error
        try:
            yield engine
        finally:
            engine.close()
    finally:
        await buffers.undo()
