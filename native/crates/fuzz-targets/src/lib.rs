//! What the fuzz targets do with an input, on any toolchain: `fuzz/` explores with it, `tests/replay.rs` replays.
//!
//! A target takes arbitrary bytes and panics when a promise is broken; that it returns at all is the first one. Parsers read
//! the bytes as they are. Machines read them as a script ([`input::Input`]): what arrives, what the genuine peer does, how
//! time passes. So a few bytes lead into states that no random datagram would reach, and what is promised of an attacker
//! can be checked against what the genuine peer did.
//!
//! Every target says whether the input got past the first checks: a corpus of which nothing does proves nothing.
#![forbid(unsafe_code)]

mod connect;
mod input;
mod offload;
mod packet;
mod puppet;
mod relay;
mod stun;
mod tunnel;
mod wireguard;
mod world;

pub use connect::connect;
pub use offload::offload;
pub use packet::packet;
pub use relay::relay;
pub use stun::stun;
pub use tunnel::tunnel;
pub use wireguard::wireguard;

/// Runs one input; whether it got past the first checks.
pub type Target = fn(&[u8]) -> bool;

/// Each by the name of its corpus, `fuzz/corpus/NAME.txt`.
pub const TARGETS: [(&str, Target); 7] = [
    ("connect", connect),
    ("offload", offload),
    ("packet", packet),
    ("relay", relay),
    ("stun", stun),
    ("tunnel", tunnel),
    ("wireguard", wireguard),
];

/// Where virtual time starts.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only come from the clock; targets count from it"
)]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}
