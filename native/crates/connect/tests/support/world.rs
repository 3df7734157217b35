//! Peers and relays on one simulated internet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wardgate_connect::{FailureReason, Inbound, LossReason, Node, NodeEvent, Path, PeerConfig};
use wardgate_stun::channel_header;

use super::nat::Nat;
use super::origin;
use super::relay::Relay;

const LINK: Duration = Duration::from_millis(10);
const SIGNALLING: Duration = Duration::from_millis(40);
/// Every pair of nodes talks about one connection, named alike at both ends.
pub const PEER: u32 = 1000;

pub struct Peer {
    pub node: Node<u32>,
    pub sockets: Vec<SocketAddr>,
    pub nat: Option<Nat>,
    pub dead: bool,
    pub path: Option<Path<u32>>,
    pub paths: Vec<(Duration, Path<u32>)>,
    pub failed: Option<(Duration, FailureReason)>,
    pub relays_lost: Vec<(Duration, u32, LossReason)>,
    pub relays_up: Vec<u32>,
    pub no_relays: bool,
    pub candidates: Vec<String>,
    pub withdrawn: Vec<String>,
    /// Arrival and content of datagrams that are not connectivity's.
    pub received: Vec<(Duration, Vec<u8>)>,
    pub sent: usize,
}

#[derive(Debug)]
pub enum Errand {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    Add {
        peer: usize,
        candidate: String,
    },
    Remove {
        peer: usize,
        candidate: String,
    },
}

pub struct World {
    pub now: Instant,
    start: Instant,
    pub peers: Vec<Peer>,
    pub relays: BTreeMap<u32, Relay>,
    errands: BTreeMap<(Instant, u64), Errand>,
    order: u64,
    /// Drop datagrams between the two peers' own addresses.
    pub direct_blocked: bool,
    /// Share of datagrams that the network loses.
    pub loss: f64,
    rng: StdRng,
    /// Every datagram that a peer sent, for comparison of runs.
    pub transcript: Vec<(Duration, SocketAddr, Vec<u8>)>,
}

impl World {
    pub fn new() -> Self {
        let start = origin();
        Self {
            now: start,
            start,
            peers: Vec::new(),
            relays: BTreeMap::new(),
            errands: BTreeMap::new(),
            order: 0,
            direct_blocked: false,
            loss: 0.0,
            rng: StdRng::from_seed([7; 32]),
            transcript: Vec::new(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn relay(&mut self, id: u32, addresses: &[&str]) {
        self.relays.insert(id, Relay::new(addresses, self.start));
    }

    pub fn peer(&mut self, seed: u8, sockets: &[&str], nat: Option<Nat>) -> usize {
        self.peers.push(Peer {
            node: Node::new([seed; 32]),
            sockets: sockets.iter().map(|text| text.parse().unwrap()).collect(),
            nat,
            dead: false,
            path: None,
            paths: Vec::new(),
            failed: None,
            relays_lost: Vec::new(),
            relays_up: Vec::new(),
            no_relays: false,
            candidates: Vec::new(),
            withdrawn: Vec::new(),
            received: Vec::new(),
            sent: 0,
        });
        self.peers.len() - 1
    }

    pub fn set_relays(&mut self, peer: usize, ids: &[u32], removed: &[u32]) {
        let configs = ids.iter().map(|id| {
            let texts: Vec<String> = self.relays[id]
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            super::relay_config(*id, &texts, &peer.to_string())
        });
        self.peers[peer]
            .node
            .set_relays(configs.collect(), removed, false, self.now);
        self.drain(peer);
    }

    pub fn upsert(&mut self, peer: usize, config: PeerConfig) {
        self.peers[peer]
            .node
            .upsert_peer(PEER, config, self.now)
            .unwrap();
        self.drain(peer);
    }

    /// Send application data on the chosen path, as the tunnel engine does.
    pub fn send_data(&mut self, peer: usize, body: &[u8]) -> bool {
        let now = self.now;
        let sender = &mut self.peers[peer];
        sender.node.note_activity(PEER, now);
        let Some(path) = sender.path.filter(|_| sender.failed.is_none()) else {
            return false;
        };
        let mut payload = Vec::new();
        if let Some(number) = path.channel {
            payload.extend_from_slice(&channel_header(number, body.len() as u16));
        }
        payload.extend_from_slice(body);
        if let Some(relay) = path.relay {
            sender.node.note_relayed(relay, now);
        }
        self.transmit(peer, path.local, path.send_to, payload);
        self.drain(peer);
        true
    }

    /// Run until `done`, at most for `limit`; whether it came true.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let next = self.next();
            match next.filter(|next| *next <= end) {
                Some(next) => self.advance(next.max(self.now)),
                None => {
                    self.now = end;
                    return done(self);
                }
            }
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Both peers send a numbered datagram every `interval`; returns the longest silence that `receiver` saw.
    pub fn exchange(&mut self, time: Duration, interval: Duration, receiver: usize) -> Duration {
        let from = self.peers[receiver].received.len();
        let begin = self.elapsed();
        let end = self.now + time;
        while self.now < end {
            for peer in 0..self.peers.len() {
                self.send_data(peer, &[4, 0, 0, 0, 1, 2, 3, 4]);
            }
            self.run_for(interval);
        }
        let mut longest = Duration::ZERO;
        let mut last = begin;
        for (at, _) in &self.peers[receiver].received[from..] {
            longest = longest.max(*at - last);
            last = *at;
        }
        longest.max(self.elapsed() - last)
    }

    fn next(&self) -> Option<Instant> {
        let errand = self.errands.keys().next().map(|(at, _)| *at);
        let timers = self
            .peers
            .iter()
            .filter(|peer| !peer.dead)
            .filter_map(|peer| peer.node.poll_timeout());
        errand.into_iter().chain(timers).min()
    }

    fn advance(&mut self, to: Instant) {
        self.now = to;
        while let Some(entry) = self.errands.first_entry()
            && entry.key().0 <= to
        {
            let errand = entry.remove();
            self.run(errand);
        }
        for index in 0..self.peers.len() {
            if !self.peers[index].dead
                && self.peers[index]
                    .node
                    .poll_timeout()
                    .is_some_and(|due| due <= to)
            {
                self.peers[index].node.handle_timeout(to);
                self.drain(index);
                let next = self.peers[index].node.poll_timeout();
                assert!(
                    next.is_none_or(|next| next > to),
                    "a deadline must lie ahead after it was handled"
                );
            }
        }
    }

    fn run(&mut self, errand: Errand) {
        let now = self.now;
        match errand {
            Errand::Add { peer, candidate } => {
                self.peers[peer]
                    .node
                    .add_remote_candidate(PEER, &candidate, now);
                self.drain(peer);
            }
            Errand::Remove { peer, candidate } => {
                self.peers[peer]
                    .node
                    .remove_remote_candidate(PEER, &candidate, now);
                self.drain(peer);
            }
            Errand::Datagram { from, to, payload } => self.deliver(from, to, &payload),
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let now = self.now;
        if let Some(relay) = self
            .relays
            .values_mut()
            .find(|relay| relay.ips().any(|ip| ip == to.ip()))
        {
            for (from, to, payload) in relay.handle(from, to, payload, now) {
                self.post(LINK, Errand::Datagram { from, to, payload });
            }
            return;
        }
        let elapsed = self.elapsed();
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let local = match &peer.nat {
                Some(nat) if nat.outer == to.ip() => nat.inward(to, from),
                _ => peer
                    .sockets
                    .iter()
                    .copied()
                    .find(|socket| *socket == to && (peer.nat.is_none() || to.is_ipv6())),
            };
            let Some(local) = local.filter(|_| !peer.dead) else {
                continue;
            };
            if let Inbound::Wireguard { offset, .. } =
                peer.node.handle_datagram(from, local, payload, now)
            {
                peer.received.push((elapsed, payload[offset..].to_vec()));
                peer.node.note_activity(PEER, now);
            }
            self.drain(index);
        }
    }

    pub fn drain(&mut self, index: usize) {
        while let Some(transmit) = self.peers[index].node.poll_transmit() {
            self.transmit(index, transmit.local, transmit.remote, transmit.payload);
        }
        let elapsed = self.elapsed();
        while let Some(event) = self.peers[index].node.poll_event() {
            let other = 1 - index.min(1);
            let peer = &mut self.peers[index];
            match event {
                NodeEvent::CandidatesAdded { candidates, .. } => {
                    peer.candidates.extend(candidates.iter().cloned());
                    for candidate in candidates {
                        self.signal(Errand::Add {
                            peer: other,
                            candidate,
                        });
                    }
                }
                NodeEvent::CandidatesRemoved { candidates, .. } => {
                    peer.withdrawn.extend(candidates.iter().cloned());
                    for candidate in candidates {
                        self.signal(Errand::Remove {
                            peer: other,
                            candidate,
                        });
                    }
                }
                NodeEvent::PathSelected { path, .. } => {
                    peer.path = Some(path);
                    peer.paths.push((elapsed, path));
                }
                NodeEvent::PathFailed { reason, .. } => peer.failed = Some((elapsed, reason)),
                NodeEvent::RelayUp { relay, .. } => peer.relays_up.push(relay),
                NodeEvent::RelayLost { relay, reason } => {
                    peer.relays_lost.push((elapsed, relay, reason))
                }
                NodeEvent::NoRelays => peer.no_relays = true,
            }
        }
    }

    fn signal(&mut self, errand: Errand) {
        self.post(SIGNALLING, errand);
    }

    fn transmit(
        &mut self,
        index: usize,
        local: Option<SocketAddr>,
        to: SocketAddr,
        payload: Vec<u8>,
    ) {
        let elapsed = self.elapsed();
        let peer = &mut self.peers[index];
        peer.sent += 1;
        let socket = peer
            .sockets
            .iter()
            .copied()
            .find(|socket| socket.is_ipv4() == to.is_ipv4());
        let Some(inner) = local.or(socket).filter(|inner| socket == Some(*inner)) else {
            assert!(
                local.is_none(),
                "sent from {local:?}, which is no socket of the peer"
            );
            return;
        };
        self.transcript.push((elapsed, to, payload.clone()));
        if peer.dead
            || (self.direct_blocked
                && !self
                    .relays
                    .values()
                    .any(|relay| relay.ips().any(|ip| ip == to.ip())))
        {
            return;
        }
        let from = match &mut peer.nat {
            Some(nat) if inner.is_ipv4() => nat.outward(inner, to),
            _ => inner,
        };
        self.post(LINK, Errand::Datagram { from, to, payload });
    }

    fn post(&mut self, after: Duration, errand: Errand) {
        if matches!(errand, Errand::Datagram { .. }) && self.rng.random_bool(self.loss) {
            return;
        }
        self.order += 1;
        self.errands.insert((self.now + after, self.order), errand);
    }
}
