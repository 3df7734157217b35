//! Virtual time: seconds that the caller counts, as the engines' instants.

use std::time::{Duration, Instant};

use pyo3::PyResult;
use pyo3::exceptions::PyValueError;

#[derive(Clone, Copy)]
pub struct VirtualClock {
    /// What `now == 0.0` stands for; which instant it is does not matter.
    zero: Instant,
}

impl VirtualClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; nothing depends on its value"
    )]
    pub fn new() -> Self {
        Self {
            zero: Instant::now(),
        }
    }

    pub fn zero(&self) -> Instant {
        self.zero
    }

    pub fn instant(&self, now: f64) -> PyResult<Instant> {
        duration(now)
            .and_then(|elapsed| self.zero.checked_add(elapsed))
            .ok_or_else(|| PyValueError::new_err("a time is negative or not finite"))
    }

    pub fn seconds(&self, instant: Instant) -> f64 {
        instant.saturating_duration_since(self.zero).as_secs_f64()
    }
}

/// Wall time at zero, given as Unix seconds.
pub fn unix_time(seconds: f64) -> PyResult<Duration> {
    duration(seconds).ok_or_else(|| PyValueError::new_err("a time lies before 1970"))
}

fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}
