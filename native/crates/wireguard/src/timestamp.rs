//! TAI64N timestamps, which order the initiations of one static key (paper §5.1).

use std::time::{Duration, Instant};

/// 2^62 marks TAI64; TAI was 10 s ahead of UTC when Unix time began. Leap seconds since are left out: peers only compare.
const TAI64_AT_UNIX_EPOCH: u64 = (1 << 62) + 10;
const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

/// Where timestamps come from: a wall-clock reading taken once, then the monotonic clock alone.
///
/// A wall clock that steps back would make peers reject every initiation as a replay until it has caught up.
/// Share one per static key.
#[derive(Clone, Copy, Debug)]
pub struct TimestampClock {
    epoch: Instant,
    unix_at_epoch: Duration,
}

impl TimestampClock {
    /// Anchor the clock.
    ///
    /// Args: `epoch`, the monotonic instant at which `unix_at_epoch`, the time since 1970 UTC, was read.
    #[must_use]
    pub fn new(epoch: Instant, unix_at_epoch: Duration) -> Self {
        Self {
            epoch,
            unix_at_epoch,
        }
    }

    /// Give the timestamp of `now`, or, if that is not above `after`, the least one above it.
    pub(crate) fn timestamp(&self, now: Instant, after: Option<Timestamp>) -> Timestamp {
        let unix = self.unix_at_epoch + now.saturating_duration_since(self.epoch);
        let reading = Timestamp::new(unix.as_secs(), unix.subsec_nanos());
        match after {
            Some(after) if reading <= after => after.next(),
            _ => reading,
        }
    }
}

/// A TAI64N label: 8 bytes seconds, 4 bytes nanoseconds, big-endian, so that byte order is time order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Timestamp(pub [u8; 12]);

impl Timestamp {
    fn new(unix_s: u64, nanoseconds: u32) -> Self {
        let mut label = [0; 12];
        label[..8].copy_from_slice(&TAI64_AT_UNIX_EPOCH.wrapping_add(unix_s).to_be_bytes());
        label[8..].copy_from_slice(&nanoseconds.to_be_bytes());
        Self(label)
    }

    fn next(self) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = self.0;
        let unix_s =
            u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]).wrapping_sub(TAI64_AT_UNIX_EPOCH);
        let nanoseconds = u32::from_be_bytes([n0, n1, n2, n3]) + 1;
        if nanoseconds >= NANOSECONDS_PER_SECOND {
            Self::new(unix_s.wrapping_add(1), 0)
        } else {
            Self::new(unix_s, nanoseconds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    #[test]
    fn a_label_counts_seconds_since_1970_tai() {
        let epoch = epoch();
        let clock = TimestampClock::new(epoch, Duration::new(1, 2));
        assert_eq!(
            clock.timestamp(epoch, None).0,
            [0x40, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 2]
        );
        assert_eq!(
            clock.timestamp(epoch + Duration::from_secs(3), None).0,
            [0x40, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 2]
        );
    }

    #[test]
    fn labels_of_one_instant_still_rise() {
        let epoch = epoch();
        let clock = TimestampClock::new(epoch, Duration::new(1, 999_999_999));
        let first = clock.timestamp(epoch, None);
        let second = clock.timestamp(epoch, Some(first));
        assert!(second > first);
        assert_eq!(second.0, [0x40, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0]);
        assert!(clock.timestamp(epoch, Some(second)) > second);
    }
}
