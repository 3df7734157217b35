//! What a [`crate::Node`] tells its owner.

use std::time::Duration;

use crate::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent<Id> {
    /// Signal these to the peer; descending priority.
    CandidatesAdded { id: Id, candidates: Vec<String> },
    /// Signal to the peer that these are void; their strings equal the announced ones.
    CandidatesRemoved { id: Id, candidates: Vec<String> },
    /// Send on this path from now on; receive on any.
    PathSelected { id: Id, path: Path<Id> },
    /// The peer is unreachable and has been removed from the node.
    PathFailed { id: Id, reason: FailureReason },
    /// The relay granted an allocation; `rtt` is smoothed.
    RelayUp { relay: Id, rtt: Duration },
    /// The relay's allocation failed and it is no longer used; relays removed by command are not reported.
    RelayLost { relay: Id, reason: LossReason },
    /// The last relay was lost by failure: ask the portal for others.
    NoRelays,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// No candidate arrived from the peer in time.
    NoCandidates,
    /// No address pair is left that works.
    IceTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossReason {
    /// Neither address ever answered a BINDING.
    NoResponse,
    /// A request on the socket in use went unanswered.
    TimedOut,
    /// The relay refuses our credentials.
    AuthenticationFailed,
    /// The relay demands an extension that we do not speak (420).
    ProtocolFailure,
}
