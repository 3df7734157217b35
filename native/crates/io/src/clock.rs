//! The engines' clock: CLOCK_BOOTTIME, expressed as `Instant`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sys;

/// Maps time since boot, suspension included, to `Instant`s, which the engines take.
///
/// An `Instant` read from the operating system stands still while the machine sleeps; a grant that expires must not. So one
/// reading of both clocks is the anchor, and every later `now` is the anchor plus what the boot clock says. Such instants must
/// not be mixed with `Instant::now()`.
#[derive(Clone, Copy, Debug)]
pub struct BootClock {
    anchor: Instant,
    anchor_boot: Duration,
    unix_at_anchor: Duration,
}

impl BootClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the clocks are read"
    )]
    pub fn new() -> Self {
        Self {
            anchor: Instant::now(),
            anchor_boot: sys::boot_time(),
            unix_at_anchor: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    pub fn now(&self) -> Instant {
        self.at_boot_time(sys::boot_time())
    }

    /// Seconds since boot, the number that crosses the binding.
    pub fn seconds(&self) -> f64 {
        sys::boot_time().as_secs_f64()
    }

    /// The instant that an engine is to call its zero, and the seconds since boot at that instant.
    pub fn anchor(&self) -> (Instant, f64) {
        (self.anchor, self.anchor_boot.as_secs_f64())
    }

    /// Unix time at the anchor, as the wall clock showed it then.
    pub fn unix_at_anchor(&self) -> Duration {
        self.unix_at_anchor
    }

    /// Unix time, as the wall clock shows it now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the clocks are read"
    )]
    pub fn unix_now(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    /// Time since boot at `instant`, for a timer.
    pub fn boot_time_at(&self, instant: Instant) -> Duration {
        match instant.checked_duration_since(self.anchor) {
            Some(later) => self.anchor_boot + later,
            None => self
                .anchor_boot
                .saturating_sub(self.anchor.duration_since(instant)),
        }
    }

    fn at_boot_time(&self, boot_time: Duration) -> Instant {
        self.anchor + boot_time.saturating_sub(self.anchor_boot)
    }
}

impl Default for BootClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_boot_time_map_to_each_other() {
        let clock = BootClock::new();
        let now = clock.now();
        assert_eq!(clock.at_boot_time(clock.boot_time_at(now)), now);
        let earlier = clock.anchor - Duration::from_millis(5);
        assert_eq!(
            clock.anchor_boot - clock.boot_time_at(earlier),
            Duration::from_millis(5)
        );
    }

    #[test]
    fn never_runs_backwards() {
        let clock = BootClock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.seconds() >= clock.anchor().1);
    }
}
