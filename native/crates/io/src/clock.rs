//! The engines' clock: CLOCK_BOOTTIME, expressed as `Instant`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sys;

/// Maps time since boot, suspension included, to `Instant`s, which the engines take.
///
/// An `Instant` read from the operating system stands still while the machine sleeps; a grant that expires must not. So one
/// arbitrary `Instant` stands for boot, and every later one is that plus what the boot clock says. Such instants must not
/// be mixed with `Instant::now()`.
#[derive(Clone, Copy, Debug)]
pub struct BootClock {
    zero: Instant,
    unix_at_zero: Duration,
}

impl BootClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the clocks are read"
    )]
    pub fn new() -> Self {
        let zero = Instant::now();
        Self {
            zero,
            unix_at_zero: unix_now().saturating_sub(sys::boot_time()),
        }
    }

    pub fn now(&self) -> Instant {
        self.zero + sys::boot_time()
    }

    /// Seconds since boot: `now` as the number that crosses the binding.
    pub fn seconds(&self) -> f64 {
        sys::boot_time().as_secs_f64()
    }

    /// The instant that stands for boot, second zero.
    pub fn zero(&self) -> Instant {
        self.zero
    }

    /// Unix time at [`BootClock::zero`], by what the wall clock showed when this was made.
    pub fn unix_at_zero(&self) -> Duration {
        self.unix_at_zero
    }

    /// Time since boot at `instant`, for a timer; before boot is boot.
    pub fn boot_time_at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.zero)
    }
}

impl Default for BootClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Unix time, as the wall clock shows it now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the clocks are read"
)]
pub fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_boot_time_map_to_each_other() {
        let clock = BootClock::new();
        let before = sys::boot_time();
        let now = clock.boot_time_at(clock.now());
        assert!(before <= now && now <= sys::boot_time());
        assert_eq!(
            clock.boot_time_at(clock.zero() + Duration::from_millis(5)),
            Duration::from_millis(5)
        );
        assert_eq!(
            clock.boot_time_at(clock.zero() - Duration::from_secs(1)),
            Duration::ZERO
        );
    }

    #[test]
    fn the_wall_clock_at_zero_leads_to_the_wall_clock_now() {
        let clock = BootClock::new();
        let now = clock.unix_at_zero().as_secs_f64() + clock.seconds();
        assert!((now - unix_now().as_secs_f64()).abs() < 1.0);
    }
}
