//! One instant for tests to count from.

use std::time::Instant;

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; its value does not matter"
)]
pub fn an_instant() -> Instant {
    Instant::now()
}
