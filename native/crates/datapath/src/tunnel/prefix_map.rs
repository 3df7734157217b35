//! Longest-prefix look-up: a hash table of prefixes and, per family, the list of lengths that occur.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::steps;
use crate::prefix::Prefix;

#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    values: FxHashMap<Prefix, V>,
    /// Longest first; a length is asked once per look-up, however many prefixes have it.
    ipv4_lengths: Vec<u8>,
    ipv6_lengths: Vec<u8>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self {
            values: FxHashMap::default(),
            ipv4_lengths: Vec::new(),
            ipv6_lengths: Vec::new(),
        }
    }
}

impl<V: Default> PrefixMap<V> {
    pub fn entry(&mut self, prefix: Prefix) -> &mut V {
        let lengths = if prefix.address().is_ipv4() {
            &mut self.ipv4_lengths
        } else {
            &mut self.ipv6_lengths
        };
        if let Err(at) = lengths.binary_search_by(|length| prefix.length().cmp(length)) {
            lengths.insert(at, prefix.length());
        }
        self.values.entry(prefix).or_default()
    }
}

impl<V> PrefixMap<V> {
    pub fn get(&self, prefix: Prefix) -> Option<&V> {
        self.values.get(&prefix)
    }

    pub fn get_mut(&mut self, prefix: Prefix) -> Option<&mut V> {
        self.values.get_mut(&prefix)
    }

    /// Remove an entry. Its length goes on being asked: a family has few of them.
    pub fn remove(&mut self, prefix: Prefix) -> Option<V> {
        self.values.remove(&prefix)
    }

    /// All entries that cover `address`, longest prefix first.
    pub fn covering(&self, address: IpAddr) -> impl Iterator<Item = (u8, &V)> {
        let lengths = if address.is_ipv4() {
            &self.ipv4_lengths
        } else {
            &self.ipv6_lengths
        };
        lengths.iter().filter_map(move |&length| {
            steps::count(1);
            let prefix = Prefix::new(address, length)?;
            Some((length, self.values.get(&prefix)?))
        })
    }

    pub fn covers(&self, address: IpAddr) -> bool {
        self.covering(address).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_same_prefixes_cover_as_by_trying_all(
            networks in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            address in any::<u32>(),
        ) {
            let address = IpAddr::V4(address.into());
            let prefixes: Vec<Prefix> = networks
                .iter()
                .filter_map(|(bits, length)| Prefix::new(IpAddr::V4((*bits).into()), *length))
                .collect();
            let mut map: PrefixMap<()> = PrefixMap::default();
            for prefix in &prefixes {
                *map.entry(*prefix) = ();
            }
            let found: Vec<u8> = map.covering(address).map(|(length, ())| length).collect();
            let mut expected: Vec<u8> = prefixes
                .iter()
                .filter(|prefix| prefix.contains(address))
                .map(Prefix::length)
                .collect();
            expected.sort_unstable_by(|one, other| other.cmp(one));
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }
}
