//! The way that datagrams to a peer take.

use std::net::SocketAddr;

/// How to send to a peer; the engine keeps it per peer and reads it for each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<Id> {
    pub kind: PathKind,
    /// Own address to send from; `None` leaves the choice to the socket.
    pub local: Option<SocketAddr>,
    /// Where datagrams go: the peer's address, or the relay that forwards to it.
    pub send_to: SocketAddr,
    /// The peer's candidate address, which is `send_to` unless our relay forwards.
    pub remote: SocketAddr,
    /// Prefix each datagram with the 4-byte channel-data header (this number, then the length of what follows), unpadded.
    pub channel: Option<u16>,
    /// Our address at the relay that forwards: the one that the peer sends to.
    pub relayed: Option<SocketAddr>,
    /// Our relay, when it forwards; report traffic on it with [`crate::Node::note_relayed`].
    pub relay: Option<Id>,
}

/// Which ends of a path go over a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    Direct,
    /// Our relay sends to the peer's own address.
    LocalRelay,
    /// We send to the peer's relay.
    RemoteRelay,
    /// Our relay sends to the peer's relay.
    BothRelays,
}
