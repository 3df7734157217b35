"""What can go wrong between us and the host.

```
NetError
└── HostRefused        the operating system lacks or refuses something; the message names the cure
```
"""


class NetError(Exception):
    """Base of this package's errors."""


class HostRefused(NetError):
    """The operating system lacks or refuses what we need; the message is one line and names the cure."""
