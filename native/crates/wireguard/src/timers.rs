//! How long things last: the parameters of a tunnel's timers.

use std::time::Duration;

/// Durations that govern sessions and handshakes. The jittered ones are lengthened by a random 0 to `jitter_max`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timers {
    /// Age at which the initiator of a session replaces it, if it sent data in it.
    pub rekey_after: Duration,
    /// Age at which the initiator replaces a session on received data: early enough for one retransmission.
    pub rekey_on_receive_after: Duration,
    /// Age from which a session that we initiated seals nothing more; less than `reject_after`, so that what is in flight
    /// still opens at a peer whose session is a round trip younger or older.
    pub stop_sealing_after: Duration,
    /// Age at which a session is dead. Its initiator then starts a handshake, even without traffic.
    pub reject_after: Duration,
    /// An unanswered initiation is repeated after this (jittered).
    pub rekey_timeout: Duration,
    /// Handshakes are given up after this.
    pub rekey_attempt: Duration,
    /// Data sent, nothing received: start a handshake after this (jittered).
    pub silence: Duration,
    /// Data received, nothing sent: send an empty data message after this.
    pub keepalive: Duration,
    /// Without a new session for this long, forget all key material.
    pub wipe_after: Duration,
    pub jitter_max: Duration,
}

impl Timers {
    /// For tunnels whose path a classic ICE agent finds.
    ///
    /// As in paper §6.1, but for two: `rekey_attempt` (there 90 s) is just above the time in which the ICE agent gives up a
    /// path (16.5 s), so that a tunnel may move before it fails; `stop_sealing_after` does not exist there.
    pub const CLASSIC: Self = Self {
        rekey_after: Duration::from_secs(120),
        rekey_on_receive_after: Duration::from_secs(165),
        stop_sealing_after: Duration::from_secs(170),
        reject_after: Duration::from_secs(180),
        rekey_timeout: Duration::from_secs(5),
        rekey_attempt: Duration::from_secs(20),
        silence: Duration::from_secs(15),
        keepalive: Duration::from_secs(10),
        wipe_after: Duration::from_secs(540),
        jitter_max: Duration::from_millis(333),
    };
}
