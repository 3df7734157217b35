//! Hashing of keys that a peer chooses.
//!
//! `FxHash` is fixed and linear: whoever may choose ports and addresses finds thousands of keys that meet in one place of the
//! table, and each packet then walks past all of them. Here every word goes through a folded multiplication with secret
//! numbers, as in wyhash: which keys meet depends on numbers that a peer cannot learn.

use std::hash::{BuildHasher, Hasher};

#[derive(Clone, Copy)]
pub struct SeededState {
    seeds: [u64; 2],
}

impl SeededState {
    /// The seeds are secret: draw them.
    pub fn new(seeds: [u64; 2]) -> Self {
        // A multiplier wants many ones and must not be 0.
        Self {
            seeds: [seeds[0], seeds[1] | 0x8000_0001_0000_0001],
        }
    }
}

impl std::fmt::Debug for SeededState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SeededState(…)")
    }
}

impl BuildHasher for SeededState {
    type Hasher = SeededHasher;

    #[inline]
    fn build_hasher(&self) -> SeededHasher {
        SeededHasher {
            state: self.seeds[0],
            multiplier: self.seeds[1],
        }
    }
}

pub struct SeededHasher {
    state: u64,
    multiplier: u64,
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = folded(self.state ^ word, self.multiplier);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        folded(self.state, self.multiplier.rotate_left(32))
    }
}

/// Both halves of the product, joined.
fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    /// The fullest of 2^bits places when so many keys are spread.
    fn fullest(state: SeededState, keys: impl Iterator<Item = (u16, IpAddr)>, bits: u32) -> usize {
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        for key in keys {
            *places
                .entry(state.hash_one(key) & ((1 << bits) - 1))
                .or_default() += 1;
        }
        places.into_values().max().unwrap_or_default()
    }

    #[test]
    fn neighbouring_keys_spread_over_the_table() {
        let state = SeededState::new([0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]);
        let keys = (0..=u16::MAX).map(|port| (port, IpAddr::from([100, 96, 0, 1])));
        assert!(fullest(state, keys, 16) < 12);
    }

    #[test]
    fn keys_that_meet_under_one_seed_part_under_another() {
        let place = |state: SeededState, port: u16, last: u8| {
            state.hash_one((port, IpAddr::from([100, 96, 0, last]))) & 0xfff
        };
        let known = SeededState::new([1, 2]);
        let meeting: Vec<(u16, u8)> = (0..=u16::MAX)
            .flat_map(|port| (0..=7).map(move |last| (port, last)))
            .filter(|(port, last)| place(known, *port, *last) == 0)
            .collect();
        assert!(meeting.len() > 64, "{}", meeting.len());
        let secret = SeededState::new([0x5ca1_ab1e_0ddb_a115, 0xdead_10cc_cafe_f00d]);
        let keys = meeting
            .iter()
            .map(|(port, last)| (*port, IpAddr::from([100, 96, 0, *last])));
        assert!(fullest(secret, keys, 12) < 8);
    }
}
