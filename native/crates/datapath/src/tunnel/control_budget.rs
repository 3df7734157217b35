//! How many control packets of one peer Python hears of.

use std::time::{Duration, Instant};

/// A client assigns its names' addresses all at once when access to them is granted, and each again every two seconds at most
/// while it has traffic; ours.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_micros(1_000_000 / 128);

/// A token bucket.
#[derive(Clone, Debug, Default)]
pub struct ControlBudget {
    /// When the bucket will be full again; `None`: it never was touched.
    full_at: Option<Instant>,
}

impl ControlBudget {
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + INTERVAL;
        let admitted = full_at <= now + INTERVAL * BURST;
        if admitted {
            self.full_at = Some(full_at);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::test_clock::an_instant;

    #[test]
    fn a_burst_is_admitted_then_so_many_a_second() {
        let mut now = an_instant();
        let mut budget = ControlBudget::default();
        let mut admitted = |now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(admitted(now), 256);
        now += Duration::from_secs(1);
        assert_eq!(admitted(now), 128);
        now += Duration::from_secs(60);
        assert_eq!(admitted(now), 256);
    }
}
