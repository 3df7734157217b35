//! Who is due in which second, for very many: each is entered, moved and removed for the same little work.
//!
//! ```text
//!  second:   turn   turn + 1   turn + 2   …   turn + 127        a list in each, first in, first out
//! ```
//!
//! Deadlines further away than that are entered at the end: whoever is asked too early enters the place anew.

/// Seconds ahead; as many as the bits that tell which of them have anybody.
const SECONDS: u64 = 128;
const NOBODY: u32 = u32::MAX;

/// Places are numbers that begin at 0 and are used again.
pub struct DueWheel {
    lists: [List; SECONDS as usize],
    /// Which lists have anybody.
    filled: u128,
    /// Nobody is due before this second.
    turn: u64,
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Clone, Copy)]
struct Place {
    before: u32,
    behind: u32,
    /// The list it stands in.
    list: Option<u8>,
}

const EMPTY: List = List {
    first: NOBODY,
    last: NOBODY,
};
const NOWHERE: Place = Place {
    before: NOBODY,
    behind: NOBODY,
    list: None,
};

impl Default for DueWheel {
    fn default() -> Self {
        Self {
            lists: [EMPTY; SECONDS as usize],
            filled: 0,
            turn: 0,
            places: Vec::new(),
        }
    }
}

impl DueWheel {
    /// Enter a place for this second, or move it there.
    pub fn set(&mut self, place: u32, second: u64) {
        self.remove(place);
        let index = place as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, NOWHERE);
        }
        let list = (second.clamp(self.turn, self.turn + SECONDS - 1) % SECONDS) as usize;
        let last = std::mem::replace(&mut self.lists[list].last, place);
        match self.places.get_mut(last as usize) {
            Some(last) => last.behind = place,
            None => self.lists[list].first = place,
        }
        self.places[index] = Place {
            before: last,
            behind: NOBODY,
            list: Some(list as u8),
        };
        self.filled |= 1 << list;
    }

    pub fn remove(&mut self, place: u32) {
        let Some(entry) = self.places.get_mut(place as usize) else {
            return;
        };
        let Place {
            before,
            behind,
            list: Some(list),
        } = std::mem::replace(entry, NOWHERE)
        else {
            return;
        };
        let list = usize::from(list);
        match self.places.get_mut(before as usize) {
            Some(before) => before.behind = behind,
            None => self.lists[list].first = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(behind) => behind.before = before,
            None => self.lists[list].last = before,
        }
        if self.lists[list].first == NOBODY {
            self.filled &= !(1 << list);
        }
    }

    pub fn has(&self, place: u32) -> bool {
        let entry = self.places.get(place as usize);
        entry.is_some_and(|entry| entry.list.is_some())
    }

    /// The first second in which anybody is due.
    pub fn first(&self) -> Option<u64> {
        let ahead = self.filled.rotate_right((self.turn % SECONDS) as u32);
        (ahead != 0).then(|| self.turn + u64::from(ahead.trailing_zeros()))
    }

    /// Remove and return one that is due by now.
    pub fn pop(&mut self, now: u64) -> Option<u32> {
        let first = self.first();
        self.turn = first.map_or(now, |first| first.min(now)).max(self.turn);
        let place = first
            .filter(|first| *first <= now)
            .map(|first| self.lists[(first % SECONDS) as usize].first)?;
        self.remove(place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn all_due(wheel: &mut DueWheel, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop(now)).collect()
    }

    #[test]
    fn places_come_in_the_order_of_their_seconds_and_then_of_their_entry() {
        let mut wheel = DueWheel::default();
        for (place, second) in [(0, 9), (1, 7), (2, 9), (3, 8)] {
            wheel.set(place, second);
        }
        assert_eq!(wheel.first(), Some(7));
        assert!(all_due(&mut wheel, 6).is_empty());
        assert_eq!(all_due(&mut wheel, 9), [1, 3, 0, 2]);
        assert_eq!(wheel.first(), None);
    }

    #[test]
    fn who_is_due_too_far_ahead_comes_early_and_never_late() {
        let mut wheel = DueWheel::default();
        wheel.set(0, 1_000);
        assert_eq!(wheel.first(), Some(127));
        assert_eq!(all_due(&mut wheel, 127), [0]);
        wheel.set(0, 3);
        assert_eq!(all_due(&mut wheel, 127), [0], "the past is due now");
    }

    #[test]
    fn after_a_long_sleep_everybody_comes() {
        let mut wheel = DueWheel::default();
        for place in 0..200 {
            wheel.set(place, u64::from(place % 120));
        }
        assert_eq!(all_due(&mut wheel, 1_000_000).len(), 200);
        wheel.set(7, 1_000_005);
        assert_eq!(wheel.first(), Some(1_000_005));
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_tree(
            steps in prop::collection::vec((0_u32..40, 0_u64..121, 0_u64..9, any::<bool>()), 1..400),
        ) {
            let (mut wheel, mut tree, mut now) = (DueWheel::default(), BTreeMap::new(), 0);
            for (place, ahead, passes, is_removed) in steps {
                now += passes;
                let mut due = all_due(&mut wheel, now);
                due.sort_unstable();
                let expected: Vec<u32> =
                    tree.iter().filter(|(_, at)| **at <= now).map(|(place, _)| *place).collect();
                prop_assert_eq!(&due, &expected);
                for place in due {
                    tree.remove(&place);
                }
                if is_removed {
                    wheel.remove(place);
                    tree.remove(&place);
                } else {
                    wheel.set(place, now + ahead);
                    tree.insert(place, now + ahead);
                }
                prop_assert_eq!(wheel.has(place), !is_removed);
                prop_assert_eq!(wheel.first(), tree.values().min().copied());
            }
        }
    }
}
