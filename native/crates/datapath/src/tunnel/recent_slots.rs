//! In which slots the flows lie that were found last: the index of all flows is larger than what a core keeps near it, this is not.
//!
//! A peer has some sets of places. Whoever comes newly into a set takes the first place of it, and whoever has the last one goes.
//! A place names a slot and some bits of the hash by which it was found, which no other one of its set has. Another flow may have
//! the same bits, and the one that was found may have ended: compare it.

use super::links::PeerKey;

/// Slots that a place can name are below 1 << this.
pub const SLOT_BITS: u32 = 18;
/// Ours: of 2,048 peers, in 256 KB.
const SETS: usize = 1 << 14;
const SETS_OF_PEER: usize = 8;
const WAYS: usize = 4;
const SLOT: u32 = (1 << SLOT_BITS) - 1;
const EMPTY: u32 = u32::MAX;

#[derive(Default)]
pub struct RecentSlots {
    /// Empty as long as nothing is recorded.
    sets: Box<[Set]>,
}

/// A place is some upper bits of the hash, and the slot below them.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Set([u32; WAYS]);

impl RecentSlots {
    pub fn with_room() -> Self {
        Self {
            sets: vec![Set([EMPTY; WAYS]); SETS].into(),
        }
    }

    /// Something of the memory that [`RecentSlots::get`] reads.
    pub fn read(&self, peer: PeerKey, hash: u64) -> u32 {
        let set = self.sets.get(set_of(peer, hash));
        set.map_or(0, |Set([first, ..])| *first)
    }

    /// Where a flow may lie; `u32::MAX` if that is not known.
    pub fn get(&self, peer: PeerKey, hash: u64) -> u32 {
        let Some(Set(places)) = self.sets.get(set_of(peer, hash)) else {
            return EMPTY;
        };
        // Without a branch: the set is seldom near enough to the core for it to guess cheaply.
        places.iter().fold(EMPTY, |slot, place| {
            let is_other = u32::from((place ^ tag_of(hash)) > SLOT || *place == EMPTY);
            slot & (place & SLOT | is_other.wrapping_neg())
        })
    }

    pub fn put(&mut self, peer: PeerKey, hash: u64, slot: u32) {
        let Some(Set(places)) = self.sets.get_mut(set_of(peer, hash)) else {
            return;
        };
        let tag = tag_of(hash);
        let known = places.iter().position(|place| (place ^ tag) <= SLOT);
        places[..=known.unwrap_or(WAYS - 1)].rotate_right(1);
        places[0] = tag | slot & SLOT;
    }
}

fn set_of(peer: PeerKey, hash: u64) -> usize {
    (peer.number() as usize * SETS_OF_PEER + hash as usize % SETS_OF_PEER) % SETS
}

fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32 & !SLOT
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerKey = PeerKey::numbered(1);
    const UNKNOWN: u32 = u32::MAX;

    /// Of one set.
    fn hash(number: u64) -> u64 {
        number << (32 + SLOT_BITS) | 3
    }

    fn slots(recent: &RecentSlots, numbers: std::ops::Range<u64>) -> Vec<u32> {
        numbers
            .map(|number| recent.get(PEER, hash(number)))
            .collect()
    }

    #[test]
    fn the_last_of_a_set_are_known_and_others_sets_are_their_own() {
        let mut recent = RecentSlots::with_room();
        let other = PeerKey::numbered(2);
        recent.put(other, hash(1), 9);
        recent.put(PEER, hash(1) + 1, 8);
        for number in 1..=5 {
            recent.put(PEER, hash(number), number as u32);
        }
        assert_eq!(
            slots(&recent, 0..7),
            [UNKNOWN, UNKNOWN, 2, 3, 4, 5, UNKNOWN]
        );
        assert_eq!(recent.get(other, hash(1)), 9);
        assert_eq!(recent.get(PEER, hash(1) + 1), 8);
    }

    #[test]
    fn a_flow_that_begins_anew_has_one_place() {
        let mut recent = RecentSlots::with_room();
        for number in 1..=4 {
            recent.put(PEER, hash(number), number as u32);
        }
        recent.put(PEER, hash(2), 12);
        recent.put(PEER, hash(4), 14);
        assert_eq!(slots(&recent, 1..5), [1, 12, 3, 14]);
        recent.put(PEER, hash(5), 5);
        assert_eq!(slots(&recent, 1..6), [UNKNOWN, 12, 3, 14, 5]);
    }

    #[test]
    fn any_slot_is_named_by_any_hash() {
        for slot in [0, 1, SLOT - 1] {
            for hash in [0, u64::MAX, 3 << 50, !(3 << 50)] {
                let mut recent = RecentSlots::with_room();
                assert_eq!(recent.get(PEER, hash), UNKNOWN);
                recent.put(PEER, hash, slot);
                assert_eq!(recent.get(PEER, hash), slot, "{hash:x}");
                assert_eq!(recent.get(PEER, hash ^ 1 << 63), UNKNOWN, "{hash:x}");
            }
        }
    }

    #[test]
    fn without_room_nothing_is_known() {
        let mut recent = RecentSlots::default();
        recent.put(PEER, hash(1), 1);
        assert_eq!(slots(&recent, 0..2), [UNKNOWN, UNKNOWN]);
    }
}
