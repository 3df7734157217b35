//! Which outside values are in use towards which real address: runs of neighbours, so that the next free one is found at once
//! however many there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::nat_table::{Protocol, Side};
use super::steps;

/// The first value of a run; then comes its last one. Runs neither overlap nor touch.
type Start = (Protocol, IpAddr, u16);

#[derive(Clone, Debug, Default)]
pub struct UsedValues {
    runs: BTreeMap<Start, u16>,
}

impl UsedValues {
    /// `wanted` if its value is free, else the next higher free one, wrapping to 1.
    pub fn free_from(&self, wanted: Side) -> Option<Side> {
        let with = |value| Side { value, ..wanted };
        let Some((_, last)) = self.run_of(wanted) else {
            return Some(wanted);
        };
        if let Some(value) = last.checked_add(1) {
            return Some(with(value));
        }
        match self.run_of(with(1)) {
            None => Some(with(1)),
            Some((_, last)) => last.checked_add(1).map(with),
        }
    }

    /// Note a free value as used.
    pub fn take(&mut self, side: Side) {
        let start = |value| (side.protocol, side.address, value);
        let last = side
            .value
            .checked_add(1)
            .and_then(|next| self.runs.remove(&start(next)))
            .unwrap_or(side.value);
        let before = side.value.checked_sub(1);
        let first = before
            .and_then(|value| self.run_of(Side { value, ..side }))
            .map_or(side.value, |(first, _)| first);
        self.runs.insert(start(first), last);
    }

    /// Note a used value as free.
    pub fn release(&mut self, side: Side) {
        let start = |value| (side.protocol, side.address, value);
        let Some((first, last)) = self.run_of(side) else {
            return;
        };
        if first == side.value {
            self.runs.remove(&start(first));
        } else {
            self.runs.insert(start(first), side.value - 1);
        }
        if last > side.value {
            self.runs.insert(start(side.value + 1), last);
        }
    }

    /// The run that the value is in.
    fn run_of(&self, side: Side) -> Option<(u16, u16)> {
        steps::count(1);
        let (start, last) = self
            .runs
            .range(..=(side.protocol, side.address, side.value))
            .next_back()?;
        let (protocol, address, first) = *start;
        let covers = (protocol, address) == (side.protocol, side.address) && *last >= side.value;
        covers.then_some((first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn side(value: u16) -> Side {
        Side {
            protocol: Protocol::Udp,
            value,
            address: [10, 0, 0, 1].into(),
        }
    }

    /// By trying one after the other.
    fn next_free(used: &BTreeSet<u16>, wanted: u16) -> Option<u16> {
        let upwards = (wanted..=u16::MAX).find(|value| !used.contains(value));
        upwards.or_else(|| (1..wanted).find(|value| !used.contains(value)))
    }

    proptest! {
        #[test]
        fn the_same_value_is_found_as_by_trying_all(
            changes in proptest::collection::vec((any::<bool>(), prop_oneof![0u16..40, 65_500u16..=65_535]), 0..120),
            wanted in prop_oneof![0u16..40, 65_500u16..=65_535],
        ) {
            let (mut values, mut used) = (UsedValues::default(), BTreeSet::new());
            let elsewhere = Side { address: [10, 0, 0, 2].into(), ..side(7) };
            values.take(elsewhere);
            for (take, value) in changes {
                if take && used.insert(value) {
                    values.take(side(value));
                } else if !take && used.remove(&value) {
                    values.release(side(value));
                }
                let runs: Vec<_> = values.runs.iter().collect();
                for pair in runs.windows(2) {
                    let ((one, last), (other, _)) = (pair[0], pair[1]);
                    prop_assert!((one.0, one.1) != (other.0, other.1) || *last < other.2 - 1);
                }
            }
            let found = values.free_from(side(wanted)).map(|side| side.value);
            prop_assert_eq!(found, next_free(&used, wanted));
        }
    }
}
