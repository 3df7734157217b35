//! Token buckets per source, in memory of fixed size.
//!
//! Whoever can forge sources can fill any table that grows or evicts; here every source hashes to one of a fixed number of
//! buckets. Two sources that share a bucket share its rate, which the keyed hash makes a matter of luck, not of choice.

use std::net::IpAddr;
use std::time::Instant;

/// Buckets; 8 bytes each.
const BUCKETS: usize = 1 << 16;

/// Answers per second and source. Hundreds of clients behind one NAT keep alive with one every 25 s each (data-plane §1.4).
const RATE_PER_S: f32 = 100.0;

/// Answers at once: all clients behind a large NAT come back when a relay restarts.
const BURST: f32 = 1_000.0;

pub(super) struct RateLimiter {
    buckets: Vec<Bucket>,
    epoch: Instant,
    key: u64,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Milliseconds since the epoch, wrapping after 49 days: an idle bucket then fills a little later.
    filled_at_ms: u32,
    tokens: f32,
}

impl RateLimiter {
    pub(super) fn new(key: u64, epoch: Instant) -> RateLimiter {
        RateLimiter {
            buckets: vec![
                Bucket {
                    filled_at_ms: 0,
                    tokens: BURST
                };
                BUCKETS
            ],
            epoch,
            key,
        }
    }

    /// Take one token of the source's bucket; false when it is empty.
    pub(super) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        let now_ms = now.saturating_duration_since(self.epoch).as_millis() as u32;
        let at = self.bucket_of(source);
        let bucket = &mut self.buckets[at];
        let elapsed_ms = now_ms.wrapping_sub(bucket.filled_at_ms);
        bucket.filled_at_ms = now_ms;
        bucket.tokens = (bucket.tokens + elapsed_ms as f32 * (RATE_PER_S / 1_000.0)).min(BURST);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// One IPv4 address, or one IPv6 /64: a single host owns all of that.
    fn bucket_of(&self, source: IpAddr) -> usize {
        let prefix = match source {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        let mut hash = prefix ^ self.key;
        for _ in 0..2 {
            hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash >> 48) as usize % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_source_may_burst_and_then_goes_at_its_rate() {
        let epoch = super::super::tests::epoch();
        let mut limiter = RateLimiter::new(7, epoch);
        let source = IpAddr::from([192, 0, 2, 1]);
        let taken = (0..2_000).filter(|_| limiter.take(source, epoch)).count();
        assert_eq!(taken, BURST as usize);
        let later = epoch + Duration::from_secs(2);
        let taken = (0..2_000).filter(|_| limiter.take(source, later)).count();
        assert_eq!(taken, 2 * RATE_PER_S as usize);
    }

    #[test]
    fn other_sources_are_not_slowed_down() {
        let epoch = super::super::tests::epoch();
        let mut limiter = RateLimiter::new(7, epoch);
        while limiter.take(IpAddr::from([192, 0, 2, 1]), epoch) {}
        let untouched = (2..=250u8)
            .filter(|n| limiter.take(IpAddr::from([192, 0, 2, *n]), epoch))
            .count();
        assert!(
            untouched >= 245,
            "only {untouched} of 249 sources were answered"
        );
    }
}
