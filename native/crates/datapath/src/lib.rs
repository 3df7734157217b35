//! The two engines of the data plane, sans-IO: bytes, commands and time in; datagrams, packets, events and deadlines out.
//!
//! [`tunnel::TunnelEngine`] is a client's or a gateway's whole packet path, [`relay`] the STUN and TURN server. Neither
//! reads a clock, draws from the operating system, or holds a socket: `crates/io` drives them on real sockets,
//! the simulator drives them on virtual time. What they emit goes straight into the caller's buffers through the two
//! traits below, so that a packet is copied at most once between the TUN device and the UDP socket.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::ops::Range;

pub use wardgate_packet::offload::TunRead;

pub mod command;
pub mod event;
pub mod prefix;
pub mod relay;
pub mod tunnel;

/// Where datagrams for the network are written.
pub trait Outbox {
    /// Room of exactly `len` bytes for one datagram, appended to the batch of (`local`, `remote`, `ecn`).
    ///
    /// `local` is the source address to send from, `None` lets the operating system choose; `ecn` is the two-bit codepoint
    /// of the outer header. The caller fills all of it, or gives it back with [`Outbox::rollback`].
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> &mut [u8];

    /// Take back the room of the latest [`Outbox::reserve`].
    fn rollback(&mut self);
}

/// Where IP packets for the TUN device are written.
pub trait TunSink {
    /// One decrypted IP packet at `range` of `buffer`.
    ///
    /// `buffer` is the very slice that `handle_network` was given. The sink may keep the range and write later, but
    /// before that buffer is reused.
    fn push(&mut self, buffer: &mut [u8], range: Range<usize>);

    /// One small packet that the engine itself made or had kept.
    fn push_owned(&mut self, packet: &[u8]);
}
