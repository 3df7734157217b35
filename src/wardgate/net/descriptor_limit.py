"""How many files and sockets this process may hold: raised at its start to what the system allows."""

import contextlib
import resource
from typing import Final

PEER_DESCRIPTORS: Final = 65_536  # a relay with both families takes two for each of its 16,384 ports
_MOST: Final = 1 << 20  # the kernel's own limit (fs.nr_open) where nobody raised it


def raise_descriptor_limit(needed: int = PEER_DESCRIPTORS) -> int:
    """Raise the soft limit to the hard one, and that to `needed` where we may; returns what is reached.

    The limit is inherited: what we start has it too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reachable = _finite(hard)
    for wanted in (max(reachable, needed), reachable):
        if _finite(soft) >= wanted:
            break
        with contextlib.suppress(ValueError, OSError):  # beyond the hard limit, and not privileged
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard if wanted <= reachable else wanted))
            return wanted
    return _finite(soft)


def _finite(limit: int) -> int:
    return _MOST if limit == resource.RLIM_INFINITY else min(limit, _MOST)
