//! Tests of the public interface: two ends, a simulated link, virtual time.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

mod cookies;
mod differential;
mod handshakes;
mod hostile_input;
mod laws;
mod timers;
