//! Records of who used what: TCP and UDP flows by authorization, from their first packet to their end (data-plane §5.8).
//!
//! ```text
//!                 first packet of the initiator
//!   (no record) ───────────────────────────────► open ──1 s──► "started"
//!                                                 │
//!    2 min of silence, FIN both ways, RST, a new SYN, a 17th path, the peer's end, no room
//!                                                 ▼
//!                                               "ended"
//! ```
//!
//! A record belongs to the authorization that its first packet passed by. When the peer's grants change, the next packet of
//! the initiator is asked anew which resource it belongs to; another one ends the record and begins the next.
//!
//! Packets are counted some dozens at a time ([`Sightings`]): consecutive ones of one flow cost one look-up, which touches two lines
//! of memory, and look-ups do not wait for each other. Nothing walks over all flows: each has one entry among the deadlines, which
//! may be earlier than its end and is then moved. A peer that opens flows without end makes its own oldest records end; where all
//! have too many, the oldest of a peer with the most.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use rustc_hash::FxHashMap;
use wardgate_connect::{Path, PathKind};

use super::due_wheel::DueWheel;
use super::flow_reports::FlowReports;
use super::links::{NodeId, PeerKey};
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::sightings::{AT_ONCE as SEEN_AT_ONCE, Sighting, Sightings, Tuple};
use super::steps;
use crate::event::{FlowEnd, FlowPath, FlowReport, FlowRole};

/// Data-plane §9.4.
const IDLE_LIFETIME: Duration = Duration::from_secs(120);
/// How long a closed flow waits for its last packets, as a translated one does; ours.
const CLOSED_LIFETIME: Duration = Duration::from_secs(5);
/// Data-plane §9.4: one more ends the record.
const MAX_PATHS: usize = 16;
/// Open records of one peer; ours, as many as a gateway translates flows of one client.
const MAX_FLOWS_OF_PEER: usize = 65_536;
/// Of all peers together; ours, as many as Linux tracks by default, in 80 MB.
const MAX_FLOWS: usize = 1 << 18;
/// A flow that ends sooner is told with its end only, which says all that its start would; ours.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// Peers are told apart by how many thousand flows they have.
const CROWD: usize = 1024;
/// Flows found again without the index: of all peers, and of one.
const RECENT: usize = 1 << 16;
const RECENT_OF_PEER: usize = 32;
/// Ended flows looked at in one call; the rest follows in the next, which is due at once.
const AT_ONCE: usize = 256;
/// Of these, flows whose memory is waited for together.
const TOGETHER: usize = 32;
const NONE: u32 = u32::MAX;

/// What a flow is recorded under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    pub resource: ResourceId,
    /// The policy authorization.
    pub authorization: Arc<str>,
    pub role: FlowRole,
    pub domain: Option<Arc<str>>,
}

pub struct FlowRecords {
    is_on: bool,
    epoch: Instant,
    /// Wall time at `epoch`, since 1970.
    unix_at_epoch: Duration,
    hash: SeededState,
    /// Slots by peer and tuple, which lie in `hot`: what is looked through for each packet is small.
    index: HashTable<u32>,
    /// The slots that were found last, side by side those of a peer: the index of all flows is larger than what a core keeps near
    /// it, this is not. Empty as long as nothing is recorded.
    recent: Box<[u32]>,
    hot: Vec<Hot>,
    cold: Vec<Option<Cold>>,
    free: Vec<u32>,
    /// What is not counted yet.
    pub seen: Sightings,
    /// When the start of each is to be told, and from then on no later than its end.
    due: DueWheel,
    peers: FxHashMap<PeerKey, PeerFlows>,
    /// Of each peer how many thousand flows it has, where that is any.
    crowds: BTreeSet<(usize, PeerKey)>,
    open: usize,
    /// Grows with each change of anybody's grants or path.
    version: u64,
    /// Grows with each change of grants that concerns all peers.
    grants_version: u64,
    started: u64,
    displaced: u64,
    pub reports: FlowReports,
}

/// Where a flow is expected, and the hash of its ends.
#[derive(Clone, Copy)]
struct Found {
    hash: u64,
    slot: u32,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            hash: 0,
            slot: NONE,
        }
    }
}

/// What each packet of a flow reads and writes: two cache lines, side by side.
#[repr(align(128))]
struct Hot {
    /// Of peer and tuple.
    hash: u64,
    tuple: Tuple,
    peer: PeerKey,
    is_used: bool,
    /// The initiator has sent more than its SYN: another one opens the next flow.
    is_under_way: bool,
    finished: [bool; 2],
    is_reset: bool,
    /// That of all records when grants and path were last compared with the peer's.
    version: u64,
    last_packet_at: Instant,
    packets: [u64; 2],
    bytes: [u64; 2],
}

/// What its beginning, its end and changes need besides.
struct Cold {
    basis: Basis,
    paths: Arc<[FlowPath]>,
    path_version: u64,
    grants_version: u64,
    started_at_us: u64,
    is_told: bool,
    /// Neighbours among the peer's flows, the one begun first at the head.
    before: u32,
    behind: u32,
}

/// Directions, as indices.
const TX: usize = 0;
const RX: usize = 1;

struct PeerFlows {
    oldest: u32,
    newest: u32,
    count: usize,
    path: Option<(Path<NodeId>, u64)>,
    /// What a record that begins now names, by role; made when it is first asked for.
    paths: [Option<Arc<[FlowPath]>>; 2],
    path_version: u64,
    grants_version: u64,
}

impl FlowRecords {
    pub fn new(hash: SeededState, epoch: Instant, unix_at_epoch: Duration) -> Self {
        Self {
            is_on: false,
            epoch,
            unix_at_epoch,
            hash,
            index: HashTable::new(),
            recent: Box::default(),
            hot: Vec::new(),
            cold: Vec::new(),
            free: Vec::new(),
            seen: Sightings::default(),
            due: DueWheel::default(),
            peers: FxHashMap::default(),
            crowds: BTreeSet::new(),
            open: 0,
            version: 0,
            grants_version: 0,
            started: 0,
            displaced: 0,
            reports: FlowReports::default(),
        }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Begin or end recording; `unix_at_epoch` is the wall time at the engine's zero as it is known now.
    pub fn set(&mut self, is_on: bool, unix_at_epoch: Duration, now: Instant) {
        self.unix_at_epoch = unix_at_epoch;
        if self.is_on && !is_on {
            self.end_all(now);
            self.recent = Box::default();
            // Records that begin together lie side by side again, which places that came free here and there would not.
            self.hot = Vec::new();
            self.cold = Vec::new();
            self.free = Vec::new();
        }
        if is_on && !self.is_on {
            self.recent = vec![NONE; RECENT].into();
        }
        self.is_on = is_on;
    }

    /// Counters by name.
    pub fn stats(&self) -> [(&'static str, u64); 4] {
        [
            ("flows_open", self.open as u64),
            ("flows_recorded", self.started),
            ("flows_displaced", self.displaced),
            ("flow_records_lost", self.reports.lost()),
        ]
    }

    /// The grants of a peer have changed, or those of all.
    pub fn grants_changed(&mut self, peer: Option<PeerKey>) {
        self.version += 1;
        match peer {
            None => self.grants_version += 1,
            Some(peer) => self.peer(peer).grants_version += 1,
        }
    }

    pub fn path_selected(&mut self, peer: PeerKey, path: Path<NodeId>, now: Instant) {
        let at_us = self.unix_us(now);
        self.version += 1;
        let peer = self.peer(peer);
        peer.path = Some((path, at_us));
        peer.paths = [None, None];
        peer.path_version += 1;
    }

    /// Count what has been seen. `basis` is asked what a flow is recorded under when its record begins, and again when the peer's
    /// grants have changed.
    pub fn count_seen(&mut self, basis: impl Fn(&Sighting) -> Option<Basis>) {
        if self.seen.is_empty() {
            return;
        }
        let seen = self.seen.take();
        let found = self.look_up(&seen);
        for (one, found) in seen.iter().zip(found) {
            self.note(one, found, &basis);
        }
        self.seen.reuse(seen);
    }

    /// Look up all together. None needs what another one found, so that a core waits for the memory of many at once.
    fn look_up(&self, seen: &[Sighting]) -> [Found; SEEN_AT_ONCE] {
        let mut all = [Found::default(); SEEN_AT_ONCE];
        for (one, found) in seen.iter().zip(&mut all) {
            found.hash = self.hash.hash_one((one.peer, one.tuple));
            let recent = self.recent.get(place_of(one.peer, found.hash));
            found.slot = recent.copied().unwrap_or(NONE);
        }
        let mut read = 0;
        for found in &all[..seen.len()] {
            if let Some(flow) = self.hot.get(found.slot as usize) {
                read ^= u64::from(flow.peer.number()) ^ flow.packets[RX];
            }
        }
        let mut free = self.free.iter().rev();
        for (one, found) in seen.iter().zip(&mut all) {
            if self.is_at(found.slot, one) {
                continue;
            }
            found.slot = self.find_in_index(one, found.hash).unwrap_or(NONE);
            if let Some(flow) = self.hot.get(found.slot as usize) {
                read ^= flow.packets[RX];
            } else if one.opens() {
                read ^= free.next().map_or(0, |slot| self.read_of_free(*slot));
                if let Some(newest) = self.peers.get(&one.peer).map(|peer| peer.newest)
                    && let Some(Some(more)) = self.cold.get(newest as usize)
                {
                    read ^= u64::from(more.behind);
                }
            }
        }
        // What is read for nobody would not be read at all.
        std::hint::black_box(read);
        all
    }

    /// Something of what a record that begins in this place writes over.
    fn read_of_free(&self, slot: u32) -> u64 {
        let flow = self.hot.get(slot as usize);
        let is_used = self.cold.get(slot as usize).is_some_and(Option::is_some);
        let is_due = self.due.has(slot);
        flow.map_or(0, |flow| flow.hash ^ flow.packets[RX]) ^ u64::from(is_used || is_due)
    }

    /// Count packets that passed.
    fn note(&mut self, seen: &Sighting, found: Found, basis: &impl Fn(&Sighting) -> Option<Basis>) {
        let now = seen.at;
        let Some(slot) = self.find(seen, found) else {
            if seen.opens()
                && let Some(basis) = basis(seen)
            {
                self.start(seen, found.hash, basis);
            }
            return;
        };
        let flow = &mut self.hot[slot as usize];
        if now.saturating_duration_since(flow.last_packet_at) > IDLE_LIFETIME || flow.reopens(seen)
        {
            let (end, is_idle) = flow.end(now);
            self.end(slot, if is_idle { end } else { now });
            return self.note(seen, found, basis);
        }
        if flow.version != self.version && !self.compare(slot, seen, found.hash, basis) {
            return;
        }
        let flow = &mut self.hot[slot as usize];
        flow.count(seen);
        if seen.flags.is_some_and(|flags| flags.fin() || flags.rst()) && flow.is_closed() {
            self.schedule(slot);
        }
    }

    /// Compare a flow with the grants and the path of its peer; whether its record goes on. If not, the next may have begun.
    fn compare(
        &mut self,
        slot: u32,
        seen: &Sighting,
        hash: u64,
        basis: &impl Fn(&Sighting) -> Option<Basis>,
    ) -> bool {
        let (Some(peer), Some(flow)) = (
            self.peers.get(&seen.peer),
            self.cold[slot as usize].as_mut(),
        ) else {
            return false;
        };
        let grants_version = peer.grants_version + self.grants_version;
        if seen.from_initiator && flow.grants_version != grants_version {
            flow.grants_version = grants_version;
            match basis(seen) {
                Some(basis) if basis.resource == flow.basis.resource => {}
                other => {
                    self.end(slot, seen.at);
                    if let Some(basis) = other {
                        self.start(seen, hash, basis);
                    }
                    return false;
                }
            }
        }
        if flow.path_version != peer.path_version {
            flow.path_version = peer.path_version;
            if let Some(path) = peer.flow_path(flow.basis.role)
                && !flow.takes(path)
            {
                let basis = flow.basis.clone();
                self.end(slot, seen.at);
                self.start(seen, hash, basis);
                return false;
            }
        }
        // The responder's packets leave a change of grants to the initiator's.
        if flow.grants_version == grants_version {
            self.hot[slot as usize].version = self.version;
        }
        true
    }

    /// The peer is gone: its records end.
    pub fn forget_peer(&mut self, peer: PeerKey, now: Instant) {
        self.end_all_of(peer, now);
        self.peers.remove(&peer);
    }

    /// Tell of what has begun, end what has been silent for too long, and let reports go that have waited long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.epoch).as_secs();
        let mut has_told = false;
        for _ in 0..AT_ONCE / TOGETHER {
            let mut due = [NONE; TOGETHER];
            let mut count = 0;
            while count < TOGETHER
                && let Some(slot) = self.due.pop(second)
            {
                due[count] = slot;
                count += 1;
            }
            let due = &due[..count];
            self.read_ahead(due, |flow| flow.expires_at() <= now);
            for slot in due {
                steps::count(1);
                has_told |= self.tell_or_end(*slot, now);
            }
            if count < TOGETHER {
                break;
            }
        }
        if has_told {
            self.reports.flush(); // they have waited already
        }
        self.reports.handle_timeout(now);
    }

    /// Handle a flow that is due; whether its start has been told now.
    fn tell_or_end(&mut self, slot: u32, now: Instant) -> bool {
        let (flow, Some(more)) = (&self.hot[slot as usize], self.cold[slot as usize].as_mut())
        else {
            return false;
        };
        let expires_at = flow.expires_at();
        if expires_at <= now {
            let (ended_at, _) = flow.end(now);
            self.end(slot, ended_at);
            return false;
        }
        let was_told = std::mem::replace(&mut more.is_told, true);
        if !was_told {
            self.reports.push(more.told(&flow.tuple), now);
        }
        self.due.set(slot, self.second_of(expires_at));
        !was_told
    }

    /// Read of all these what telling or ending them needs, so that a core waits for their memory at once.
    fn read_ahead(&self, slots: &[u32], ends: impl Fn(&Hot) -> bool) {
        let mut read = 0;
        for slot in slots {
            if let (Some(flow), Some(Some(more))) =
                (self.hot.get(*slot as usize), self.cold.get(*slot as usize))
            {
                read ^= flow.hash ^ flow.packets[RX] ^ more.started_at_us ^ more.path_version;
            }
        }
        for slot in slots {
            if let Some(flow) = self.hot.get(*slot as usize).filter(|flow| ends(flow)) {
                let found = self.index.find(flow.hash, |found| found == slot);
                read ^= u64::from(found.copied().unwrap_or(NONE));
                read ^= u64::from(self.due.has(*slot));
            }
        }
        std::hint::black_box(read);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let flows = self
            .due
            .first()
            .map(|second| self.epoch + Duration::from_secs(second));
        [self.seen.since(), flows, self.reports.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// End every record, as at the end of the process.
    pub fn end_all(&mut self, now: Instant) {
        let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
        for peer in peers {
            self.end_all_of(peer, now);
        }
        self.reports.flush();
    }

    fn end_all_of(&mut self, peer: PeerKey, now: Instant) {
        while let Some(oldest) = self.oldest_of(peer) {
            let mut slots = [NONE; TOGETHER];
            let mut next = oldest;
            for slot in &mut slots {
                *slot = next;
                next = self.neighbour(next).map_or(NONE, |more| more.behind);
            }
            self.read_ahead(&slots, |_| true);
            for slot in slots.into_iter().take_while(|slot| *slot != NONE) {
                self.end(slot, now);
            }
        }
    }

    /// The slot of a flow, which is not where it was found if a record of the same batch has begun or ended since.
    fn find(&mut self, seen: &Sighting, found: Found) -> Option<u32> {
        steps::count(1);
        let slot = if self.is_at(found.slot, seen) {
            found.slot
        } else {
            self.find_in_index(seen, found.hash)?
        };
        if let Some(recent) = self.recent.get_mut(place_of(seen.peer, found.hash)) {
            *recent = slot;
        }
        Some(slot)
    }

    fn find_in_index(&self, seen: &Sighting, hash: u64) -> Option<u32> {
        self.index
            .find(hash, |slot| self.is_at(*slot, seen))
            .copied()
    }

    fn is_at(&self, slot: u32, seen: &Sighting) -> bool {
        let flow = self.hot.get(slot as usize);
        flow.is_some_and(|flow| flow.is_of(seen.peer, &seen.tuple))
    }

    fn start(&mut self, seen: &Sighting, hash: u64, basis: Basis) {
        let now = seen.at;
        self.make_room(seen.peer, now);
        let started_at_us = self.unix_us(now);
        let all = self.grants_version;
        let slot = self.free.pop().unwrap_or(self.hot.len() as u32);
        let peer = self.peer(seen.peer);
        let more = Cold {
            paths: peer.flow_paths(basis.role),
            basis,
            path_version: peer.path_version,
            grants_version: peer.grants_version + all,
            started_at_us,
            is_told: false,
            before: peer.newest,
            behind: NONE,
        };
        let newest = std::mem::replace(&mut peer.newest, slot);
        if newest == NONE {
            peer.oldest = slot;
        }
        peer.count += 1;
        let crowd = peer.count / CROWD;
        if peer.count.is_multiple_of(CROWD) {
            self.crowds.remove(&(crowd - 1, seen.peer));
            self.crowds.insert((crowd, seen.peer));
        }
        if let Some(former) = self.neighbour(newest) {
            former.behind = slot;
        }
        let mut flow = Hot {
            hash,
            tuple: seen.tuple,
            peer: seen.peer,
            is_used: true,
            is_under_way: false,
            finished: [false; 2],
            is_reset: false,
            version: self.version,
            last_packet_at: now,
            packets: [0; 2],
            bytes: [0; 2],
        };
        flow.count(seen);
        if slot as usize == self.hot.len() {
            self.hot.push(flow);
            self.cold.push(Some(more));
        } else {
            self.hot[slot as usize] = flow;
            self.cold[slot as usize] = Some(more);
        }
        let hot = &self.hot;
        self.index
            .insert_unique(hash, slot, |slot| hot[*slot as usize].hash);
        if let Some(recent) = self.recent.get_mut(place_of(seen.peer, hash)) {
            *recent = slot;
        }
        self.due.set(slot, self.second_of(now + TOLD_AFTER));
        self.open += 1;
        self.started += 1;
    }

    /// End a record; all that is known of the flow goes with it.
    fn end(&mut self, slot: u32, ended_at: Instant) {
        let flow = &mut self.hot[slot as usize];
        let Some(more) = self.cold[slot as usize].take() else {
            return;
        };
        flow.is_used = false;
        let (hash, peer, tuple) = (flow.hash, flow.peer, flow.tuple);
        let (last_packet_at, packets, bytes) = (flow.last_packet_at, flow.packets, flow.bytes);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
        self.free.push(slot);
        self.open -= 1;
        self.due.remove(slot);
        self.unlink(peer, more.before, more.behind);
        let end = FlowEnd {
            ended_at_us: more.started_at_us.max(self.unix_us(ended_at)),
            last_packet_at_us: more.started_at_us.max(self.unix_us(last_packet_at)),
            tx_packets: packets[TX],
            rx_packets: packets[RX],
            tx_bytes: bytes[TX],
            rx_bytes: bytes[RX],
        };
        self.reports.push(more.ended(&tuple, end), ended_at);
    }

    fn unlink(&mut self, peer: PeerKey, before: u32, behind: u32) {
        if let Some(before) = self.neighbour(before) {
            before.behind = behind;
        }
        if let Some(behind) = self.neighbour(behind) {
            behind.before = before;
        }
        let Some(flows) = self.peers.get_mut(&peer) else {
            return;
        };
        if before == NONE {
            flows.oldest = behind;
        }
        if behind == NONE {
            flows.newest = before;
        }
        if flows.count.is_multiple_of(CROWD) {
            let crowd = flows.count / CROWD;
            self.crowds.remove(&(crowd, peer));
            if crowd > 1 {
                self.crowds.insert((crowd - 1, peer));
            }
        }
        flows.count -= 1;
    }

    fn neighbour(&mut self, slot: u32) -> Option<&mut Cold> {
        self.cold.get_mut(slot as usize)?.as_mut()
    }

    /// End the oldest record of a peer that has too many, or of the one with the most.
    fn make_room(&mut self, peer: PeerKey, now: Instant) {
        let has = self.peers.get(&peer).map_or(0, |flows| flows.count);
        let from = if has >= MAX_FLOWS_OF_PEER {
            Some(peer)
        } else if self.open >= MAX_FLOWS {
            self.crowds
                .last()
                .map_or(Some(peer), |(_, peer)| Some(*peer))
        } else {
            return;
        };
        if let Some(oldest) = from.and_then(|peer| self.oldest_of(peer)) {
            self.displaced += 1;
            self.end(oldest, now);
        }
    }

    fn oldest_of(&self, peer: PeerKey) -> Option<u32> {
        let oldest = self.peers.get(&peer)?.oldest;
        (oldest != NONE).then_some(oldest)
    }

    /// Bring the end forward of a flow that is closed; one that has not been told yet is due soon anyway.
    fn schedule(&mut self, slot: u32) {
        let is_told = self.cold[slot as usize]
            .as_ref()
            .is_some_and(|more| more.is_told);
        if is_told {
            let expires_at = self.hot[slot as usize].expires_at();
            self.due.set(slot, self.second_of(expires_at));
        }
    }

    fn peer(&mut self, peer: PeerKey) -> &mut PeerFlows {
        self.peers.entry(peer).or_insert(PeerFlows {
            oldest: NONE,
            newest: NONE,
            count: 0,
            path: None,
            paths: [None, None],
            path_version: 0,
            grants_version: 0,
        })
    }

    fn unix_us(&self, at: Instant) -> u64 {
        let since_epoch = at.saturating_duration_since(self.epoch);
        (self.unix_at_epoch + since_epoch).as_micros() as u64
    }

    /// The first whole second of the engine's clock that is not before `at`.
    fn second_of(&self, at: Instant) -> u64 {
        let since_epoch = at.saturating_duration_since(self.epoch);
        since_epoch.as_secs() + u64::from(since_epoch.subsec_nanos() > 0)
    }
}

/// Where among the recent ones a flow may be.
fn place_of(peer: PeerKey, hash: u64) -> usize {
    (peer.number() as usize * RECENT_OF_PEER + hash as usize % RECENT_OF_PEER) % RECENT
}

impl Hot {
    fn is_of(&self, peer: PeerKey, tuple: &Tuple) -> bool {
        self.is_used && self.peer == peer && self.tuple == *tuple
    }

    fn count(&mut self, seen: &Sighting) {
        let direction = if seen.from_initiator { TX } else { RX };
        self.last_packet_at = seen.at;
        self.packets[direction] += seen.packets as u64;
        self.bytes[direction] += seen.payload_bytes as u64;
        if let Some(flags) = seen.flags {
            self.finished[direction] |= flags.fin();
            self.is_reset |= flags.rst();
            self.is_under_way |= seen.from_initiator && !flags.syn();
        }
    }

    /// Whether the initiator begins the next flow between the same ends.
    fn reopens(&self, seen: &Sighting) -> bool {
        let is_syn = seen.flags.is_some_and(|flags| flags.syn() && !flags.ack());
        is_syn && seen.from_initiator && (self.is_under_way || self.is_closed())
    }

    fn is_closed(&self) -> bool {
        self.is_reset || self.finished == [true; 2]
    }

    fn expires_at(&self) -> Instant {
        self.last_packet_at
            + if self.is_closed() {
                CLOSED_LIFETIME
            } else {
                IDLE_LIFETIME
            }
    }

    /// When a flow has ended of which nothing has come since, and whether by silence.
    fn end(&self, now: Instant) -> (Instant, bool) {
        if self.is_closed() {
            return (self.last_packet_at, true);
        }
        let silent_until = self.last_packet_at + IDLE_LIFETIME;
        (silent_until.min(now), silent_until < now)
    }
}

impl Cold {
    /// Note another path; false if it is one too many.
    fn takes(&mut self, path: FlowPath) -> bool {
        if self.paths.last().is_some_and(|last| last.is_same(&path)) {
            return true;
        }
        let has_room = self.paths.len() < MAX_PATHS;
        if has_room {
            self.paths = self.paths.iter().copied().chain([path]).collect();
        }
        has_room
    }

    fn told(&self, tuple: &Tuple) -> FlowReport {
        FlowReport {
            authorization_id: self.basis.authorization.clone(),
            role: self.basis.role,
            protocol: tuple.protocol,
            initiator: tuple.initiator,
            responder: tuple.responder,
            domain: self.basis.domain.clone(),
            paths: self.paths.clone(),
            started_at_us: self.started_at_us,
            end: None,
        }
    }

    fn ended(self, tuple: &Tuple, end: FlowEnd) -> FlowReport {
        FlowReport {
            authorization_id: self.basis.authorization,
            role: self.basis.role,
            protocol: tuple.protocol,
            initiator: tuple.initiator,
            responder: tuple.responder,
            domain: self.basis.domain,
            paths: self.paths,
            started_at_us: self.started_at_us,
            end: Some(end),
        }
    }
}

impl PeerFlows {
    /// The paths of a record that begins now: the one in use, if any.
    fn flow_paths(&mut self, own: FlowRole) -> Arc<[FlowPath]> {
        let known = &self.paths[own as usize];
        if let Some(paths) = known {
            return paths.clone();
        }
        let paths: Arc<[FlowPath]> = self.flow_path(own).into_iter().collect();
        self.paths[own as usize] = Some(paths.clone());
        paths
    }

    /// The path as a record names it: from the initiator's side to the responder's; without a source where the initiator
    /// sends over its relay.
    fn flow_path(&self, own: FlowRole) -> Option<FlowPath> {
        let (path, activated_at_us) = self.path?;
        let (ours, theirs) = match path.kind {
            PathKind::Direct => (false, false),
            PathKind::LocalRelay => (true, false),
            PathKind::RemoteRelay => (false, true),
            PathKind::BothRelays => (true, true),
        };
        let own_address = path.relayed.or(path.local)?;
        let (source, is_relayed, destination) = match own {
            FlowRole::Initiator => (own_address, ours, path.remote),
            FlowRole::Responder => (path.remote, theirs, own_address),
        };
        Some(FlowPath {
            source: (!is_relayed).then_some(source),
            destination,
            activated_at_us,
        })
    }
}
