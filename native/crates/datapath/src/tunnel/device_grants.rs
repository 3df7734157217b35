//! What other clients may do here: grants through device pools, and the flows opened under them (data-plane §4.10).
//!
//! Every packet of another client needs a grant that admits it at that instant, and so does every packet in answer to one:
//! flows only tell answers from flows of our own. Whatever is granted, it leads to this device and no further.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use wardgate_packet::{IpPacket, Quoted};

use super::filter_set::{FilterSet, Traffic};
use super::flow_records::Basis;
use super::flow_set::{FlowSet, Full};
use super::links::PeerKey;
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::steps;
use crate::event::FlowRole;

/// Live flows that one other client may have here; ours.
const MAX_FLOWS: usize = 32_768;
/// Grants, of all peers, that end in one call; the rest ends in the next, which is due at once.
const AT_ONCE: usize = 256;

/// What becomes of a packet of another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// No grant admits it.
    Prohibited,
    /// It would open one flow too many.
    Exhausted,
}

#[derive(Debug)]
pub struct DeviceGrants {
    hash: SeededState,
    peers: BTreeMap<PeerKey, Granted>,
    deadlines: BTreeSet<(Instant, PeerKey, ResourceId)>,
}

#[derive(Debug)]
struct Granted {
    grants: BTreeMap<ResourceId, Grant>,
    /// Opened by the peer.
    flows: FlowSet,
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub filters: Arc<FilterSet>,
    pub deadline: Option<Instant>,
    /// The policy authorization under which its flows are recorded.
    pub record_under: Option<Arc<str>>,
}

impl DeviceGrants {
    /// `hash` spreads what peers choose, and must not be known to them.
    pub fn new(hash: SeededState) -> Self {
        Self {
            hash,
            peers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub fn has_grants(&self, key: PeerKey) -> bool {
        self.peers.contains_key(&key)
    }

    /// Every grant, in a fixed order.
    pub fn all(&self) -> Vec<(PeerKey, ResourceId)> {
        let of_peer = |(key, granted): (&PeerKey, &Granted)| {
            let key = *key;
            let resources: Vec<_> = granted.grants.keys().cloned().collect();
            resources.into_iter().map(move |resource| (key, resource))
        };
        self.peers.iter().flat_map(of_peer).collect()
    }

    /// Add or replace a grant. Flows stay: each of their packets needs a grant anyway.
    pub fn grant(&mut self, key: PeerKey, resource: ResourceId, grant: Grant) {
        self.forget_deadline(key, &resource);
        if let Some(deadline) = grant.deadline {
            self.deadlines.insert((deadline, key, resource.clone()));
        }
        let granted = self.peers.entry(key).or_insert_with(|| Granted {
            grants: BTreeMap::new(),
            flows: FlowSet::new(self.hash, MAX_FLOWS),
        });
        granted.grants.insert(resource, grant);
    }

    pub fn set_deadline(&mut self, key: PeerKey, resource: &ResourceId, deadline: Option<Instant>) {
        let known = self.peers.get(&key).and_then(|it| it.grants.get(resource));
        if let Some(known) = known.cloned() {
            let grant = Grant { deadline, ..known };
            self.grant(key, resource.clone(), grant);
        }
    }

    /// Replace a pool's filters for everybody who is granted it.
    pub fn update_filters(&mut self, resource: &str, filters: &Arc<FilterSet>) {
        for granted in self.peers.values_mut() {
            if let Some(grant) = granted.grants.get_mut(resource) {
                grant.filters = filters.clone();
            }
        }
    }

    /// Remove a grant; whether it was there.
    pub fn revoke(&mut self, key: PeerKey, resource: &str) -> bool {
        self.forget_deadline(key, resource);
        let Some(granted) = self.peers.get_mut(&key) else {
            return false;
        };
        let was_there = granted.grants.remove(resource).is_some();
        if granted.grants.is_empty() {
            self.peers.remove(&key);
        }
        was_there
    }

    pub fn forget(&mut self, key: PeerKey) {
        if let Some(granted) = self.peers.remove(&key) {
            for (resource, grant) in granted.grants {
                if let Some(deadline) = grant.deadline {
                    self.deadlines.remove(&(deadline, key, resource));
                }
            }
        }
    }

    /// Judge a packet that a peer sends to us of its own accord.
    pub fn admit<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> Admission {
        let Some(granted) = self.peers.get_mut(&key) else {
            return Admission::Prohibited;
        };
        if !granted.permits(Traffic::toward(packet), now) {
            return Admission::Prohibited;
        }
        match granted.flows.open(packet, now) {
            Ok(()) => Admission::Admitted,
            Err(Full) => Admission::Exhausted,
        }
    }

    /// Whether a packet of ours answers in a flow that the peer opened and still may have.
    pub fn admits_answer<B: AsRef<[u8]>>(
        &mut self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> bool {
        self.peers.get_mut(&key).is_some_and(|granted| {
            granted.permits(Traffic::from(packet), now) && granted.flows.answers(packet, now)
        })
    }

    /// Whether a packet of ours would answer in a flow that the peer opened.
    pub fn is_answer<B: AsRef<[u8]>>(
        &self,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> bool {
        let granted = self.peers.get(&key);
        granted.is_some_and(|granted| granted.flows.is_answer(packet, now))
    }

    /// What a flow that the peer opens is recorded under.
    pub fn basis_of(&self, key: PeerKey, traffic: Traffic, now: Instant) -> Option<Basis<'_>> {
        let mut grants = self.peers.get(&key)?.grants.iter();
        let (resource, grant) =
            grants.find(|(_, grant)| grant.is_live(now) && grant.filters.permits(traffic))?;
        Some(Basis {
            authorization: grant.record_under.as_ref()?,
            resource,
            role: FlowRole::Responder,
            domain: None,
        })
    }

    /// Whether an ICMP error, of either end, is about a packet in a flow that the peer opened, while it has any grant.
    pub fn concerns(&self, key: PeerKey, quoted: &Quoted, now: Instant) -> bool {
        self.peers.get(&key).is_some_and(|granted| {
            granted.grants.values().any(|grant| grant.is_live(now))
                && granted.flows.concerns(quoted, now)
        })
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }

    /// Remove and name the grants whose deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(PeerKey, ResourceId)> {
        let mut expired = Vec::new();
        while expired.len() < AT_ONCE
            && let Some((deadline, key, resource)) = self.deadlines.first().cloned()
            && deadline <= now
        {
            self.revoke(key, &resource);
            expired.push((key, resource));
        }
        expired
    }

    fn forget_deadline(&mut self, key: PeerKey, resource: &str) {
        let known = self.peers.get(&key);
        let known = known.and_then(|granted| granted.grants.get_key_value(resource));
        if let Some((resource, grant)) = known
            && let Some(deadline) = grant.deadline
        {
            self.deadlines.remove(&(deadline, key, resource.clone()));
        }
    }
}

impl Granted {
    fn permits(&self, traffic: Traffic, now: Instant) -> bool {
        self.grants
            .values()
            .inspect(|_| steps::count(1))
            .any(|grant| grant.is_live(now) && grant.filters.permits(traffic))
    }
}

impl Grant {
    fn is_live(&self, now: Instant) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }
}
