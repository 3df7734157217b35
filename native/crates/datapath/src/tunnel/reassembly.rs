//! Packets that come in fragments are put together before anybody judges them: only the first one has ports.
//!
//! What is put together passes as a whole and is cut anew on its way out ([`wardgate_packet::Cut`]). A fragment that
//! overlaps another one spoils its packet (RFC 5722); one that says the same again is passed over.
//!
//! Everything is bounded per *owner*: the peer that the fragments come from, or on their way to a peer the address that
//! they are for. Its own oldest packet makes room, and where all owners together have too much, the oldest of the one
//! that has most: whoever keeps to an equal share of the whole loses nothing, however many others fill it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use wardgate_packet::{Cut, Fragment, FragmentId, finish_whole};

use super::links::PeerKey;
use super::seeded_hash::SeededState;
use super::steps;

/// Fragments of one packet follow each other closely; ours, RFC 8200 §4.5 allows 60 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of one packet; ours. 64 KiB in pieces of the tunnel's MTU are 53.
const MAX_FRAGMENTS: usize = 64;
/// Unfinished packets of one owner; ours.
const MAX_OF_OWNER: usize = 16;
/// Their bytes; ours. Two of the largest packets.
const MAX_BYTES_OF_OWNER: usize = 1 << 17;
/// Bytes of all owners; ours.
const MAX_BYTES: usize = 1 << 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Peer(PeerKey),
    Host(IpAddr),
}

/// A packet that is whole.
#[derive(Debug)]
pub struct Whole {
    pub packet: Vec<u8>,
    pub cut: Cut,
    /// Fragments that it came in.
    pub count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Waits for the others.
    Kept,
    /// No fragment, or one of a packet that is spoilt.
    Refused,
}

#[derive(Debug)]
pub struct Reassembly {
    unfinished: HashMap<(Owner, FragmentId), Unfinished, SeededState>,
    owners: HashMap<Owner, Held, SeededState>,
    /// Every owner by its bytes.
    by_bytes: BTreeSet<(usize, Owner)>,
    /// One entry per unfinished packet, the oldest first.
    due: BTreeSet<(Instant, u64)>,
    by_serial: HashMap<u64, (Owner, FragmentId), SeededState>,
    bytes: usize,
    last_serial: u64,
    given_up: u64,
}

#[derive(Debug, Default)]
struct Held {
    serials: BTreeSet<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Unfinished {
    serial: u64,
    due_at: Instant,
    /// By where they belong.
    parts: Vec<(usize, Vec<u8>)>,
    first: Option<(Vec<u8>, Cut)>,
    /// Payload bytes of the whole, once its last fragment is there.
    length: Option<usize>,
    bytes: usize,
    is_spoilt: bool,
}

impl Reassembly {
    pub fn new(hash: SeededState) -> Self {
        Self {
            unfinished: HashMap::with_hasher(hash),
            owners: HashMap::with_hasher(hash),
            by_bytes: BTreeSet::new(),
            due: BTreeSet::new(),
            by_serial: HashMap::with_hasher(hash),
            bytes: 0,
            last_serial: 0,
            given_up: 0,
        }
    }

    /// Packets given up since the start: not finished in time, spoilt, or for want of room.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Take a fragment; the packet, if it is the last one missing.
    pub fn take(&mut self, owner: Owner, bytes: &[u8], now: Instant) -> Result<Whole, Outcome> {
        let fragment = Fragment::parse(bytes).ok_or(Outcome::Refused)?;
        let key = (owner, fragment.id);
        if self
            .unfinished
            .get(&key)
            .is_some_and(|known| known.due_at <= now)
        {
            self.give_up(key);
        }
        if !self.unfinished.contains_key(&key) {
            self.begin(key, now);
        }
        let Some(unfinished) = self.unfinished.get_mut(&key) else {
            return Err(Outcome::Refused);
        };
        let before = unfinished.bytes;
        let outcome = unfinished.take(&fragment);
        let (after, serial) = (unfinished.bytes, unfinished.serial);
        self.account(owner, before, after);
        match outcome {
            Progress::Whole => {
                let finished = self.remove(key).ok_or(Outcome::Refused)?;
                finished.put_together().ok_or(Outcome::Refused)
            }
            Progress::Kept => {
                self.make_room(owner, serial);
                Err(Outcome::Kept)
            }
            Progress::Refused => Err(Outcome::Refused),
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Give up what has waited for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, serial)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            steps::count(1);
            match self.by_serial.get(&serial) {
                Some(key) => self.give_up(*key),
                None => {
                    self.due.pop_first();
                }
            }
        }
    }

    fn begin(&mut self, key: (Owner, FragmentId), now: Instant) {
        self.last_serial += 1;
        let serial = self.last_serial;
        let held = self.owners.entry(key.0).or_default();
        held.serials.insert(serial);
        self.due.insert((now + PATIENCE, serial));
        self.by_serial.insert(serial, key);
        self.unfinished.insert(
            key,
            Unfinished {
                serial,
                due_at: now + PATIENCE,
                parts: Vec::new(),
                first: None,
                length: None,
                bytes: 0,
                is_spoilt: false,
            },
        );
    }

    /// Give up older packets until all bounds hold again, but not the one just served.
    fn make_room(&mut self, owner: Owner, served: u64) {
        while let Some(oldest) = self.owners.get(&owner).and_then(|held| {
            let is_over = held.serials.len() > MAX_OF_OWNER || held.bytes > MAX_BYTES_OF_OWNER;
            let mut oldest = held.serials.iter().filter(|serial| **serial != served);
            oldest.next().copied().filter(|_| is_over)
        }) {
            steps::count(1);
            if let Some(key) = self.by_serial.get(&oldest) {
                self.give_up(*key);
            }
        }
        while self.bytes > MAX_BYTES
            && let Some((_, largest)) = self.by_bytes.last()
            && let Some(held) = self.owners.get(largest)
            && let Some(oldest) = held.serials.first()
            && let Some(key) = self.by_serial.get(oldest).copied()
        {
            steps::count(1);
            self.give_up(key);
        }
    }

    /// A packet of this owner has other bytes than before.
    fn account(&mut self, owner: Owner, before: usize, after: usize) {
        self.bytes = self.bytes - before + after;
        if let Some(held) = self.owners.get_mut(&owner) {
            self.by_bytes.remove(&(held.bytes, owner));
            held.bytes = held.bytes - before + after;
            self.by_bytes.insert((held.bytes, owner));
        }
    }

    fn give_up(&mut self, key: (Owner, FragmentId)) {
        self.given_up += 1;
        self.remove(key);
    }

    fn remove(&mut self, key: (Owner, FragmentId)) -> Option<Unfinished> {
        let unfinished = self.unfinished.remove(&key)?;
        self.due.remove(&(unfinished.due_at, unfinished.serial));
        self.by_serial.remove(&unfinished.serial);
        self.account(key.0, unfinished.bytes, 0);
        if let Some(held) = self.owners.get_mut(&key.0) {
            held.serials.remove(&unfinished.serial);
            if held.serials.is_empty() {
                self.by_bytes.remove(&(held.bytes, key.0));
                self.owners.remove(&key.0);
            }
        }
        Some(unfinished)
    }
}

enum Progress {
    Kept,
    Refused,
    Whole,
}

impl Unfinished {
    fn take(&mut self, fragment: &Fragment<'_>) -> Progress {
        if self.is_spoilt {
            return Progress::Refused;
        }
        let (start, end) = (fragment.offset, fragment.offset + fragment.payload.len());
        let at = self.parts.partition_point(|(offset, _)| *offset < start);
        steps::count(1);
        if let Some((offset, part)) = self.parts.get(at)
            && (*offset, part.len()) == (start, fragment.payload.len())
        {
            return Progress::Kept;
        }
        let overlaps = self.parts.get(at).is_some_and(|(offset, _)| *offset < end)
            || at
                .checked_sub(1)
                .and_then(|before| self.parts.get(before))
                .is_some_and(|(offset, part)| offset + part.len() > start);
        let contradicts = self
            .length
            .is_some_and(|length| end > length || fragment.is_last)
            || (fragment.is_last
                && self
                    .parts
                    .last()
                    .is_some_and(|(offset, part)| offset + part.len() > end));
        if overlaps || contradicts || self.parts.len() >= MAX_FRAGMENTS {
            return self.spoil();
        }
        if start == 0 {
            self.first = Some((fragment.header(), fragment.cut()));
        }
        if fragment.is_last {
            self.length = Some(end);
        }
        self.bytes += fragment.payload.len();
        self.parts.insert(at, (start, fragment.payload.to_vec()));
        if self.first.is_some() && self.length == Some(self.bytes) {
            Progress::Whole
        } else {
            Progress::Kept
        }
    }

    /// What is left waits out its time, so that later fragments do not begin the packet anew.
    fn spoil(&mut self) -> Progress {
        self.is_spoilt = true;
        self.parts = Vec::new();
        self.first = None;
        self.bytes = 0;
        Progress::Refused
    }

    fn put_together(self) -> Option<Whole> {
        let (mut packet, cut) = self.first?;
        packet.reserve_exact(self.bytes);
        for (_, part) in &self.parts {
            packet.extend_from_slice(part);
        }
        finish_whole(&mut packet, &cut);
        Some(Whole {
            packet,
            cut,
            count: self.parts.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::test_clock::an_instant;
    use proptest::prelude::*;
    use wardgate_packet::{IpPacket, build};

    const PEER: Owner = Owner::Peer(PeerKey::numbered(1));

    fn table() -> Reassembly {
        Reassembly::new(SeededState::new([3, 5]))
    }

    /// The fragments of a datagram, as a host cuts it: payload bytes from place to place, IPv4.
    fn fragment(whole: &[u8], identification: u16, from: usize, to: usize) -> Vec<u8> {
        let mut bytes = whole[..20].to_vec();
        bytes.extend_from_slice(&whole[20 + from..20 + to]);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..6].copy_from_slice(&identification.to_be_bytes());
        let more = if 20 + to < whole.len() { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&((from / 8) as u16 | more).to_be_bytes());
        bytes
    }

    fn datagram(length: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..length).map(|number| number as u8).collect();
        let (from, to) = ("100.64.0.1:4000", "10.0.0.1:53");
        build::udp(from.parse().unwrap(), to.parse().unwrap(), &payload).unwrap()
    }

    fn all(whole: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
        let length = whole.len() - 20;
        (0..length)
            .step_by(size)
            .map(|from| fragment(whole, identification, from, (from + size).min(length)))
            .collect()
    }

    fn payload(whole: &Whole) -> Vec<u8> {
        let packet = IpPacket::parse(&whole.packet[..]).unwrap();
        assert!(packet.checksums_valid());
        packet.payload().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_packet_is_whole_with_its_last_fragment_in_whatever_order(
            length in 1500usize..9000, order in Just((0..64).collect::<Vec<usize>>()).prop_shuffle(),
            repeated: bool,
        ) {
            let whole = datagram(length);
            let pieces = all(&whole, 7, 1240);
            let mut table = table();
            let order: Vec<usize> = order.into_iter().filter(|at| *at < pieces.len()).collect();
            let (last, others) = order.split_last().unwrap();
            for at in others {
                prop_assert_eq!(table.take(PEER, &pieces[*at], an_instant()).unwrap_err(), Outcome::Kept);
                if repeated {
                    prop_assert_eq!(table.take(PEER, &pieces[*at], an_instant()).unwrap_err(), Outcome::Kept);
                }
            }
            let found = table.take(PEER, &pieces[*last], an_instant()).unwrap();
            prop_assert_eq!(found.count, pieces.len());
            let expected = payload(&Whole { packet: whole, ..found });
            let mut again = super::Reassembly::new(SeededState::new([3, 5]));
            let mut found = None;
            for piece in &pieces {
                found = again.take(PEER, piece, an_instant()).ok();
            }
            prop_assert_eq!(payload(&found.unwrap()), expected);
            prop_assert_eq!(table.poll_timeout(), None);
            prop_assert_eq!(table.bytes, 0);
        }

        #[test]
        fn hostile_fragments_are_bounded_and_leave_nothing(
            pieces in prop::collection::vec((0u16..4, 0usize..200, 1usize..160, any::<bool>(), 0u32..3), 1..300),
        ) {
            let mut table = table();
            let now = an_instant();
            for (identification, from, length, is_last, peer) in pieces {
                let mut bytes = datagram(0)[..20].to_vec();
                bytes.resize(20 + length * 8, 0);
                let total = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&total.to_be_bytes());
                bytes[4..6].copy_from_slice(&identification.to_be_bytes());
                let more = if is_last { 0 } else { 0x2000 };
                bytes[6..8].copy_from_slice(&(from as u16 | more).to_be_bytes());
                let owner = Owner::Peer(PeerKey::numbered(peer));
                if let Ok(whole) = table.take(owner, &bytes, now) {
                    prop_assert!(whole.packet.len() <= 65_535);
                }
                prop_assert!(table.bytes <= 3 * MAX_BYTES_OF_OWNER);
            }
            table.handle_timeout(now + PATIENCE);
            prop_assert_eq!((table.bytes, table.owners.len(), table.due.len()), (0, 0, 0));
            prop_assert!(table.by_bytes.is_empty());
        }
    }

    #[test]
    fn an_overlap_spoils_the_packet_and_all_that_follows_of_it() {
        let whole = datagram(4000);
        for (from, to) in [(8, 1240), (1232, 2480), (0, 1248)] {
            let mut table = table();
            let now = an_instant();
            let pieces = all(&whole, 7, 1240);
            assert!(table.take(PEER, &pieces[0], now).is_err());
            assert!(table.take(PEER, &pieces[2], now).is_err());
            let overlap = fragment(&whole, 7, from, to);
            assert_eq!(
                table.take(PEER, &overlap, now).unwrap_err(),
                Outcome::Refused
            );
            for piece in &pieces {
                assert_eq!(table.take(PEER, piece, now).unwrap_err(), Outcome::Refused);
            }
            assert_eq!(table.bytes, 0);
            table.handle_timeout(now + PATIENCE);
            assert_eq!(table.given_up(), 1);
        }
    }

    #[test]
    fn a_second_end_and_bytes_behind_the_end_spoil_the_packet() {
        let whole = datagram(4000);
        let longer = datagram(6000);
        let now = an_instant();
        let mut table = table();
        let last = all(&whole, 7, 1240).pop().unwrap();
        assert!(table.take(PEER, &last, now).is_err());
        let behind = fragment(&longer, 7, 4960, 5952);
        assert_eq!(
            table.take(PEER, &behind, now).unwrap_err(),
            Outcome::Refused
        );
    }

    #[test]
    fn what_is_not_finished_in_time_is_given_up() {
        let whole = datagram(3000);
        let pieces = all(&whole, 7, 1240);
        let now = an_instant();
        let mut table = table();
        for piece in &pieces[..2] {
            assert!(table.take(PEER, piece, now).is_err());
        }
        assert_eq!(table.poll_timeout(), Some(now + PATIENCE));
        assert_eq!(
            table.take(PEER, &pieces[2], now + PATIENCE).unwrap_err(),
            Outcome::Kept
        );
        assert_eq!(table.given_up(), 1);
        table.handle_timeout(now + 2 * PATIENCE);
        assert_eq!(table.poll_timeout(), None);
    }

    #[test]
    fn fragments_of_different_owners_never_meet() {
        let whole = datagram(2000);
        let pieces = all(&whole, 7, 1240);
        let mut table = table();
        let now = an_instant();
        assert!(table.take(PEER, &pieces[0], now).is_err());
        let other = Owner::Peer(PeerKey::numbered(2));
        assert_eq!(
            table.take(other, &pieces[1], now).unwrap_err(),
            Outcome::Kept
        );
        assert!(table.take(PEER, &pieces[1], now).is_ok());
    }

    #[test]
    fn an_owner_that_finishes_nothing_loses_its_own() {
        let whole = datagram(2000);
        let now = an_instant();
        let mut table = table();
        let quiet = Owner::Peer(PeerKey::numbered(2));
        let pieces = all(&whole, 1, 1240);
        assert!(table.take(quiet, &pieces[0], now).is_err());
        for identification in 0..1000 {
            let piece = fragment(&whole, identification, 0, 1240);
            let (taken, cost) = steps::of(|| table.take(PEER, &piece, now));
            assert_eq!(taken.unwrap_err(), Outcome::Kept);
            assert!(cost <= 4, "{cost}");
        }
        assert_eq!(table.unfinished.len(), MAX_OF_OWNER + 1);
        assert_eq!(table.given_up(), 1000 - MAX_OF_OWNER as u64);
        assert!(table.take(quiet, &pieces[1], now).is_ok());
    }

    #[test]
    fn who_keeps_to_a_share_loses_nothing_however_many_others_fill_the_table() {
        let modest = datagram(4000);
        let pieces = all(&modest, 1, 1240);
        let hostile = datagram(60_000);
        let flood = all(&hostile, 1, 1240);
        let now = an_instant();
        let mut table = table();
        let quiet = Owner::Peer(PeerKey::numbered(0));
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            assert!(table.take(quiet, piece, now).is_err());
        }
        for round in 0..3 {
            for peer in 1..300 {
                for piece in &flood[..40] {
                    let mut piece = piece.clone();
                    piece[4..6].copy_from_slice(&[0, round]);
                    let owner = Owner::Peer(PeerKey::numbered(peer));
                    let (_, cost) = steps::of(|| table.take(owner, &piece, now).is_err());
                    assert!(cost <= 8, "{cost}");
                }
                assert!(table.bytes <= MAX_BYTES);
            }
        }
        assert!(table.take(quiet, last, now).is_ok());
    }

    #[test]
    fn all_owners_together_are_bounded() {
        let whole = datagram(60_000);
        let pieces = all(&whole, 1, 1240);
        let now = an_instant();
        let mut table = table();
        for peer in 0..400 {
            for piece in &pieces[..40] {
                let _ = table.take(Owner::Peer(PeerKey::numbered(peer)), piece, now);
            }
            assert!(table.bytes <= MAX_BYTES);
        }
        assert!(table.given_up() > 0);
    }
}
