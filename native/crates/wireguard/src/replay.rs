//! The window of counters that may still arrive (RFC 6479: a bitmap used as a ring, words cleared as it advances).
//!
//! The bitmap grows with the counters until it is whole: a session over which little has come, as most of a gateway's, takes
//! no more than that.

/// Counters this far below the greatest one seen are still accepted once. Several queues and GSO batches reorder widely.
const WINDOW: u64 = 8192;
const WORD_BITS: u64 = 64;
/// One word more than the window needs: the word of the greatest counter is only partly filled.
const WORDS: u64 = WINDOW / WORD_BITS + 1;

pub(crate) struct ReplayWindow {
    /// One above the greatest counter seen; 0: none seen.
    next: u64,
    inserted: u64,
    /// The words from 0 on while there are fewer than `WORDS`, then a ring of them.
    seen: Vec<u64>,
}

impl ReplayWindow {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            inserted: 0,
            seen: Vec::new(),
        }
    }

    /// Say whether `counter` is neither seen nor too old. Costs nothing to ask before decrypting, decides nothing yet.
    pub(crate) fn admits(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        if self.next - counter > WINDOW {
            return false;
        }
        let (word, bit) = position(counter);
        self.seen[word] & bit == 0
    }

    /// Note an authentic `counter`.
    pub(crate) fn insert(&mut self, counter: u64) {
        if counter >= self.next {
            let newest = counter / WORD_BITS;
            self.grow(newest);
            let cleared_from = match self.next.checked_sub(1) {
                Some(greatest) => {
                    (greatest / WORD_BITS + 1).max((newest + 1).saturating_sub(WORDS))
                }
                None => newest,
            };
            for word in cleared_from..=newest {
                self.seen[index(word)] = 0;
            }
            self.next = counter + 1;
        }
        let (word, bit) = position(counter);
        self.seen[word] |= bit;
        self.inserted += 1;
    }

    /// Have room for this word.
    fn grow(&mut self, newest: u64) {
        if newest >= self.seen.len() as u64 && self.seen.len() < WORDS as usize {
            // A number that is doubled and cut to `WORDS` fits in `usize`.
            let words = (newest + 1).min(WORDS).next_power_of_two().min(WORDS);
            self.seen.reserve_exact(words as usize - self.seen.len());
            self.seen.resize(words as usize, 0);
        }
    }

    /// How many messages arrived, and how many of those sent until the latest one did not.
    pub(crate) fn arrived_and_missing(&self) -> (u64, u64) {
        (self.inserted, self.next.saturating_sub(self.inserted))
    }
}

fn position(counter: u64) -> (usize, u64) {
    (index(counter / WORD_BITS), 1 << (counter % WORD_BITS))
}

fn index(word: u64) -> usize {
    (word % WORDS) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_is_admitted_once() {
        let mut window = ReplayWindow::new();
        for counter in [0, 1, 63, 64, 8191, 5] {
            assert!(window.admits(counter), "{counter}");
            window.insert(counter);
            assert!(!window.admits(counter), "{counter}");
        }
    }

    #[test]
    fn reordering_by_8191_is_admitted_and_by_8192_is_not() {
        let mut window = ReplayWindow::new();
        window.insert(8192);
        assert!(window.admits(1));
        assert!(!window.admits(0));
    }

    #[test]
    fn a_jump_forgets_nothing_that_lies_in_the_window_and_admits_nothing_below_it() {
        let mut window = ReplayWindow::new();
        window.insert(10);
        window.insert(1 << 40);
        assert!(!window.admits(10));
        assert!(window.admits((1 << 40) - 8191));
        assert!(!window.admits((1 << 40) - 8192));
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(steps in prop::collection::vec((0_u64..9000, any::<bool>()), 1..300)) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut greatest = 0_u64;
            for (step, forward) in steps {
                let counter = if forward { greatest + step } else { greatest.saturating_sub(step) };
                let expected = !seen.contains(&counter) && counter + WINDOW > greatest;
                prop_assert_eq!(window.admits(counter), expected, "{} after {}", counter, greatest);
                if expected {
                    window.insert(counter);
                    seen.insert(counter);
                    greatest = greatest.max(counter);
                }
            }
        }
    }
}
