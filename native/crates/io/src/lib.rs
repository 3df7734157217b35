//! The engines on real sockets: UDP with GSO and GRO, the TUN device with its virtio-net header, one thread each.
//!
//! The only crate that makes system calls, and the only one with `unsafe` code, all of it in `sys`. A [`Host`] owns
//! an engine on a thread of its own; the threads that hold the handle never touch a
//! packet. Absent on purpose: io_uring (often disabled in containers) and a second thread (no gain measured so far).
#![deny(unsafe_op_in_unsafe_fn)]

mod clock;
mod mailbox;
mod outbox;
mod sys;
mod tun;
mod tunnel_host;
mod udp;

pub use clock::BootClock;
pub use mailbox::Stopped;
pub use sys::fill_random;
pub use tun::Tun;
pub use tunnel_host::{Host, PacketEngine, TunnelSockets};
pub use udp::Received;
