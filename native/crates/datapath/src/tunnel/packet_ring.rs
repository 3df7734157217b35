//! Packets that wait for something: a bounded ring that forgets the oldest (data-plane §4.3).

use std::collections::VecDeque;

use wardgate_packet::IpPacket;

#[derive(Clone, Debug)]
pub struct PacketRing {
    packets: VecDeque<Vec<u8>>,
    capacity: usize,
}

impl PacketRing {
    pub fn new(capacity: usize) -> Self {
        Self {
            packets: VecDeque::new(),
            capacity,
        }
    }

    /// Keep `packet` unless an identical one waits. A retransmitted TCP SYN takes the place of the first one, because
    /// only its timestamps differ and the peer would answer both. Returns how many packets were lost (0 or 1).
    pub fn push(&mut self, packet: &[u8]) -> usize {
        if self.packets.iter().any(|waiting| waiting == packet) {
            return 0;
        }
        if let Some(flow) = syn_flow(packet)
            && let Some(waiting) = self
                .packets
                .iter_mut()
                .find(|waiting| syn_flow(waiting).as_ref() == Some(&flow))
        {
            packet.clone_into(waiting);
            return 0;
        }
        let lost = usize::from(self.packets.len() >= self.capacity);
        if lost > 0 {
            self.packets.pop_front();
        }
        self.packets.push_back(packet.to_vec());
        lost
    }

    pub fn drain(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.packets)
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }
}

/// The flow and sequence number that the SYN in `packet` opens; `None` for every other packet.
fn syn_flow(
    packet: &[u8],
) -> Option<(std::net::IpAddr, std::net::IpAddr, Option<u16>, Option<u16>)> {
    let packet = IpPacket::parse(packet).ok()?;
    let flags = packet.tcp_flags()?;
    (flags.syn() && !flags.ack()).then(|| {
        (
            packet.source(),
            packet.destination(),
            packet.source_value(),
            packet.destination_value(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wardgate_packet::build;

    fn udp(payload: &[u8]) -> Vec<u8> {
        let source = "100.64.0.1:4000".parse().unwrap();
        build::udp(source, "10.0.0.1:53".parse().unwrap(), payload).unwrap()
    }

    #[test]
    fn identical_packets_wait_once() {
        let mut ring = PacketRing::new(4);
        ring.push(&udp(b"one"));
        ring.push(&udp(b"one"));
        ring.push(&udp(b"two"));
        assert_eq!(ring.drain(), [udp(b"one"), udp(b"two")]);
    }

    #[test]
    fn the_oldest_packet_makes_room() {
        let mut ring = PacketRing::new(2);
        let lost: usize = [&b"1"[..], b"2", b"3"]
            .iter()
            .map(|payload| ring.push(&udp(payload)))
            .sum();
        assert_eq!(lost, 1);
        assert_eq!(ring.drain(), [udp(b"2"), udp(b"3")]);
    }

    #[test]
    fn a_repeated_syn_replaces_the_first() {
        let syn = |sequence: u32| {
            build::tcp(
                "100.64.0.1:4000".parse().unwrap(),
                "10.0.0.1:80".parse().unwrap(),
                sequence,
                0,
                0x02,
                b"",
            )
            .unwrap()
        };
        let mut ring = PacketRing::new(4);
        ring.push(&syn(1));
        ring.push(&syn(2));
        assert_eq!(ring.drain(), [syn(2)]);
    }
}
