"""A small internet out of network namespaces: hosts, routers with NAT, links with loss, names and services.

`make demo`, the e2e tests and the benches stand on it. It knows no product logic: it starts command lines and
talks HTTP. Nothing here touches the host's own interfaces, routes, firewall or files; every namespace hangs
on a holder process that the kernel kills together with the process that built the lab.
"""

from wardgate.lab.host import CommandFailed, Host, LabUnavailable, Process, why_unavailable
from wardgate.lab.internet import Internet, Nat, Site

__all__ = ["CommandFailed", "Host", "Internet", "LabUnavailable", "Nat", "Process", "Site", "why_unavailable"]
