//! Token buckets for those who have proved nothing, in memory of fixed size.
//!
//! Whoever can forge sources can fill any table that grows or evicts; here every source hashes to one of a fixed number of
//! buckets. Two sources that share a bucket share its rate, which the keyed hash makes a matter of luck, not of choice.
//!
//! A client that holds an allocation draws on a bucket of its own ([`Bucket`], in the allocation), and one whose signature
//! is right on the bucket of its username: forged packets from a client's address cost strangers at that address their
//! answers, and nobody else.

use std::net::IpAddr;
use std::time::{Duration, Instant};

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

/// Tokens of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Milliseconds since the epoch, wrapping after 49 days: an idle bucket then fills a little later.
    filled_at_ms: u32,
    tokens: f32,
}

impl Bucket {
    pub(super) const FULL: Bucket = Bucket {
        filled_at_ms: 0,
        tokens: BURST,
    };

    /// Take one token; false when there is none. `since_epoch` is the same clock at each call.
    pub(super) fn take(&mut self, since_epoch: Duration) -> bool {
        let now_ms = since_epoch.as_millis() as u32;
        let elapsed_ms = now_ms.wrapping_sub(self.filled_at_ms);
        self.filled_at_ms = now_ms;
        self.tokens = (self.tokens + elapsed_ms as f32 * (RATE_PER_S / 1_000.0)).min(BURST);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl RateLimiter {
    pub(super) fn new(key: u64, epoch: Instant) -> RateLimiter {
        RateLimiter {
            buckets: vec![Bucket::FULL; BUCKETS],
            epoch,
            key,
        }
    }

    /// The time that buckets outside this table count by.
    pub(super) fn since_epoch(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// Take one token of an address's bucket: one IPv4 address, or one IPv6 /64, all of which a single host owns.
    pub(super) fn take_of_address(&mut self, source: IpAddr, now: Instant) -> bool {
        let prefix = match source {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        self.take(prefix, now)
    }

    /// Take one token of a username's bucket.
    pub(super) fn take_of_user(&mut self, username: &str, now: Instant) -> bool {
        let digest = username.bytes().fold(USERS, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.take(digest, now)
    }

    fn take(&mut self, source: u64, now: Instant) -> bool {
        let since_epoch = self.since_epoch(now);
        let at = self.bucket_of(source);
        self.buckets[at].take(since_epoch)
    }

    fn bucket_of(&self, source: u64) -> usize {
        let mut hash = source ^ self.key;
        for _ in 0..2 {
            hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash >> 48) as usize % BUCKETS
    }
}

/// Start of the digest of usernames (FNV-1a's offset), which keeps them apart from addresses.
const USERS: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_burst_and_then_goes_at_its_rate() {
        let epoch = super::super::tests::epoch();
        let mut limiter = RateLimiter::new(7, epoch);
        let source = IpAddr::from([192, 0, 2, 1]);
        let taken = (0..2_000)
            .filter(|_| limiter.take_of_address(source, epoch))
            .count();
        assert_eq!(taken, BURST as usize);
        let later = epoch + Duration::from_secs(2);
        let taken = (0..2_000)
            .filter(|_| limiter.take_of_address(source, later))
            .count();
        assert_eq!(taken, 2 * RATE_PER_S as usize);
    }

    #[test]
    fn other_sources_are_not_slowed_down() {
        let epoch = super::super::tests::epoch();
        let mut limiter = RateLimiter::new(7, epoch);
        while limiter.take_of_address(IpAddr::from([192, 0, 2, 1]), epoch) {}
        let untouched = (2..=250u8)
            .filter(|n| limiter.take_of_address(IpAddr::from([192, 0, 2, *n]), epoch))
            .count();
        assert!(
            untouched >= 245,
            "only {untouched} of 249 sources were answered"
        );
    }
}
