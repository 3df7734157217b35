//! Flows between this client and others: who opened which, and what belongs to them (data-plane §4.10).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use wardgate_packet::{IpPacket, Quoted};

use super::nat_table::{Protocol, ends_flow};
use super::seeded_hash::SeededState;

/// Time since the last packet, either direction (data-plane §9.3).
const TCP_LIFETIME: Duration = Duration::from_secs(7440);
const DATAGRAM_LIFETIME: Duration = Duration::from_secs(120);
/// Flows before the first clearing; ours.
const CLEAR_AT_LEAST: usize = 1024;
/// A full set is searched for ended flows no more often than this, whatever comes; ours.
const CLEAR_SPACING: Duration = Duration::from_secs(1);

/// The flows that one side has opened.
#[derive(Debug)]
pub struct FlowSet {
    flows: HashMap<Flow, State, SeededState>,
    capacity: usize,
    /// Over this many flows, the ended ones are cleared away.
    clear_above: usize,
    cleared_at: Option<Instant>,
}

/// As its opener sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    protocol: Protocol,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

#[derive(Clone, Copy, Debug)]
struct State {
    last_packet_at: Instant,
    /// Either end of a TCP connection has said that it ends: it need not be remembered for hours.
    is_ending: bool,
}

/// The set holds as many live flows as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl FlowSet {
    /// `hash` must not be known to whoever chooses ports.
    pub fn new(hash: SeededState, capacity: usize) -> Self {
        Self {
            flows: HashMap::with_hasher(hash),
            capacity,
            clear_above: CLEAR_AT_LEAST,
            cleared_at: None,
        }
    }

    /// A packet of the opener opens its flow, or keeps it open. One that is of no protocol with flows opens none.
    pub fn open<B: AsRef<[u8]>>(&mut self, packet: &IpPacket<B>, now: Instant) -> Result<(), Full> {
        let Some(flow) = outgoing(packet) else {
            return Ok(());
        };
        if let Some(state) = self.flows.get_mut(&flow) {
            let was_live = state.is_live(&flow, now);
            *state = state.after(packet, now, was_live);
            return Ok(());
        }
        if self.flows.len() >= self.clear_above.min(self.capacity) {
            self.clear(now);
        }
        if self.flows.len() >= self.capacity {
            return Err(Full);
        }
        let fresh = State {
            last_packet_at: now,
            is_ending: false,
        };
        self.flows.insert(flow, fresh.after(packet, now, false));
        Ok(())
    }

    /// Whether a packet of the other side answers in an open flow; it keeps it open.
    pub fn answers<B: AsRef<[u8]>>(&mut self, packet: &IpPacket<B>, now: Instant) -> bool {
        let Some(flow) = outgoing(packet).map(Flow::reversed) else {
            return false;
        };
        match self.flows.get_mut(&flow) {
            Some(state) if state.is_live(&flow, now) => {
                *state = state.after(packet, now, true);
                true
            }
            _ => false,
        }
    }

    /// Whether a packet of the other side would answer in an open flow.
    pub fn is_answer<B: AsRef<[u8]>>(&self, packet: &IpPacket<B>, now: Instant) -> bool {
        outgoing(packet).map(Flow::reversed).is_some_and(|flow| {
            let state = self.flows.get(&flow);
            state.is_some_and(|state| state.is_live(&flow, now))
        })
    }

    /// Whether a packet of the opener's side belongs to an open flow.
    pub fn is_opened<B: AsRef<[u8]>>(&self, packet: &IpPacket<B>, now: Instant) -> bool {
        outgoing(packet).is_some_and(|flow| {
            let state = self.flows.get(&flow);
            state.is_some_and(|state| state.is_live(&flow, now))
        })
    }

    /// Whether an ICMP error is about a packet, of either side, in an open flow.
    pub fn concerns(&self, quoted: &Quoted, now: Instant) -> bool {
        let is_live = |flow: Flow| {
            self.flows
                .get(&flow)
                .is_some_and(|state| state.is_live(&flow, now))
        };
        about(quoted).is_some_and(|flow| is_live(flow) || is_live(flow.reversed()))
    }

    fn clear(&mut self, now: Instant) {
        let is_recent = self
            .cleared_at
            .is_some_and(|at| now.saturating_duration_since(at) < CLEAR_SPACING);
        if is_recent && self.flows.len() >= self.capacity {
            return;
        }
        self.cleared_at = Some(now);
        self.flows.retain(|flow, state| state.is_live(flow, now));
        self.clear_above = (self.flows.len() * 2).max(CLEAR_AT_LEAST);
    }
}

impl State {
    fn is_live(&self, flow: &Flow, now: Instant) -> bool {
        let lifetime = match flow.protocol {
            Protocol::Tcp if !self.is_ending => TCP_LIFETIME,
            _ => DATAGRAM_LIFETIME,
        };
        now.saturating_duration_since(self.last_packet_at) < lifetime
    }

    /// The state after one more packet; a new connection may take the ports of one that ended.
    fn after<B: AsRef<[u8]>>(self, packet: &IpPacket<B>, now: Instant, was_live: bool) -> Self {
        let flags = packet.tcp_flags();
        let begins = !was_live || flags.is_some_and(|flags| flags.syn());
        Self {
            last_packet_at: now,
            is_ending: flags.is_some_and(ends_flow) || (self.is_ending && !begins),
        }
    }
}

impl Flow {
    fn reversed(self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
            ..self
        }
    }
}

fn outgoing<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> Option<Flow> {
    Some(Flow {
        protocol: Protocol::of(packet.kind())?,
        local: (packet.source(), packet.source_value()?),
        remote: (packet.destination(), packet.destination_value()?),
    })
}

fn about(quoted: &Quoted) -> Option<Flow> {
    Some(Flow {
        protocol: Protocol::of(quoted.kind)?,
        local: (quoted.source, quoted.source_value),
        remote: (quoted.destination, quoted.destination_value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::test_clock::an_instant;
    use wardgate_packet::{Unreachable, build, icmp_error};

    fn udp(from: &str, to: &str) -> IpPacket<Vec<u8>> {
        let packet = build::udp(from.parse().unwrap(), to.parse().unwrap(), b"x").unwrap();
        IpPacket::parse(packet).unwrap()
    }

    const OWN: &str = "100.64.0.1:4000";
    const PEER: &str = "100.64.0.9:22";

    fn flows(capacity: usize) -> FlowSet {
        FlowSet::new(SeededState::new([1, 2]), capacity)
    }

    #[test]
    fn only_answers_belong_to_a_flow_and_only_while_it_lives() {
        let now = an_instant();
        let mut flows = flows(9);
        assert!(!flows.answers(&udp(PEER, OWN), now));
        flows.open(&udp(OWN, PEER), now).unwrap();
        assert!(flows.answers(&udp(PEER, OWN), now));
        assert!(!flows.answers(&udp("100.64.0.9:23", OWN), now));
        assert!(!flows.answers(&udp(PEER, OWN), now + DATAGRAM_LIFETIME));
    }

    #[test]
    fn an_icmp_error_concerns_either_sides_packets_in_an_open_flow() {
        let now = an_instant();
        let mut flows = flows(9);
        let about = |from, to| {
            let error = icmp_error(&udp(from, to), Unreachable::Prohibited).unwrap();
            IpPacket::parse(error).unwrap().quoted().unwrap()
        };
        let (request, answer) = (about(OWN, PEER), about(PEER, OWN));
        assert!(!flows.concerns(&request, now));
        flows.open(&udp(OWN, PEER), now).unwrap();
        assert!(flows.concerns(&request, now) && flows.concerns(&answer, now));
        assert!(!flows.concerns(&about(OWN, "100.64.0.9:23"), now));
        assert!(!flows.concerns(&request, now + DATAGRAM_LIFETIME));
    }

    #[test]
    fn ended_flows_are_cleared_away() {
        let now = an_instant();
        let mut flows = flows(usize::MAX);
        for port in 1..=CLEAR_AT_LEAST as u16 {
            flows
                .open(&udp(&format!("100.64.0.1:{port}"), PEER), now)
                .unwrap();
        }
        flows
            .open(&udp("100.64.0.1:60000", PEER), now + DATAGRAM_LIFETIME)
            .unwrap();
        assert_eq!(flows.flows.len(), 1);
    }

    #[test]
    fn a_full_set_refuses_new_flows_only_and_is_searched_once_a_second() {
        let now = an_instant();
        let mut flows = flows(2);
        let from = |port: u16| udp(&format!("100.64.0.1:{port}"), PEER);
        flows.open(&from(1), now).unwrap();
        flows.open(&from(2), now + CLEAR_SPACING / 2).unwrap();
        let ended = now + DATAGRAM_LIFETIME;
        assert_eq!(flows.open(&from(3), ended - CLEAR_SPACING / 2), Err(Full));
        assert_eq!(flows.open(&from(3), ended), Err(Full));
        flows.open(&from(2), ended).unwrap();
        flows.open(&from(3), ended + CLEAR_SPACING / 2).unwrap();
    }
}
