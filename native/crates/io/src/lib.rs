//! The engines on real sockets: UDP with GSO and GRO, the TUN device with its virtio-net header, one thread each.
//!
//! The only crate that makes system calls, and the only one with `unsafe` code, all of it in `sys`. [`TunnelHost`] and
//! [`RelayHost`] own an engine of `wardgate-datapath` on a thread of its own; the threads that hold the handles never touch a
//! packet. Absent on purpose: io_uring (often disabled in containers) and a second thread (no gain measured so far).
#![deny(unsafe_op_in_unsafe_fn)]

mod clock;
mod io_thread;
mod mailbox;
mod notices;
mod outbox;
mod relay_host;
mod sys;
mod tun;
mod tunnel_host;
mod udp;

pub use clock::BootClock;
pub use mailbox::NoAnswer;
pub use notices::News;
pub use relay_host::{RelayHost, RelayHostConfig};
pub use sys::fill_random;
pub use tun::Tun;
pub use tunnel_host::{Host, PacketEngine, TunnelHost, TunnelHostConfig, TunnelSockets};
pub use udp::Received;
