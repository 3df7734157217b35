//! What unit tests share.

use std::time::Instant;

/// Where virtual time starts.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only come from the clock; tests count from it"
)]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}
