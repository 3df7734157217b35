//! A WireGuard core without I/O: handshakes (`Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s`), cookies, timers, data.
//!
//! One [`Tunnel`] speaks with one peer, in both roles; one [`Gate`] protects the whole node from handshake floods. Bytes and
//! time go in (`handle_*`, `seal`, `open`); bytes, events and the next deadline come out (`poll_*`). All randomness derives from
//! a seed given at construction, so a run replays exactly.
//!
//! ```text
//! datagram ─ classify ─┬─ Initiation ── Gate::check ── initiator_key ─┐
//!                      ├─ Response ──── Gate::check ── receiver_index ┼─ Tunnel::handle_handshake ─ poll_transmit, poll_event
//!                      ├─ CookieReply ──────────────── receiver_index ┘
//!                      └─ Data ─────────────────────── receiver_index ── Tunnel::open ─ plaintext in place
//! ```
//!
//! The protocol is that of the WireGuard paper ("WireGuard: Next Generation Kernel Network Tunnel", cited as "paper §n"); what
//! differs is stated where it differs. Deliberately absent:
//!
//! * addresses of peers: whoever finds paths owns them, so no message can make a tunnel roam;
//! * allowed IPs: the layer above knows who may send what;
//! * a packet queue: sealing without a session is an error;
//! * padding: data messages are exactly as long as their packet; a padding peer's packets are cut by their IP length above.
#![forbid(unsafe_code)]

mod cookie;
mod crypto;
mod gate;
mod keys;
mod message;
mod noise;
mod replay;
mod session;
#[cfg(test)]
mod testing;
mod timers;
mod timestamp;
mod tunnel;

pub use gate::{
    BURST_OF_A_SOURCE, Gate, HANDSHAKES_PER_SECOND, HANDSHAKES_PER_SECOND_OF_A_SOURCE, Verdict,
};
pub use keys::{Keys, PresharedKey, PrivateKey, PublicKey};
pub use message::{
    COOKIE_REPLY_SIZE, DATA_HEADER_SIZE, DATA_OVERHEAD, INITIATION_SIZE, MessageKind,
    RESPONSE_SIZE, TAG_SIZE, classify, receiver_index,
};
pub use noise::{HandshakeError, initiator_key};
pub use session::{OpenError, REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
pub use timers::Timers;
pub use timestamp::TimestampClock;
pub use tunnel::{
    NoSession, SESSIONS_PER_TUNNEL, Tunnel, TunnelConfig, TunnelEvent, TunnelFigures,
};
