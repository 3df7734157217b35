//! Control packets between the two ends of a tunnel (data-plane §4.8).
//!
//! ```text
//! IPv6 header   payload length 8 + n, next header 255, hop limit 0, source and destination ::
//! byte 0        event
//! bytes 1–7     zero, ignored on receipt
//! n bytes       JSON, may be empty
//! ```

use crate::ip_packet::MAX_INNER_PACKET;

/// Largest body in bytes: the MTU without IPv6 header and the 8 bytes of the event.
pub const MAX_CONTROL_BODY: usize = MAX_INNER_PACKET - IPV6_HEADER - EVENT_HEADER;

const IPV6_HEADER: usize = 40;
const EVENT_HEADER: usize = 8;
/// "Reserved" in the IANA registry, so no host's traffic carries it.
const NEXT_HEADER: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// Client to gateway: proxy addresses that stand for a name.
    AssignedIps,
    /// Gateway to client: whether the name can be reached.
    DomainStatus,
    /// Either end: the sender has forgotten this tunnel.
    Goodbye,
    /// Not known here; ignored.
    Unknown(u8),
}

/// A control packet, borrowed from the inner packet that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket<'a> {
    pub event: ControlEvent,
    pub body: &'a [u8],
}

/// The body does not fit into one inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("control body of {0} bytes exceeds {MAX_CONTROL_BODY}")]
pub struct ControlTooLarge(pub usize);

impl<'a> ControlPacket<'a> {
    /// Recognise a control packet; `None` for every other packet.
    pub fn parse(packet: &'a [u8]) -> Option<ControlPacket<'a>> {
        if !Self::is_control(packet) {
            return None;
        }
        let payload = &packet[IPV6_HEADER..];
        let declared = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        if payload.len() < EVENT_HEADER || declared != payload.len() {
            return None;
        }
        let event = match payload[0] {
            0 => ControlEvent::AssignedIps,
            1 => ControlEvent::DomainStatus,
            2 => ControlEvent::Goodbye,
            other => ControlEvent::Unknown(other),
        };
        Some(ControlPacket {
            event,
            body: &payload[EVENT_HEADER..],
        })
    }

    /// Whether the addresses and next header are those of a control packet, however malformed the rest may be.
    pub fn is_control(packet: &[u8]) -> bool {
        packet.len() >= IPV6_HEADER
            && packet[0] >> 4 == 6
            && packet[6] == NEXT_HEADER
            && packet[8..IPV6_HEADER].iter().all(|byte| *byte == 0)
    }

    /// Write the whole inner packet.
    pub fn encode(&self) -> Result<Vec<u8>, ControlTooLarge> {
        if self.body.len() > MAX_CONTROL_BODY {
            return Err(ControlTooLarge(self.body.len()));
        }
        let mut packet = vec![0u8; IPV6_HEADER + EVENT_HEADER];
        packet[0] = 6 << 4;
        let payload_length = (EVENT_HEADER + self.body.len()) as u16;
        packet[4..6].copy_from_slice(&payload_length.to_be_bytes());
        packet[6] = NEXT_HEADER;
        packet[IPV6_HEADER] = self.event.code();
        packet.extend_from_slice(self.body);
        Ok(packet)
    }
}

impl ControlEvent {
    fn code(self) -> u8 {
        match self {
            ControlEvent::AssignedIps => 0,
            ControlEvent::DomainStatus => 1,
            ControlEvent::Goodbye => 2,
            ControlEvent::Unknown(code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpPacket;

    #[test]
    fn what_is_encoded_is_parsed_again_and_is_an_acceptable_inner_packet() {
        let control = ControlPacket {
            event: ControlEvent::DomainStatus,
            body: br#"{"status":"Active"}"#,
        };
        let packet = control.encode().unwrap();
        assert_eq!(ControlPacket::parse(&packet), Some(control));
        assert_eq!(IpPacket::parse_inner(&packet[..]).unwrap().protocol(), 255);
    }

    #[test]
    fn goodbye_is_these_forty_eight_bytes() {
        let mut expected = [0u8; 48];
        (expected[0], expected[5], expected[6], expected[40]) = (0x60, 8, 255, 2);
        let goodbye = ControlPacket {
            event: ControlEvent::Goodbye,
            body: b"",
        };
        assert_eq!(goodbye.encode().unwrap(), expected);
    }

    #[test]
    fn a_payload_shorter_than_eight_bytes_is_ignored() {
        let mut packet = ControlPacket {
            event: ControlEvent::Goodbye,
            body: b"",
        }
        .encode()
        .unwrap();
        packet.pop();
        packet[5] = 7;
        assert!(ControlPacket::is_control(&packet));
        assert_eq!(ControlPacket::parse(&packet), None);
    }

    #[test]
    fn a_packet_with_an_address_is_no_control_packet() {
        let mut packet = ControlPacket {
            event: ControlEvent::Goodbye,
            body: b"",
        }
        .encode()
        .unwrap();
        packet[39] = 1;
        assert_eq!(ControlPacket::parse(&packet), None);
    }

    #[test]
    fn a_body_that_exceeds_the_mtu_is_refused() {
        let body = vec![b' '; MAX_CONTROL_BODY + 1];
        let largest = ControlPacket {
            event: ControlEvent::AssignedIps,
            body: &body[1..],
        };
        assert_eq!(largest.encode().unwrap().len(), MAX_INNER_PACKET);
        let larger = ControlPacket {
            event: ControlEvent::AssignedIps,
            body: &body,
        };
        assert_eq!(larger.encode(), Err(ControlTooLarge(body.len())));
    }
}
