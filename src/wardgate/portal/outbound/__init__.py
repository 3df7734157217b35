"""The one guarded way to hosts that a user named (identity §16): what is asked and answered, which addresses may
be reached, and the client that does both. The client is imported where a portal process is put together.
"""

from wardgate.portal.outbound.addresses import ReachableAddresses
from wardgate.portal.outbound.messages import Answer, Failure, Outbound, OutboundFailed, Question

__all__ = ["Answer", "Failure", "Outbound", "OutboundFailed", "Question", "ReachableAddresses"]
