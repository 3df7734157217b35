//! The node's guard before the costly part of handshakes: mac1 always, mac2 when too many arrive (paper §5.3).
//!
//! A cookie proves an address, but whoever has one may still send for the rest of us all: under load each address that has
//! proved itself has a share of its own, as in the Linux kernel (`ratelimiter.c`).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::cookie::{cookie_key, mac1_key};
use crate::crypto::{mac, seal_extended};
use crate::keys::PublicKey;
use crate::message::{
    COOKIE_REPLY_SIZE, MAC_SIZE, MessageKind, classify, cookie_reply, field, initiation,
    mac1_offset,
};

/// Handshake messages answered per second before the node counts as under load; also the burst (data-plane §2.5).
pub const HANDSHAKES_PER_SECOND: u32 = 100;
/// With a good cookie and under load, from one address; these two are the kernel's.
pub const HANDSHAKES_PER_SECOND_OF_A_SOURCE: u32 = 20;
pub const BURST_OF_A_SOURCE: u32 = 5;
/// Shares; 8 bytes each. Addresses that meet in one share it, which the keyed hash makes a matter of luck, not of choice.
const SHARES: usize = 1 << 13;
/// data-plane §9.2. Cookies of the secret before are still good, so that each lives at least as long as its user keeps it.
const SECRET_LIFETIME: Duration = Duration::from_secs(128);

/// What to do with a handshake message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Hand it to its tunnel.
    Pass,
    /// Do not; send these bytes back to where it came from, and from where it arrived.
    CookieReply(Vec<u8>),
    /// Drop it: its source has proved its address, and sends too many.
    Limited,
    Drop,
}

/// Judges handshake messages, for all tunnels of a node together.
pub struct Gate {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    bucket: Bucket,
    secrets: CookieSecrets,
    shares: Shares,
    rng: StdRng,
}

impl Gate {
    /// Guard the owner of `public`; cookies and their nonces derive from `seed`.
    #[must_use]
    pub fn new(public: &PublicKey, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = StdRng::from_seed(seed);
        Self {
            mac1_key: mac1_key(public),
            cookie_key: cookie_key(public),
            bucket: Bucket::new(now),
            secrets: CookieSecrets::new(&mut rng, now),
            shares: Shares::new(random_secret(&mut rng), now),
            rng,
        }
    }

    /// Judge a datagram that came `from` an address: as the network saw it, so of the relay's far side if one is between.
    ///
    /// Cookie replies pass: they cost one decryption, and only if they answer a message of ours. Data messages and anything
    /// else are dropped, they do not belong here.
    pub fn check(&mut self, message: &[u8], from: SocketAddr, now: Instant) -> Verdict {
        match classify(message) {
            Some(MessageKind::Initiation | MessageKind::Response) => {
                self.check_macs(message, from, now)
            }
            Some(MessageKind::CookieReply) => Verdict::Pass,
            Some(MessageKind::Data) | None => Verdict::Drop,
        }
    }

    fn check_macs(&mut self, message: &[u8], from: SocketAddr, now: Instant) -> Verdict {
        let (body, macs) = message.split_at(mac1_offset(message.len()));
        let (mac1, mac2) = macs.split_at(MAC_SIZE);
        if !bool::from(mac(&self.mac1_key, &[body]).ct_eq(mac1)) {
            return Verdict::Drop;
        }
        if self.bucket.take(now) {
            return Verdict::Pass;
        }
        self.secrets.rotate(&mut self.rng, now);
        if self
            .secrets
            .cookies(from)
            .any(|cookie| mac(&cookie, &[body, mac1]).ct_eq(mac2).into())
        {
            return if self.shares.take(from.ip(), now) {
                Verdict::Pass
            } else {
                Verdict::Limited
            };
        }
        Verdict::CookieReply(self.cookie_reply(message, mac1, from))
    }

    fn cookie_reply(&mut self, message: &[u8], mac1: &[u8], from: SocketAddr) -> Vec<u8> {
        let mut nonce = [0; 24];
        self.rng.fill_bytes(&mut nonce);
        let cookie = cookie_for(&self.secrets.current, from);
        let mut reply = vec![0; COOKIE_REPLY_SIZE];
        reply[..4].copy_from_slice(&MessageKind::CookieReply.header());
        reply[cookie_reply::RECEIVER].copy_from_slice(&field::<4>(message, initiation::SENDER));
        reply[cookie_reply::NONCE].copy_from_slice(&nonce);
        seal_extended(
            &self.cookie_key,
            &nonce,
            mac1,
            &cookie,
            &mut reply[cookie_reply::COOKIE],
        );
        reply
    }
}

/// A token bucket; each handshake message takes one.
struct Bucket {
    /// In units of 1/1,000,000 token, so that refilling by the microsecond is exact.
    level: u64,
    filled_at: Instant,
}

impl Bucket {
    const TOKEN: u64 = 1_000_000;
    const CAPACITY: u64 = HANDSHAKES_PER_SECOND as u64 * Self::TOKEN;

    fn new(now: Instant) -> Self {
        Self {
            level: Self::CAPACITY,
            filled_at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed_us = u64::try_from(now.saturating_duration_since(self.filled_at).as_micros())
            .unwrap_or(u64::MAX);
        let refill = elapsed_us.saturating_mul(u64::from(HANDSHAKES_PER_SECOND));
        self.level = self.level.saturating_add(refill).min(Self::CAPACITY);
        self.filled_at += Duration::from_micros(elapsed_us);
        match self.level.checked_sub(Self::TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}

/// What each source may still send under load, in memory of fixed size.
struct Shares {
    key: Zeroizing<[u8; 32]>,
    epoch: Instant,
    /// Microseconds since the epoch at which a source will have used nothing of its share.
    unused_at_us: Box<[u64]>,
}

impl Shares {
    const INTERVAL_US: u64 = 1_000_000 / HANDSHAKES_PER_SECOND_OF_A_SOURCE as u64;
    const TOLERANCE_US: u64 = Self::INTERVAL_US * (BURST_OF_A_SOURCE as u64 - 1);

    fn new(key: Zeroizing<[u8; 32]>, now: Instant) -> Self {
        Self {
            key,
            epoch: now,
            unused_at_us: vec![0; SHARES].into(),
        }
    }

    /// Take one message out of the share of an IPv4 address, or of an IPv6 /64, all of which a single host may own.
    fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        let now_us = u64::try_from(now.saturating_duration_since(self.epoch).as_micros())
            .unwrap_or(u64::MAX);
        let prefix = match source {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        let [low, high, ..] = mac(&self.key[..], &[&prefix.to_le_bytes()]);
        let place = usize::from(u16::from_le_bytes([low, high])) % SHARES;
        let unused_at_us = self.unused_at_us[place].max(now_us);
        if unused_at_us - now_us > Self::TOLERANCE_US {
            return false;
        }
        self.unused_at_us[place] = unused_at_us + Self::INTERVAL_US;
        true
    }
}

/// The secret that cookies are made with, and the one before.
struct CookieSecrets {
    current: Zeroizing<[u8; 32]>,
    previous: Option<Zeroizing<[u8; 32]>>,
    made_at: Instant,
}

impl CookieSecrets {
    fn new(rng: &mut StdRng, now: Instant) -> Self {
        Self {
            current: random_secret(rng),
            previous: None,
            made_at: now,
        }
    }

    fn rotate(&mut self, rng: &mut StdRng, now: Instant) {
        let age = now.saturating_duration_since(self.made_at);
        if age < SECRET_LIFETIME {
            return;
        }
        let retired = std::mem::replace(&mut self.current, random_secret(rng));
        self.previous = (age < 2 * SECRET_LIFETIME).then_some(retired);
        self.made_at = now;
    }

    fn cookies(&self, from: SocketAddr) -> impl Iterator<Item = [u8; 16]> + '_ {
        std::iter::once(&self.current)
            .chain(self.previous.as_ref())
            .map(move |secret| cookie_for(secret, from))
    }
}

fn random_secret(rng: &mut StdRng) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut secret[..]);
    secret
}

/// A cookie binds address *and* port: without the port, all hosts behind one NAT could use each other's.
fn cookie_for(secret: &[u8; 32], from: SocketAddr) -> [u8; 16] {
    let port = from.port().to_be_bytes();
    match from.ip() {
        IpAddr::V4(ip) => mac(secret, &[&ip.octets(), &port]),
        IpAddr::V6(ip) => mac(secret, &[&ip.octets(), &port]),
    }
}
