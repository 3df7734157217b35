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
use super::recent_slots::{RecentSlots, SLOT_BITS};
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::sightings::{AT_ONCE as SEEN_AT_ONCE, Sighting, Sightings, Tuple};
use super::steps;
use crate::event::{FlowContext, FlowEnd, FlowPath, FlowReport, FlowRole};

/// Data-plane §9.4.
const IDLE_LIFETIME_NS: u64 = 120 * SECOND_NS;
/// How long a closed flow waits for its last packets, as a translated one does; ours.
const CLOSED_LIFETIME_NS: u64 = 5 * SECOND_NS;
/// Data-plane §9.4: one more ends the record.
const MAX_PATHS: usize = 16;
/// Open records of one peer; ours, as many as a gateway translates flows of one client.
const MAX_FLOWS_OF_PEER: usize = 65_536;
/// Of all peers together; ours, as many as Linux tracks by default, in 40 MB.
const MAX_FLOWS: usize = 1 << SLOT_BITS;
/// A flow that ends sooner is told with its end only, which says all that its start would; ours.
const TOLD_AFTER_NS: u64 = SECOND_NS;
/// Peers are told apart by how many thousand flows they have.
const CROWD: usize = 1024;
/// What a peer's flows have in common is remembered for as many kinds of them; ours.
const MAX_CONTEXTS: usize = 4;
/// Ended flows looked at in one call; the rest follows in the next, which is due at once.
const AT_ONCE: usize = 256;
/// Of these, flows whose memory is waited for together.
const TOGETHER: usize = 32;
const NONE: u32 = u32::MAX;
const SECOND_NS: u64 = 1_000_000_000;

/// What a flow is recorded under. It is borrowed: most flows of a peer are recorded under the same, which they share.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    pub resource: &'a ResourceId,
    /// The policy authorization.
    pub authorization: &'a Arc<str>,
    pub role: FlowRole,
    pub domain: Option<&'a Arc<str>>,
}

pub struct FlowRecords {
    is_on: bool,
    epoch: Instant,
    /// Wall time at `epoch`, since 1970.
    unix_at_epoch: Duration,
    hash: SeededState,
    /// Slots by peer and tuple, which lie in `flows`: what is looked through for each packet is small.
    index: HashTable<u32>,
    recent: RecentSlots,
    flows: Vec<Flow>,
    free: Vec<u32>,
    /// What is not counted yet.
    pub seen: Sightings,
    /// When the start of each is to be told, and from then on no later than its end.
    due: DueWheel,
    peers: FxHashMap<PeerKey, PeerFlows>,
    /// Of each peer how many thousand flows it has, where that is any.
    crowds: BTreeSet<(usize, PeerKey)>,
    open: usize,
    /// Grows with each change of anybody's grants or path. It may begin anew: a flow that has not been compared for so many changes
    /// has ended.
    version: u32,
    /// Grows with each change of grants that concerns all peers.
    grants_version: u32,
    started: u64,
    displaced: u64,
    pub reports: FlowReports,
}

/// Where a flow is expected, and the hash of its ends.
#[derive(Clone, Copy)]
struct Found {
    hash: u64,
    slot: u32,
    is_recent: bool,
}

const UNKNOWN: Found = Found {
    hash: 0,
    slot: NONE,
    is_recent: false,
};

/// One place for a record: two cache lines, side by side. Instants are nanoseconds since the epoch.
#[repr(align(128))]
struct Flow {
    tuple: Tuple,
    peer: PeerKey,
    /// None where nothing is recorded.
    context: Option<Arc<FlowContext>>,
    /// The initiator has sent more than its SYN: another one opens the next flow.
    is_under_way: bool,
    finished: [bool; 2],
    is_reset: bool,
    is_told: bool,
    /// That of all records when grants and path were last compared with the peer's.
    version: u32,
    path_version: u32,
    grants_version: u32,
    /// Neighbours among the peer's flows, the one begun first at the head.
    before: u32,
    behind: u32,
    last_packet_ns: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
    started_at_us: u64,
}

const _: () = assert!(size_of::<Flow>() == 128);

/// Directions, as indices.
const TX: usize = 0;
const RX: usize = 1;

struct PeerFlows {
    oldest: u32,
    newest: u32,
    count: usize,
    path_version: u32,
    grants_version: u32,
    /// Of records that begin now, the ones made last at the end.
    contexts: Vec<Arc<FlowContext>>,
    /// The one in use, and since when. Boxed: seldom asked for, and large.
    path: Option<Box<(Path<NodeId>, u64)>>,
}

impl FlowRecords {
    pub fn new(hash: SeededState, epoch: Instant, unix_at_epoch: Duration) -> Self {
        Self {
            is_on: false,
            epoch,
            unix_at_epoch,
            hash,
            index: HashTable::new(),
            recent: RecentSlots::default(),
            flows: Vec::new(),
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
            self.recent = RecentSlots::default();
            // Records that begin together lie side by side again, which places that came free here and there would not.
            self.flows = Vec::new();
            self.free = Vec::new();
        }
        if is_on && !self.is_on {
            self.recent = RecentSlots::with_room();
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
        self.version = self.version.wrapping_add(1);
        let version = match peer {
            None => &mut self.grants_version,
            Some(peer) => {
                let peer = self.peer(peer);
                peer.contexts.clear();
                &mut peer.grants_version
            }
        };
        *version = version.wrapping_add(1);
    }

    pub fn path_selected(&mut self, peer: PeerKey, path: Path<NodeId>, now: Instant) {
        let at_us = self.unix_us(self.ns(now));
        self.version = self.version.wrapping_add(1);
        let peer = self.peer(peer);
        peer.path = Some(Box::new((path, at_us)));
        peer.contexts.clear();
        peer.path_version = peer.path_version.wrapping_add(1);
    }

    /// Count what has been seen. `basis` is asked what a flow is recorded under when its record begins, and again when the peer's
    /// grants have changed.
    pub fn count_seen<'a>(&mut self, basis: impl Fn(&Sighting) -> Option<Basis<'a>>) {
        if self.seen.is_empty() {
            return;
        }
        let seen = self.seen.take();
        let found = self.look_up(&seen);
        let (mut at, mut now_ns) = (self.epoch, 0); // of most it is the same
        for (one, found) in seen.iter().zip(found) {
            if one.at != at {
                (at, now_ns) = (one.at, self.ns(one.at));
            }
            self.note(one, now_ns, found, &basis);
        }
        self.seen.reuse(seen);
    }

    /// Look up all together. None needs what another one found, and which way to go next hangs on what is near the core already, so
    /// that it waits for the memory of many at once.
    fn look_up(&self, seen: &[Sighting]) -> [Found; SEEN_AT_ONCE] {
        let mut all = [UNKNOWN; SEEN_AT_ONCE];
        let mut others = [0; SEEN_AT_ONCE];
        let mut count = 0;
        let mut read = 0;
        for (one, found) in seen.iter().zip(&mut all) {
            found.hash = hash_of(self.hash, one.peer, &one.tuple);
            read ^= u64::from(self.recent.read(one.peer, found.hash));
        }
        for (at, (one, found)) in seen.iter().zip(&mut all).enumerate() {
            found.slot = self.recent.get(one.peer, found.hash);
            found.is_recent = found.slot != NONE;
            others[count] = at;
            count += usize::from(!found.is_recent);
        }
        for found in &all[..seen.len()] {
            read ^= self.read_of(found.slot);
        }
        for at in &others[..count] {
            let (one, found) = (&seen[*at], &mut all[*at]);
            found.slot = self.find_in_index(one, found.hash).unwrap_or(NONE);
        }
        let mut free = self.free.iter().rev();
        for at in &others[..count] {
            let (one, found) = (&seen[*at], &all[*at]);
            if found.slot == NONE && one.opens() {
                if let Some(slot) = free.next() {
                    read ^= self.read_of(*slot) ^ u64::from(self.due.has(*slot));
                }
                if let Some(peer) = self.peers.get(&one.peer) {
                    let contexts = peer.contexts.iter().rev().take(1);
                    read ^= contexts.map(Arc::strong_count).sum::<usize>() as u64;
                    read ^= self.read_of(peer.newest);
                }
            }
        }
        // What is read for nobody would not be read at all.
        std::hint::black_box(read);
        all
    }

    /// Something of both lines of a slot.
    fn read_of(&self, slot: u32) -> u64 {
        let flow = self.flows.get(slot as usize);
        flow.map_or(0, |flow| {
            u64::from(flow.tuple.initiator().1) ^ flow.last_packet_ns ^ flow.packets[RX]
        })
    }

    /// Count packets that passed.
    fn note<'a>(
        &mut self,
        seen: &Sighting,
        now_ns: u64,
        found: Found,
        basis: &impl Fn(&Sighting) -> Option<Basis<'a>>,
    ) {
        let Some(slot) = self.find(seen, found) else {
            if seen.opens()
                && let Some(basis) = basis(seen)
            {
                self.start(seen, now_ns, found.hash, basis);
            }
            return;
        };
        let flow = &self.flows[slot as usize];
        if now_ns.saturating_sub(flow.last_packet_ns) > IDLE_LIFETIME_NS || flow.reopens(seen) {
            let (end_ns, is_idle) = flow.end_ns(now_ns);
            self.end(slot, if is_idle { end_ns } else { now_ns });
            return self.note(seen, now_ns, found, basis);
        }
        if flow.version != self.version && !self.compare(slot, seen, now_ns, found.hash, basis) {
            return;
        }
        let flow = &mut self.flows[slot as usize];
        flow.count(seen, now_ns);
        let ends = seen.flags.is_some_and(|flags| flags.fin() || flags.rst());
        // One that has not been told yet is due soon anyway.
        if ends && flow.is_closed() && flow.is_told {
            let expires_at_ns = flow.expires_at_ns();
            self.due.set(slot, second_of(expires_at_ns));
        }
    }

    /// Compare a flow with the grants and the path of its peer; whether its record goes on. If not, the next may have begun.
    fn compare<'a>(
        &mut self,
        slot: u32,
        seen: &Sighting,
        now_ns: u64,
        hash: u64,
        basis: &impl Fn(&Sighting) -> Option<Basis<'a>>,
    ) -> bool {
        let flow = &mut self.flows[slot as usize];
        let (Some(peer), Some(context)) = (self.peers.get(&seen.peer), &flow.context) else {
            return false;
        };
        let grants_version = peer.grants_version.wrapping_add(self.grants_version);
        if seen.from_initiator && flow.grants_version != grants_version {
            flow.grants_version = grants_version;
            match basis(seen) {
                Some(basis) if is_same(basis.resource, &context.resource_id) => {}
                other => {
                    self.end(slot, now_ns);
                    if let Some(basis) = other {
                        self.start(seen, now_ns, hash, basis);
                    }
                    return false;
                }
            }
        }
        if flow.path_version != peer.path_version {
            flow.path_version = peer.path_version;
            if let Some(path) = peer.flow_path(context.role) {
                let context = context.clone();
                if !flow.takes(path) {
                    self.end(slot, now_ns);
                    self.start(seen, now_ns, hash, Basis::of(&context));
                    return false;
                }
            }
        }
        // The responder's packets leave a change of grants to the initiator's.
        if flow.grants_version == grants_version {
            flow.version = self.version;
        }
        true
    }

    /// The peer is gone: its records end.
    pub fn forget_peer(&mut self, peer: PeerKey, now: Instant) {
        self.end_all_of(peer, self.ns(now));
        self.peers.remove(&peer);
    }

    /// Tell of what has begun, end what has been silent for too long, and let reports go that have waited long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now_ns = self.ns(now);
        let second = now_ns / SECOND_NS;
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
            self.read_ahead(due, |flow| flow.expires_at_ns() <= now_ns);
            for slot in due {
                steps::count(1);
                has_told |= self.tell_or_end(*slot, now_ns);
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
    fn tell_or_end(&mut self, slot: u32, now_ns: u64) -> bool {
        let flow = &mut self.flows[slot as usize];
        let expires_at_ns = flow.expires_at_ns();
        if expires_at_ns <= now_ns {
            let (end_ns, _) = flow.end_ns(now_ns);
            self.end(slot, end_ns);
            return false;
        }
        let was_told = std::mem::replace(&mut flow.is_told, true);
        if !was_told && let Some(context) = &flow.context {
            let told = flow.report(context.clone(), None);
            self.reports.push(told, self.instant(now_ns));
        }
        self.due.set(slot, second_of(expires_at_ns));
        !was_told
    }

    /// Read of all these what telling or ending them needs, so that a core waits for their memory at once.
    fn read_ahead(&self, slots: &[u32], ends: impl Fn(&Flow) -> bool) {
        let mut read = 0;
        for slot in slots {
            read ^= self.read_of(*slot);
        }
        for slot in slots {
            let Some(flow) = self.flows.get(*slot as usize) else {
                continue;
            };
            let context = flow.context.as_ref();
            read ^= context.map_or(0, Arc::strong_count) as u64;
            if ends(flow) {
                let hash = hash_of(self.hash, flow.peer, &flow.tuple);
                let found = self.index.find(hash, |found| found == slot);
                read ^= u64::from(found.copied().unwrap_or(NONE));
                read ^= u64::from(self.due.has(*slot));
                read ^= self.read_of(flow.before) ^ self.read_of(flow.behind);
                let peer = self.peers.get(&flow.peer);
                read ^= peer.map_or(0, |peer| peer.count) as u64;
            }
        }
        std::hint::black_box(read);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let flows = self
            .due
            .first()
            .map(|second| self.epoch + Duration::from_secs(second));
        [self.seen.due_at(), flows, self.reports.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// End every record, as at the end of the process.
    pub fn end_all(&mut self, now: Instant) {
        let now_ns = self.ns(now);
        let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
        for peer in peers {
            self.end_all_of(peer, now_ns);
        }
        self.reports.flush();
    }

    fn end_all_of(&mut self, peer: PeerKey, now_ns: u64) {
        while let Some(oldest) = self.oldest_of(peer) {
            let mut slots = [NONE; TOGETHER];
            let mut next = oldest;
            for slot in &mut slots {
                *slot = next;
                next = self
                    .flows
                    .get(next as usize)
                    .map_or(NONE, |flow| flow.behind);
            }
            self.read_ahead(&slots, |_| true);
            for slot in slots.into_iter().take_while(|slot| *slot != NONE) {
                self.end(slot, now_ns);
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
        if !found.is_recent || slot != found.slot {
            self.recent.put(seen.peer, found.hash, slot);
        }
        Some(slot)
    }

    fn find_in_index(&self, seen: &Sighting, hash: u64) -> Option<u32> {
        self.index
            .find(hash, |slot| self.is_at(*slot, seen))
            .copied()
    }

    fn is_at(&self, slot: u32, seen: &Sighting) -> bool {
        let flow = self.flows.get(slot as usize);
        flow.is_some_and(|flow| flow.is_of(seen.peer, &seen.tuple))
    }

    fn start(&mut self, seen: &Sighting, now_ns: u64, hash: u64, basis: Basis<'_>) {
        self.make_room(seen.peer, now_ns);
        let started_at_us = self.unix_us(now_ns);
        let all = self.grants_version;
        let version = self.version;
        let slot = self.free.pop().unwrap_or(self.flows.len() as u32);
        let peer = self.peer(seen.peer);
        let mut flow = Flow {
            tuple: seen.tuple,
            peer: seen.peer,
            context: Some(peer.context_of(basis)),
            is_under_way: false,
            finished: [false; 2],
            is_reset: false,
            is_told: false,
            version,
            path_version: peer.path_version,
            grants_version: peer.grants_version.wrapping_add(all),
            before: peer.newest,
            behind: NONE,
            last_packet_ns: now_ns,
            packets: [0; 2],
            bytes: [0; 2],
            started_at_us,
        };
        flow.count(seen, now_ns);
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
        if let Some(former) = self.flows.get_mut(newest as usize) {
            former.behind = slot;
        }
        if slot as usize == self.flows.len() {
            self.flows.push(flow);
        } else {
            self.flows[slot as usize] = flow;
        }
        let (flows, hasher) = (&self.flows, self.hash);
        self.index.insert_unique(hash, slot, |slot| {
            let flow = &flows[*slot as usize];
            hash_of(hasher, flow.peer, &flow.tuple)
        });
        self.recent.put(seen.peer, hash, slot);
        self.due.set(slot, second_of(now_ns + TOLD_AFTER_NS));
        self.open += 1;
        self.started += 1;
    }

    /// End a record; all that is known of the flow goes with it.
    fn end(&mut self, slot: u32, ended_at_ns: u64) {
        let flow = &mut self.flows[slot as usize];
        let Some(context) = flow.context.take() else {
            return;
        };
        let flow = &self.flows[slot as usize];
        let (peer, before, behind) = (flow.peer, flow.before, flow.behind);
        let end = FlowEnd {
            ended_at_us: flow.started_at_us.max(self.unix_us(ended_at_ns)),
            last_packet_at_us: flow.started_at_us.max(self.unix_us(flow.last_packet_ns)),
            tx_packets: flow.packets[TX],
            rx_packets: flow.packets[RX],
            tx_bytes: flow.bytes[TX],
            rx_bytes: flow.bytes[RX],
        };
        let ended = flow.report(context, Some(end));
        let hash = hash_of(self.hash, peer, &flow.tuple);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
        self.free.push(slot);
        self.open -= 1;
        self.due.remove(slot);
        self.unlink(peer, before, behind);
        self.reports.push(ended, self.instant(ended_at_ns));
    }

    fn unlink(&mut self, peer: PeerKey, before: u32, behind: u32) {
        if let Some(before) = self.flows.get_mut(before as usize) {
            before.behind = behind;
        }
        if let Some(behind) = self.flows.get_mut(behind as usize) {
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

    /// End the oldest record of a peer that has too many, or of the one with the most.
    fn make_room(&mut self, peer: PeerKey, now_ns: u64) {
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
            self.end(oldest, now_ns);
        }
    }

    fn oldest_of(&self, peer: PeerKey) -> Option<u32> {
        let oldest = self.peers.get(&peer)?.oldest;
        (oldest != NONE).then_some(oldest)
    }

    fn peer(&mut self, peer: PeerKey) -> &mut PeerFlows {
        self.peers.entry(peer).or_insert(PeerFlows {
            oldest: NONE,
            newest: NONE,
            count: 0,
            path_version: 0,
            grants_version: 0,
            contexts: Vec::new(),
            path: None,
        })
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn instant(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
    }

    fn unix_us(&self, ns: u64) -> u64 {
        (self.unix_at_epoch + Duration::from_nanos(ns)).as_micros() as u64
    }
}

#[inline(always)]
fn hash_of(hash: SeededState, peer: PeerKey, tuple: &Tuple) -> u64 {
    hash.hash_one((peer, tuple))
}

/// The first whole second of the engine's clock that is not before this.
fn second_of(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS)
}

/// Mostly it is the same text, which need not be looked at.
fn is_same(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl<'a> Basis<'a> {
    fn of(context: &'a FlowContext) -> Self {
        Self {
            resource: &context.resource_id,
            authorization: &context.authorization_id,
            role: context.role,
            domain: context.domain.as_ref(),
        }
    }

    fn is_of(&self, context: &FlowContext) -> bool {
        let domain = (self.domain, context.domain.as_ref());
        is_same(self.resource, &context.resource_id)
            && is_same(self.authorization, &context.authorization_id)
            && self.role == context.role
            && match domain {
                (Some(one), Some(other)) => is_same(one, other),
                (one, other) => one.is_none() && other.is_none(),
            }
    }
}

impl Flow {
    fn is_of(&self, peer: PeerKey, tuple: &Tuple) -> bool {
        self.peer == peer && self.tuple == *tuple && self.context.is_some()
    }

    fn count(&mut self, seen: &Sighting, now_ns: u64) {
        let direction = if seen.from_initiator { TX } else { RX };
        self.last_packet_ns = now_ns;
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

    fn expires_at_ns(&self) -> u64 {
        self.last_packet_ns
            + if self.is_closed() {
                CLOSED_LIFETIME_NS
            } else {
                IDLE_LIFETIME_NS
            }
    }

    /// When a flow has ended of which nothing has come since, and whether by silence.
    fn end_ns(&self, now_ns: u64) -> (u64, bool) {
        if self.is_closed() {
            return (self.last_packet_ns, true);
        }
        let silent_until = self.last_packet_ns + IDLE_LIFETIME_NS;
        (silent_until.min(now_ns), silent_until < now_ns)
    }

    /// Note another path; false if it is one too many.
    fn takes(&mut self, path: FlowPath) -> bool {
        let Some(context) = &mut self.context else {
            return false;
        };
        if context.paths.last().is_some_and(|last| last.is_same(&path)) {
            return true;
        }
        let has_room = context.paths.len() < MAX_PATHS;
        if has_room {
            Arc::make_mut(context).paths.push(path);
        }
        has_room
    }

    fn report(&self, context: Arc<FlowContext>, end: Option<FlowEnd>) -> FlowReport {
        FlowReport {
            context,
            protocol: self.tuple.protocol(),
            initiator: self.tuple.initiator(),
            responder: self.tuple.responder(),
            started_at_us: self.started_at_us,
            end,
        }
    }
}

impl PeerFlows {
    /// What a record that begins now shares with others: its basis, and the path in use, if any.
    fn context_of(&mut self, basis: Basis<'_>) -> Arc<FlowContext> {
        let mut known = self.contexts.iter().rev();
        if let Some(known) = known.find(|context| basis.is_of(context)) {
            return known.clone();
        }
        let context = Arc::new(FlowContext {
            resource_id: basis.resource.clone(),
            authorization_id: basis.authorization.clone(),
            role: basis.role,
            domain: basis.domain.cloned(),
            paths: self.flow_path(basis.role).into_iter().collect(),
        });
        if self.contexts.len() == MAX_CONTEXTS {
            self.contexts.remove(0);
        }
        self.contexts.push(context.clone());
        context
    }

    /// The path as a record names it: from the initiator's side to the responder's; without a source where the initiator
    /// sends over its relay.
    fn flow_path(&self, own: FlowRole) -> Option<FlowPath> {
        let (path, activated_at_us) = **self.path.as_ref()?;
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
