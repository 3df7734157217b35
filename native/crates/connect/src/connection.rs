//! One peer: an ICE agent, what was signalled in both directions, and the timers around it (data-plane §1.6, §1.8).
//!
//! ```text
//! Checking ──path chosen──► Connected ◄──20 s without a packet──► Idle (checks every 25 s)
//!    │ no candidate in 10 s      │ no pair left for 2 s
//!    └──────────► failed ◄───────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{
    Candidate, CandidateKind, IceAgent, IceAgentEvent, IceConnectionState, IceCreds, Protocol,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::allocation::Reflexive;
use crate::candidate;
use crate::check_book::{CheckBook, CheckedPair};
use crate::event::FailureReason;
use crate::node::{PeerConfig, Profile};
use crate::pair_choice::{Pair, PairChoice};
use crate::path::Path;

const FIRST_CANDIDATE_WITHIN: Duration = Duration::from_secs(10);
const DISCONNECT_GRACE: Duration = Duration::from_secs(2);
const IDLE_AFTER: Duration = Duration::from_secs(20);
/// Ours, for the start: the first check to a peer behind a router meets a closed door, and the next would come after 250 ms, more
/// than all else of a cold connect. No faster than RFC 8445 §14.2 paces checks anyway.
const HURRIED_RTO: Duration = Duration::from_millis(50);
/// Ours: a peer that has not answered by then is not near.
const HURRIED_FOR: Duration = Duration::from_secs(1);
const MAX_OPTIMISTIC: usize = 2;
/// Ours: candidates of a peer that count at one time, and that it may ever add. The agent never forgets one.
const MAX_REMOTE: usize = 64;
const MAX_ADDITIONS: usize = 1_000;
/// Ours: addresses beyond the signalled ones that a peer may appear from or say that it sees us at.
const MAX_OBSERVED: usize = 256;
/// The agent sends one request a step and has at most 100 pairs.
const MAX_STEPS: usize = 300;

struct Timing {
    initial_rto: Duration,
    max_rto: Duration,
    max_retransmits: usize,
}

/// data-plane §1.6, "Timing profiles".
fn timing(profile: Profile, idle: bool) -> Timing {
    let (initial_ms, max_ms, max_retransmits) = match (profile, idle) {
        (Profile::Client, false) => (250, 1_500, 12),
        (Profile::Client, true) => (25_000, 25_000, 4),
        (Profile::Server, false) => (250, 15_000, 45),
        (Profile::Server, true) => (25_000, 25_000, 40),
    };
    Timing {
        initial_rto: Duration::from_millis(initial_ms),
        max_rto: Duration::from_millis(max_ms),
        max_retransmits,
    }
}

/// A connectivity check or its answer, from one of our candidates to one of the peer's.
pub(crate) struct Check {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Connection<Id> {
    config: PeerConfig,
    agent: IceAgent,
    pub(crate) relay: Option<Id>,
    first_candidate_by: Option<Instant>,
    disconnected_at: Option<Instant>,
    active_at: Instant,
    idle: bool,
    /// Checks are repeated at a faster pace: until there is a path, or a second after the first candidate.
    is_hurried: bool,
    hurried_until: Option<Instant>,
    /// Signalled by the peer and not withdrawn.
    remote: Vec<Candidate>,
    additions: usize,
    /// Ascending.
    observed: Vec<SocketAddr>,
    /// Our relayed candidates as announced. Few: a list, because a tree has room for eleven.
    relayed: Vec<(Candidate, String)>,
    choice: PairChoice,
    checks: CheckBook,
    pub(crate) path: Option<Path<Id>>,
    /// To signal at the end of this step, with priority.
    added: Vec<(u32, String)>,
    removed: Vec<String>,
    /// As entered into the node's timers.
    pub(crate) deadline: Option<Instant>,
}

impl<Id: Copy> Connection<Id> {
    pub(crate) fn new(config: PeerConfig, rng: &mut StdRng, now: Instant) -> Self {
        seed_agent(rng);
        let mut agent = IceAgent::new(credentials(&config.local_ice));
        agent.set_remote_credentials(credentials(&config.remote_ice));
        agent.set_controlling(config.controlling);
        agent.set_control_tie_breaker(rng.random());
        agent.set_timing_advance(Duration::ZERO);
        agent.set_local_preference(candidate::local_preference);
        let mut connection = Self {
            config,
            agent,
            relay: None,
            first_candidate_by: Some(now + FIRST_CANDIDATE_WITHIN),
            disconnected_at: None,
            active_at: now,
            idle: false,
            is_hurried: true,
            hurried_until: None,
            remote: Vec::new(),
            additions: 0,
            observed: Vec::new(),
            relayed: Vec::new(),
            choice: PairChoice::default(),
            checks: CheckBook::default(),
            path: None,
            added: Vec::new(),
            removed: Vec::new(),
            deadline: None,
        };
        connection.set_idle(false);
        connection
    }

    pub(crate) fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// USERNAME of requests that the peer sends.
    pub(crate) fn inbound_username(&self) -> String {
        format!(
            "{}:{}",
            self.config.local_ice.username, self.config.remote_ice.username
        )
    }

    /// Offer an address of ours and how a relay sees it.
    pub(crate) fn offer_reflexive(&mut self, reflexive: Reflexive, rng: &mut StdRng) {
        let Reflexive { base, mapped } = reflexive;
        self.offer(Candidate::host(base, Protocol::Udp), rng);
        self.offer(
            Candidate::server_reflexive(mapped, base, Protocol::Udp),
            rng,
        );
    }

    /// Offer a relayed address that we reach from `local`.
    pub(crate) fn offer_relayed(
        &mut self,
        relayed: SocketAddr,
        local: SocketAddr,
        rng: &mut StdRng,
    ) {
        let Ok(candidate) = Candidate::relayed(relayed, local, Protocol::Udp) else {
            return;
        };
        if let Some(text) = self.offer(Ok(candidate.clone()), rng) {
            self.relayed.retain(|(known, _)| known.addr() != relayed);
            self.relayed.reserve_exact(1);
            self.relayed.push((candidate, text));
        }
    }

    /// Take back all relayed candidates, or only one.
    pub(crate) fn withdraw_relayed(&mut self, only: Option<SocketAddr>) {
        let is_void =
            |(known, _): &mut (Candidate, String)| only.is_none_or(|only| only == known.addr());
        for (candidate, text) in self.relayed.extract_if(.., is_void) {
            self.agent.invalidate_candidate(&candidate);
            self.checks.forget(|pair| pair.source == candidate.addr());
            let before = self.added.len();
            self.added.retain(|(_, added)| *added != text);
            if self.added.len() == before {
                self.removed.push(text);
            }
        }
    }

    /// Signal every local candidate again.
    pub(crate) fn announce_again(&mut self) {
        let signalled = self
            .agent
            .local_candidates()
            .filter(|local| local.kind() != CandidateKind::PeerReflexive);
        self.added = signalled
            .map(|local| (local.prio(), local.to_sdp_string()))
            .collect();
    }

    /// Returns whether the candidate was taken.
    pub(crate) fn add_remote(&mut self, text: &str, rng: &mut StdRng, now: Instant) -> bool {
        let Some(candidate) = candidate::parse(text, &self.config.remote_ice.username) else {
            return false;
        };
        self.note_activity(now);
        if self.position(&candidate).is_some() {
            return true;
        }
        if self.remote.len() >= MAX_REMOTE || self.additions >= MAX_ADDITIONS {
            return false;
        }
        self.additions += 1;
        self.first_candidate_by = None;
        self.hurried_until.get_or_insert(now + HURRIED_FOR);
        self.remote.reserve_exact(1);
        self.remote.push(candidate.clone());
        seed_agent(rng);
        self.agent.add_remote_candidate(candidate);
        self.add_optimistic();
        true
    }

    /// Returns whether the text was a candidate at all.
    pub(crate) fn remove_remote(&mut self, text: &str, now: Instant) -> bool {
        let Some(candidate) = candidate::parse(text, &self.config.remote_ice.username) else {
            return false;
        };
        self.note_activity(now);
        if let Some(position) = self.position(&candidate) {
            let candidate = self.remote.remove(position);
            // The agent looks among our own candidates first, and two private networks may use the same address.
            let ours = self
                .agent
                .local_candidates()
                .any(|local| local.addr() == candidate.addr());
            if !ours {
                self.agent.invalidate_candidate(&candidate);
            }
            self.checks
                .forget(|pair| pair.destination == candidate.addr());
        }
        true
    }

    /// Where our relay has to have a channel to: what was signalled, but hosts.
    pub(crate) fn channel_peers(&self) -> Vec<SocketAddr> {
        let far = self
            .remote
            .iter()
            .filter(|candidate| candidate.kind() != CandidateKind::Host);
        far.map(Candidate::addr).collect()
    }

    /// The candidate pair to send on.
    pub(crate) fn chosen(&self) -> Option<Pair> {
        self.choice.chosen()
    }

    pub(crate) fn is_remote_relay(&self, address: SocketAddr) -> bool {
        self.remote
            .iter()
            .any(|remote| remote.kind() == CandidateKind::Relayed && remote.addr() == address)
    }

    /// What came of the checks so far, in a fixed order.
    pub(crate) fn checks(&self) -> Vec<CheckedPair> {
        let remote: BTreeMap<SocketAddr, CandidateKind> = self
            .agent
            .remote_candidates()
            .map(|remote| (remote.addr(), remote.kind()))
            .collect();
        let checked = self.checks.outcomes().map(|(pair, outcome)| CheckedPair {
            local: pair.source,
            remote: pair.destination,
            local_kind: kind_text(if is_relayed(&self.relayed, pair.source) {
                CandidateKind::Relayed
            } else {
                CandidateKind::Host
            }),
            remote_kind: kind_text(
                remote
                    .get(&pair.destination)
                    .copied()
                    .unwrap_or(CandidateKind::PeerReflexive),
            ),
            sent: outcome.sent,
            answered: outcome.answered,
            round_trip: outcome.round_trip,
            is_chosen: self.choice.chosen() == Some(pair),
        });
        checked.collect()
    }

    /// A check was sent.
    pub(crate) fn note_sent(&mut self, pair: Pair, now: Instant) {
        self.checks.sent(pair, now);
    }

    /// A check or answer that names this connection; `destination` is the candidate of ours that it came to, `asked` the pair
    /// that an answered check was sent on, and how long ago. Returns whether the agent took it.
    pub(crate) fn handle_check(
        &mut self,
        message: StunMessage<'_>,
        source: SocketAddr,
        destination: SocketAddr,
        asked: Option<(Pair, Duration)>,
        rng: &mut StdRng,
        now: Instant,
    ) -> bool {
        // Roles come from the portal and never switch (data-plane §1.6); the agent would.
        let same_role = if self.config.controlling {
            message.ice_controlling()
        } else {
            message.ice_controlled()
        };
        if message.is_binding_request() && same_role.is_some() {
            return false;
        }
        // Either address becomes a peer-reflexive candidate if it is new, and the agent keeps those for ever.
        let observed = if message.is_binding_request() {
            Some(source)
        } else {
            message.mapped_address()
        };
        let Some(observed) = observed else {
            return false;
        };
        let place = self.observed.binary_search(&observed);
        if self.observed.len() >= MAX_OBSERVED && place.is_err() {
            return false;
        }
        let answered = message.is_successful_binding_response();
        seed_agent(rng);
        let packet = StunPacket {
            proto: Protocol::Udp,
            source,
            destination,
            message,
        };
        if !self.agent.handle_packet(now, packet) {
            return false;
        }
        if let Err(place) = place {
            self.observed.insert(place, observed);
        }
        if answered && let Some((pair, took)) = asked {
            self.checks.answered(pair, took);
        }
        // The controlling side has its own checks answered all the time; the controlled one sends few and gets many.
        if answered || !self.config.controlling {
            let pair = Pair {
                source: destination,
                destination: source,
            };
            let (relayed, remote, agent) = (&self.relayed, &self.remote, &self.agent);
            self.choice.heard(pair, |pair| {
                let far = remote.iter().any(|far| {
                    far.kind() == CandidateKind::Relayed && far.addr() == pair.destination
                });
                let detours = usize::from(far) + usize::from(is_relayed(relayed, pair.source));
                agent
                    .has_viable_remote_candidate(pair.destination)
                    .then_some(detours)
            });
        }
        true
    }

    /// A packet, a candidate or an upsert: the peer is in use.
    pub(crate) fn note_activity(&mut self, now: Instant) {
        self.active_at = now;
        if self.idle {
            self.set_idle(false);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle
    }

    /// Run what is due; returns the checks to send, or why the peer is given up.
    pub(crate) fn step(
        &mut self,
        rng: &mut StdRng,
        now: Instant,
    ) -> Result<Vec<Check>, FailureReason> {
        seed_agent(rng);
        let mut checks = Vec::new();
        for _ in 0..MAX_STEPS {
            self.drain(&mut checks, now);
            if self.agent.poll_timeout().is_some_and(|due| now < due) {
                break;
            }
            self.agent.handle_timeout(now);
        }
        self.drain(&mut checks, now);
        if self.first_candidate_by.is_some_and(|by| now >= by) {
            return Err(FailureReason::NoCandidates);
        }
        if self
            .disconnected_at
            .is_some_and(|at| now >= at + DISCONNECT_GRACE)
        {
            return Err(FailureReason::IceTimeout);
        }
        let is_late = self.hurried_until.is_some_and(|until| now >= until);
        if self.is_hurried && (is_late || self.agent.state().is_connected()) {
            self.is_hurried = false;
            self.set_idle(self.idle);
        }
        if !self.idle && self.agent.state().is_connected() && now >= self.active_at + IDLE_AFTER {
            self.set_idle(true);
        }
        Ok(checks)
    }

    /// Candidates to signal now: added in descending priority, removed.
    pub(crate) fn take_signals(&mut self) -> (Vec<String>, Vec<String>) {
        self.added
            .sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let added = std::mem::take(&mut self.added)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        (added, std::mem::take(&mut self.removed))
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let idle_at = self.active_at + IDLE_AFTER;
        let may_idle = !self.idle && self.agent.state().is_connected();
        [
            self.agent.poll_timeout(),
            self.first_candidate_by,
            self.disconnected_at.map(|at| at + DISCONNECT_GRACE),
            may_idle.then_some(idle_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn offer(
        &mut self,
        candidate: Result<Candidate, is::IceError>,
        rng: &mut StdRng,
    ) -> Option<String> {
        seed_agent(rng);
        // Not an address to be reached at (link-local, unspecified), or one that the agent has.
        let offered = self.agent.add_local_candidate(candidate.ok()?)?;
        let (priority, text) = (offered.prio(), offered.to_sdp_string());
        self.added.push((priority, text.clone()));
        Some(text)
    }

    fn add_optimistic(&mut self) {
        let v4 = |kind| {
            let of_kind = self
                .remote
                .iter()
                .filter(move |remote| remote.kind() == kind && remote.addr().is_ipv4());
            of_kind.cloned().collect::<Vec<_>>()
        };
        let (reflexive, hosts) = (v4(CandidateKind::ServerReflexive), v4(CandidateKind::Host));
        let known: BTreeSet<SocketAddr> = self
            .agent
            .remote_candidates()
            .map(|remote| remote.addr())
            .collect();
        let mut new: BTreeMap<SocketAddr, Candidate> = BTreeMap::new();
        for from in &reflexive {
            for host in &hosts {
                let guess = candidate::optimistic(from, host.addr().port());
                if new.len() < MAX_OPTIMISTIC && !known.contains(&guess.addr()) {
                    new.entry(guess.addr()).or_insert(guess);
                }
            }
        }
        for guess in new.into_values() {
            self.agent.add_remote_candidate(guess);
        }
    }

    fn position(&self, candidate: &Candidate) -> Option<usize> {
        self.remote
            .iter()
            .position(|known| known.addr() == candidate.addr() && known.kind() == candidate.kind())
    }

    fn drain(&mut self, checks: &mut Vec<Check>, now: Instant) {
        while let Some(transmit) = self.agent.poll_transmit() {
            checks.push(Check {
                source: transmit.source,
                destination: transmit.destination,
                payload: transmit.contents.into(),
            });
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                IceAgentEvent::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                    self.disconnected_at = Some(now);
                }
                IceAgentEvent::IceConnectionStateChange(_) => self.disconnected_at = None,
                IceAgentEvent::NominatedSend {
                    source,
                    destination,
                    ..
                } => {
                    self.choice.nominate(Pair {
                        source,
                        destination,
                    });
                }
                IceAgentEvent::IceRestart(_) | IceAgentEvent::DiscoveredRecv { .. } => {}
            }
        }
    }

    fn set_idle(&mut self, idle: bool) {
        self.idle = idle;
        let timing = timing(self.config.profile, idle);
        self.agent.set_initial_stun_rto(if self.is_hurried {
            HURRIED_RTO
        } else {
            timing.initial_rto
        });
        self.agent.set_max_stun_rto(timing.max_rto);
        self.agent.set_max_stun_retransmits(timing.max_retransmits);
    }
}

fn is_relayed(relayed: &[(Candidate, String)], address: SocketAddr) -> bool {
    relayed.iter().any(|(known, _)| known.addr() == address)
}

fn kind_text(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "host",
        CandidateKind::PeerReflexive => "prflx",
        CandidateKind::ServerReflexive => "srflx",
        CandidateKind::Relayed => "relay",
    }
}

fn credentials(ice: &crate::node::IceCredentials) -> IceCreds {
    IceCreds {
        ufrag: ice.username.clone(),
        pass: ice.password.clone(),
    }
}

/// The agent draws transaction ids from the thread's generator, which by default is neither unpredictable nor repeatable.
fn seed_agent(rng: &mut StdRng) {
    fastrand::seed(rng.random());
}
