//! Which candidate pair to send on: the nominated one, unless it has fallen silent while others have not.
//!
//! An ICE agent holds on to a nominated pair until a whole ladder of checks has failed, 16 s on a client and 10 minutes on
//! a gateway, even though other pairs work all the while: a router that forgot its mappings, or a dead relay of the
//! peer's, would stop traffic for as long. Ours: count what is heard on other pairs since the one in use was last heard.
//! All pairs are checked at one pace, so that several signs of life elsewhere mean as many missed here. The first sign of
//! life of the nominated pair ends the detour. The agents, and what they say to each other, are not touched.

use std::net::SocketAddr;

/// Heard this often elsewhere, the pair in use has missed three checks or more.
const STALE: u32 = 4;
/// A pair worth moving to has been heard more than once.
const FRESH: u32 = 2;

/// A candidate of ours (the socket or relayed address to send from) and one of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

#[derive(Debug, Default)]
pub(crate) struct PairChoice {
    nominated: Option<Pair>,
    chosen: Option<Pair>,
    /// Signs of life of other pairs since the last one of the chosen; by pair, ascending.
    heard: Vec<(Pair, u32)>,
}

impl PairChoice {
    pub(crate) fn chosen(&self) -> Option<Pair> {
        self.chosen
    }

    pub(crate) fn nominate(&mut self, pair: Pair) {
        self.nominated = Some(pair);
        self.choose(pair);
    }

    /// The peer was heard on `pair`; `detours` tells over how many relays a pair goes, or none if it is unusable.
    pub(crate) fn heard(&mut self, pair: Pair, detours: impl Fn(Pair) -> Option<usize>) {
        if self.nominated.is_none() {
            return;
        }
        if self.chosen == Some(pair) || self.nominated == Some(pair) {
            return self.choose(pair);
        }
        let place = self.heard.binary_search_by_key(&pair, |(known, _)| *known);
        let place = place.unwrap_or_else(|place| {
            self.heard.insert(place, (pair, 0));
            place
        });
        let (_, times) = &mut self.heard[place];
        *times += 1;
        if *times < STALE {
            return;
        }
        let fresh = self.heard.iter().filter(|(_, times)| *times >= FRESH);
        let best = fresh
            .filter_map(|(pair, _)| Some((detours(*pair)?, *pair)))
            .min();
        if let Some((_, best)) = best {
            self.choose(best);
        }
    }

    fn choose(&mut self, pair: Pair) {
        self.chosen = Some(pair);
        // What is quiet keeps no room for it.
        self.heard = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(port: u16) -> Pair {
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        Pair {
            source: address(1),
            destination: address(port),
        }
    }

    fn hear(choice: &mut PairChoice, ports: &[u16]) {
        for port in ports {
            choice.heard(pair(*port), |pair| {
                Some(usize::from(pair.destination.port() / 10))
            });
        }
    }

    fn nominated(port: u16) -> PairChoice {
        let mut choice = PairChoice::default();
        choice.nominate(pair(port));
        choice
    }

    #[test]
    fn nothing_is_chosen_before_a_nomination() {
        let mut choice = PairChoice::default();
        hear(&mut choice, &[2, 2, 2, 2, 2]);
        assert_eq!(choice.chosen(), None);
    }

    #[test]
    fn a_nominated_pair_that_is_heard_now_and_then_stays() {
        let mut choice = nominated(1);
        hear(&mut choice, &[2, 2, 2, 1, 2, 2, 2, 1]);
        assert_eq!(choice.chosen(), Some(pair(1)));
    }

    #[test]
    fn a_silent_pair_is_left_for_the_straightest_of_those_heard() {
        let mut choice = nominated(1);
        hear(&mut choice, &[20, 10, 20, 10, 20, 3, 20]);
        assert_eq!(choice.chosen(), Some(pair(10)));
    }

    #[test]
    fn a_detour_that_falls_silent_is_left_as_well() {
        let mut choice = nominated(1);
        hear(&mut choice, &[2, 2, 2, 2]);
        assert_eq!(choice.chosen(), Some(pair(2)));
        hear(&mut choice, &[3, 3, 3, 3]);
        assert_eq!(choice.chosen(), Some(pair(3)));
    }

    #[test]
    fn the_nominated_pair_is_taken_up_again_as_soon_as_it_is_heard() {
        let mut choice = nominated(1);
        hear(&mut choice, &[2, 2, 2, 2, 1]);
        assert_eq!(choice.chosen(), Some(pair(1)));
    }

    #[test]
    fn an_unusable_pair_is_no_way_out() {
        let mut choice = nominated(1);
        for _ in 0..8 {
            choice.heard(pair(2), |_| None);
        }
        assert_eq!(choice.chosen(), Some(pair(1)));
    }
}
