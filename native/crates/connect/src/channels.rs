//! Channel numbers of one allocation: which peer each stands for, and since when (RFC 8656 §12, data-plane §1.4).
//!
//! ```text
//! bind ──► Binding ──answer──► Bound ──10 min──► expired ──+5 min──► number free
//!                               ▲ │ 5 min, and data came since
//!                               └─┘ refresh
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const FIRST_NUMBER: u16 = 0x4000;
const LAST_NUMBER: u16 = 0x4fff;
/// RFC 8656 §12: a binding lives 10 minutes, and its number must rest 5 more before it names another peer.
const LIFETIME: Duration = Duration::from_secs(600);
const REST: Duration = Duration::from_secs(300);
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// Ours: a peer that the relay refused is asked for again after this long.
const REFUSED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Channel {
    peer: SocketAddr,
    /// Start of the current lifetime: the bind or refresh was confirmed, or, until then, sent.
    bound_at: Instant,
    confirmed: bool,
    refreshing: bool,
    received_since: bool,
}

#[derive(Debug)]
pub(crate) struct Channels {
    by_number: BTreeMap<u16, Channel>,
    by_peer: BTreeMap<SocketAddr, u16>,
    refused: BTreeMap<SocketAddr, Instant>,
    next_number: u16,
    /// All numbers are taken until then, as the last search in vain has found: the next need not look.
    taken_until: Option<Instant>,
    /// No refresh is due before; kept, because it is asked for with each datagram.
    next_refresh_at: Option<Instant>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        Self {
            by_number: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            refused: BTreeMap::new(),
            next_number: FIRST_NUMBER,
            taken_until: None,
            next_refresh_at: None,
        }
    }

    /// The allocation is gone and its bindings with it; numbers go on where they were.
    pub(crate) fn clear(&mut self) {
        self.by_number.clear();
        self.by_peer.clear();
        self.refused.clear();
        self.taken_until = None;
        self.next_refresh_at = None;
    }

    /// The number that stands for `peer`, or last did.
    pub(crate) fn number(&self, peer: SocketAddr) -> Option<u16> {
        self.by_peer.get(&peer).copied()
    }

    /// The number to send to `peer` with: confirmed or at least requested, and not expired.
    fn to(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let number = *self.by_peer.get(&peer)?;
        let channel = self.by_number.get(&number)?;
        (now < channel.bound_at + LIFETIME).then_some(number)
    }

    /// Who sent what came in on `number`.
    pub(crate) fn peer(&self, number: u16) -> Option<SocketAddr> {
        self.by_number.get(&number).map(|channel| channel.peer)
    }

    /// Mark that data came in; returns the channel if that makes its refresh due.
    pub(crate) fn note_received(&mut self, number: u16, now: Instant) -> Option<(u16, SocketAddr)> {
        let channel = self.by_number.get_mut(&number)?;
        if !channel.received_since && channel.confirmed {
            let at = channel.bound_at + REFRESH_AFTER;
            self.next_refresh_at = Some(self.next_refresh_at.map_or(at, |known| known.min(at)));
        }
        channel.received_since = true;
        due(number, channel, now)
    }

    /// Choose the number for a new binding; none if the peer has one, was refused lately, or all numbers are taken.
    pub(crate) fn bind(&mut self, peer: SocketAddr, now: Instant) -> Option<u16> {
        if self.to(peer, now).is_some() {
            return None;
        }
        if let Some(&refused_at) = self.refused.get(&peer) {
            if now < refused_at + REFUSED_FOR {
                return None;
            }
            self.refused.remove(&peer);
        }
        // A peer whose binding expired gets its number back, which needs no rest.
        let number = match self.by_peer.get(&peer) {
            Some(&number) => number,
            None => self.free_number(now)?,
        };
        let channel = Channel {
            peer,
            bound_at: now,
            confirmed: false,
            refreshing: false,
            received_since: false,
        };
        self.by_number.insert(number, channel);
        self.by_peer.insert(peer, number);
        Some(number)
    }

    pub(crate) fn confirm(&mut self, number: u16, now: Instant) {
        if let Some(channel) = self.by_number.get_mut(&number) {
            channel.confirmed = true;
            channel.refreshing = false;
            channel.received_since = false;
            channel.bound_at = now;
        }
    }

    /// The relay refused this binding: forget it, and do not ask again at once.
    pub(crate) fn refuse(&mut self, number: u16, now: Instant) {
        if let Some(channel) = self.by_number.remove(&number) {
            self.by_peer.remove(&channel.peer);
            self.taken_until = None;
            self.refused
                .retain(|_, refused_at| now < *refused_at + REFUSED_FOR);
            self.refused.insert(channel.peer, now);
        }
    }

    /// Channels to refresh now; each is returned once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(u16, SocketAddr)> {
        if self.next_refresh_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let due = self
            .by_number
            .iter_mut()
            .filter_map(|(&number, channel)| due(number, channel, now))
            .collect();
        self.next_refresh_at = self
            .by_number
            .values()
            .filter(|channel| channel.confirmed && channel.received_since && !channel.refreshing)
            .map(|channel| channel.bound_at + REFRESH_AFTER)
            .filter(|at| *at > now)
            .min();
        due
    }

    /// When `take_due` may next return something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_refresh_at
    }

    fn free_number(&mut self, now: Instant) -> Option<u16> {
        if self.taken_until.is_some_and(|until| now < until) {
            return None;
        }
        for _ in FIRST_NUMBER..=LAST_NUMBER {
            let number = self.next_number;
            self.next_number = if number == LAST_NUMBER {
                FIRST_NUMBER
            } else {
                number + 1
            };
            match self.by_number.get(&number) {
                None => return Some(number),
                Some(channel) if now >= channel.bound_at + LIFETIME + REST => {
                    self.by_peer.remove(&channel.peer);
                    self.by_number.remove(&number);
                    return Some(number);
                }
                Some(_) => {}
            }
        }
        let oldest = self
            .by_number
            .values()
            .map(|channel| channel.bound_at)
            .min();
        self.taken_until = oldest.map(|bound_at| bound_at + LIFETIME + REST);
        None
    }
}

fn due(number: u16, channel: &mut Channel, now: Instant) -> Option<(u16, SocketAddr)> {
    let due = channel.confirmed
        && channel.received_since
        && !channel.refreshing
        && now >= channel.bound_at + REFRESH_AFTER
        && now < channel.bound_at + LIFETIME;
    due.then(|| {
        channel.refreshing = true;
        (number, channel.peer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], last))
    }

    fn start() -> Instant {
        #[allow(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    #[test]
    fn numbers_are_taken_in_turn_and_one_peer_keeps_its_own() {
        let now = start();
        let mut channels = Channels::new();
        assert_eq!(channels.bind(peer(1), now), Some(0x4000));
        assert_eq!(channels.bind(peer(2), now), Some(0x4001));
        assert_eq!(channels.bind(peer(1), now), None);
        assert_eq!(channels.to(peer(1), now), Some(0x4000));
        assert_eq!(channels.peer(0x4001), Some(peer(2)));
    }

    #[test]
    fn a_binding_expires_after_ten_minutes_and_the_peer_gets_its_number_back() {
        let now = start();
        let mut channels = Channels::new();
        channels.bind(peer(1), now);
        channels.confirm(0x4000, now);
        let later = now + Duration::from_secs(600);
        assert_eq!(
            channels.to(peer(1), later - Duration::from_millis(1)),
            Some(0x4000)
        );
        assert_eq!(channels.to(peer(1), later), None);
        assert_eq!(channels.bind(peer(1), later), Some(0x4000));
    }

    #[test]
    fn a_number_names_another_peer_only_after_fifteen_minutes() {
        let now = start();
        let mut channels = Channels::new();
        for port in 0..4096 {
            assert!(channels.bind(peer(port), now).is_some());
        }
        let rested = now + Duration::from_secs(900);
        assert_eq!(
            channels.bind(peer(5000), rested - Duration::from_millis(1)),
            None
        );
        assert_eq!(channels.bind(peer(5000), rested), Some(0x4000));
        assert_eq!(channels.to(peer(0), rested), None);
    }

    #[test]
    fn a_refusal_frees_a_number_when_all_are_taken() {
        let now = start();
        let mut channels = Channels::new();
        for port in 0..4096 {
            assert!(channels.bind(peer(port), now).is_some());
        }
        assert_eq!(channels.bind(peer(5000), now), None);
        channels.refuse(0x4007, now);
        assert_eq!(channels.bind(peer(5000), now), Some(0x4007));
        assert_eq!(channels.bind(peer(5001), now), None);
    }

    #[test]
    fn only_a_channel_that_received_data_is_refreshed() {
        let now = start();
        let mut channels = Channels::new();
        for port in [1, 2] {
            let number = channels.bind(peer(port), now).unwrap();
            channels.confirm(number, now);
        }
        assert_eq!(channels.note_received(0x4001, now), None);
        let due = now + Duration::from_secs(300);
        assert_eq!(channels.poll_timeout(), Some(due));
        assert_eq!(channels.take_due(due), vec![(0x4001, peer(2))]);
        assert_eq!(channels.take_due(due), vec![]);
        // Data that comes in late makes the refresh due at once.
        assert_eq!(channels.note_received(0x4000, due), Some((0x4000, peer(1))));
    }

    #[test]
    fn a_refused_peer_is_left_alone_for_a_minute() {
        let now = start();
        let mut channels = Channels::new();
        channels.bind(peer(1), now);
        channels.refuse(0x4000, now);
        assert_eq!(channels.to(peer(1), now), None);
        assert_eq!(channels.bind(peer(1), now + Duration::from_secs(59)), None);
        assert!(
            channels
                .bind(peer(1), now + Duration::from_secs(60))
                .is_some()
        );
    }
}
