//! What came of the connectivity checks of one connection, pair by pair; for people who ask why a path is what it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::pair_choice::Pair;

/// Ours: pairs that are remembered; the one checked longest ago gives way to another.
const MAX_PAIRS: usize = 64;
/// A new round trip counts for an eighth (as RFC 6298 §2 smooths it).
const SMOOTHING: u32 = 8;

/// By pair, ascending: a few, and a tree has room for eleven at the least.
#[derive(Debug, Default)]
pub(crate) struct CheckBook(Vec<(Pair, Outcome)>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Smoothed.
    pub(crate) round_trip: Option<Duration>,
    last_sent_at: Instant,
}

impl CheckBook {
    pub(crate) fn sent(&mut self, pair: Pair, now: Instant) {
        if self.0.len() >= MAX_PAIRS && self.place(pair).is_err() {
            let ages = self.0.iter().enumerate();
            let oldest = ages.min_by_key(|(_, (_, outcome))| outcome.last_sent_at);
            if let Some((oldest, _)) = oldest {
                self.0.remove(oldest);
            }
        }
        let place = self.place(pair).unwrap_or_else(|place| {
            let unchecked = Outcome {
                sent: 0,
                answered: 0,
                round_trip: None,
                last_sent_at: now,
            };
            self.0.reserve_exact(1);
            self.0.insert(place, (pair, unchecked));
            place
        });
        let (_, outcome) = &mut self.0[place];
        outcome.sent += 1;
        outcome.last_sent_at = now;
    }

    /// One of the checks sent on `pair` was answered. A peer that repeats its answer answers no more than were sent.
    pub(crate) fn answered(&mut self, pair: Pair, took: Duration) {
        if let Ok(place) = self.place(pair)
            && let (_, outcome) = &mut self.0[place]
            && outcome.answered < outcome.sent
        {
            outcome.answered += 1;
            outcome.round_trip = Some(match outcome.round_trip {
                None => took,
                Some(known) => (known * (SMOOTHING - 1) + took) / SMOOTHING,
            });
        }
    }

    /// An address of either end is void.
    pub(crate) fn forget(&mut self, is_void: impl Fn(Pair) -> bool) {
        self.0.retain(|(pair, _)| !is_void(*pair));
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Pair, Outcome)> {
        self.0.iter().copied()
    }

    fn place(&self, pair: Pair) -> Result<usize, usize> {
        self.0.binary_search_by_key(&pair, |(known, _)| *known)
    }
}

/// What came of the checks on one pair of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedPair {
    /// Our address that checks are sent from: a socket's, or a relayed one.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// `host`, `srflx`, `prflx` or `relay` (RFC 8839 §5.1).
    pub local_kind: &'static str,
    pub remote_kind: &'static str,
    pub sent: u64,
    pub answered: u64,
    pub round_trip: Option<Duration>,
    /// The connection's packets take it.
    pub is_chosen: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_MS: Duration = Duration::from_millis(10);

    fn pair(port: u16) -> Pair {
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        Pair {
            source: address(1),
            destination: address(port),
        }
    }

    #[test]
    fn a_peer_answers_no_more_than_it_was_asked() {
        let (mut book, now) = (CheckBook::default(), crate::testing::epoch());
        book.answered(pair(2), TEN_MS);
        assert_eq!(book.outcomes().count(), 0);
        book.sent(pair(2), now);
        for _ in 0..3 {
            book.answered(pair(2), TEN_MS);
        }
        let (_, outcome) = book.outcomes().next().unwrap();
        assert_eq!(
            (outcome.sent, outcome.answered, outcome.round_trip),
            (1, 1, Some(TEN_MS))
        );
    }

    #[test]
    fn one_late_answer_moves_the_round_trip_by_an_eighth() {
        let (mut book, now) = (CheckBook::default(), crate::testing::epoch());
        for took in [TEN_MS, 9 * TEN_MS] {
            book.sent(pair(2), now);
            book.answered(pair(2), took);
        }
        let (_, outcome) = book.outcomes().next().unwrap();
        assert_eq!(outcome.round_trip, Some(2 * TEN_MS));
    }

    #[test]
    fn pairs_are_bounded_and_those_that_are_checked_stay() {
        let (mut book, now) = (CheckBook::default(), crate::testing::epoch());
        for port in 2..1_000 {
            let now = now + TEN_MS * u32::from(port);
            book.sent(pair(port), now);
            book.sent(pair(1), now);
        }
        assert_eq!(book.outcomes().count(), MAX_PAIRS);
        assert!(book.outcomes().any(|(known, _)| known == pair(1)));
        book.forget(|known| known != pair(1));
        assert_eq!(book.outcomes().count(), 1);
    }
}
