//! Reads from the TUN device taken apart, and packets joined for writing to it.

use wardgate_packet::IpPacket;
use wardgate_packet::offload::{Coalescer, Joins, TunRead, VNET_HEADER_LEN};

use crate::input::Input;

/// The input is a script: `0` and a read to split, its segments then to be joined; else a packet to be joined with the others.
pub fn offload(input: &[u8]) -> bool {
    let mut script = Input::new(input);
    let mut packets = Vec::new();
    let mut understood = false;
    while let Some(step) = script.step() {
        let bytes = script.bytes();
        if step == 0 {
            understood |= split(bytes, &mut packets);
        } else if !bytes.is_empty() && bytes.len() <= usize::from(u16::MAX) {
            understood |= IpPacket::parse(bytes).is_ok();
            packets.push(bytes.to_vec());
        }
        if packets.len() > 512 {
            break;
        }
    }
    for (tcp, udp) in [(true, true), (true, false), (false, false)] {
        join(&packets, Joins { tcp, udp });
    }
    understood
}

fn split(bytes: &[u8], packets: &mut Vec<Vec<u8>>) -> bool {
    let Ok(read) = TunRead::parse(bytes) else {
        return false;
    };
    assert_eq!(read.packet(), &bytes[VNET_HEADER_LEN..]);
    assert_eq!(read.segments().len(), read.segment_count());
    for segment in read.segments() {
        assert!((1..=read.largest_segment()).contains(&segment.len()));
        let mut packet = vec![0; segment.len()];
        segment.write_into(&mut packet);
        packets.push(packet);
    }
    true
}

/// What is written holds every packet once: no byte of payload is lost or doubled.
fn join(packets: &[Vec<u8>], joins: Joins) {
    let mut coalescer = Coalescer::new(joins);
    let mut buffer = packets.concat();
    let mut at = 0;
    for packet in packets {
        coalescer.push(packet, at);
        at += packet.len();
    }
    let (mut count, mut alone) = (0, 0);
    coalescer.flush(&mut buffer, |write| {
        count += write.packets;
        let length: usize = write.slices.iter().skip(1).map(|slice| slice.len()).sum();
        assert!(length <= usize::from(u16::MAX));
        assert_eq!(write.slices[0].len(), VNET_HEADER_LEN);
        if write.packets == 1 {
            alone += 1;
            assert!(
                packets
                    .iter()
                    .any(|packet| packet[..] == write.slices[1][..])
            );
        } else {
            assert!(joins.tcp || joins.udp);
        }
    });
    assert_eq!(count, packets.len());
    assert!(joins.tcp || joins.udp || alone == packets.len());
    assert!(coalescer.is_empty());
}
