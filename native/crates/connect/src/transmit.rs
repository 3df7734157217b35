//! A datagram on its way out.

use std::net::SocketAddr;

/// One datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Own address to send from; `None` leaves the choice to the socket of the family.
    pub local: Option<SocketAddr>,
    pub remote: SocketAddr,
    pub payload: Vec<u8>,
}
