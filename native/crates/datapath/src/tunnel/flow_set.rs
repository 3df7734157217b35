//! Flows that we opened towards another client: what it may answer (data-plane §4.10).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use wardgate_packet::{IpPacket, Quoted};

use super::nat_table::Protocol;

/// Time since the last packet, either direction (data-plane §9.3).
const TCP_LIFETIME: Duration = Duration::from_secs(7440);
const DATAGRAM_LIFETIME: Duration = Duration::from_secs(120);
/// Flows before the first clearing; ours.
const CLEAR_AT_LEAST: usize = 1024;

#[derive(Debug, Default)]
pub struct FlowSet {
    last_packet_at: FxHashMap<Flow, Instant>,
    /// Over this many flows, the ended ones are cleared away.
    clear_above: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    protocol: Protocol,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

impl FlowSet {
    /// A packet of ours opens its flow, or keeps it open.
    pub fn open<B: AsRef<[u8]>>(&mut self, packet: &IpPacket<B>, now: Instant) {
        let Some(flow) = outgoing(packet) else {
            return;
        };
        self.last_packet_at.insert(flow, now);
        if self.last_packet_at.len() > self.clear_above.max(CLEAR_AT_LEAST) {
            self.last_packet_at
                .retain(|flow, last| now.saturating_duration_since(*last) < flow.lifetime());
            self.clear_above = self.last_packet_at.len() * 2;
        }
    }

    /// Whether a packet of the peer belongs to an open flow; it keeps it open.
    pub fn admits<B: AsRef<[u8]>>(&mut self, packet: &IpPacket<B>, now: Instant) -> bool {
        let flow = match packet.quoted() {
            Some(quoted) => about(&quoted),
            None => outgoing(packet).map(Flow::reversed),
        };
        let Some(flow) = flow else {
            return false;
        };
        match self.last_packet_at.get_mut(&flow) {
            Some(last) if now.saturating_duration_since(*last) < flow.lifetime() => {
                *last = now;
                true
            }
            _ => false,
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

    fn lifetime(&self) -> Duration {
        match self.protocol {
            Protocol::Tcp => TCP_LIFETIME,
            Protocol::Udp | Protocol::Icmp => DATAGRAM_LIFETIME,
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

    #[test]
    fn only_answers_are_admitted_and_only_while_the_flow_lives() {
        let now = an_instant();
        let mut flows = FlowSet::default();
        assert!(!flows.admits(&udp(PEER, OWN), now));
        flows.open(&udp(OWN, PEER), now);
        assert!(flows.admits(&udp(PEER, OWN), now));
        assert!(!flows.admits(&udp("100.64.0.9:23", OWN), now));
        assert!(!flows.admits(&udp(PEER, OWN), now + DATAGRAM_LIFETIME));
    }

    #[test]
    fn an_icmp_error_is_admitted_about_our_own_flow_only() {
        let now = an_instant();
        let mut flows = FlowSet::default();
        let request = udp(OWN, PEER);
        let error = icmp_error(&request, Unreachable::Prohibited).unwrap();
        let error = IpPacket::parse(error).unwrap();
        assert!(!flows.admits(&error, now));
        flows.open(&request, now);
        assert!(flows.admits(&error, now));
    }

    #[test]
    fn ended_flows_are_cleared_away() {
        let now = an_instant();
        let mut flows = FlowSet::default();
        for port in 1..=CLEAR_AT_LEAST as u16 {
            flows.open(&udp(&format!("100.64.0.1:{port}"), PEER), now);
        }
        flows.open(&udp("100.64.0.1:60000", PEER), now + DATAGRAM_LIFETIME);
        assert_eq!(flows.last_packet_at.len(), 1);
    }
}
