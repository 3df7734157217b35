use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BOTH: Joins = Joins {
    tcp: true,
    udp: true,
};

#[test]
fn cuts_a_tcp_super_packet_into_finished_segments() {
    let stream = Stream {
        payload: (0..2_500).map(|byte| byte as u8).collect(),
        flags: TCP_ACK | TCP_PSH | TCP_FIN | TCP_CWR,
        size: 1_000,
        ..Stream::default()
    };
    let segments = stream.segments();
    assert_eq!(
        segments.iter().map(Vec::len).collect::<Vec<_>>(),
        [1_040, 1_040, 540]
    );
    let flags: Vec<u8> = segments
        .iter()
        .map(|segment| segment[20 + TCP_FLAGS])
        .collect();
    assert_eq!(
        flags,
        [TCP_ACK | TCP_CWR, TCP_ACK, TCP_ACK | TCP_PSH | TCP_FIN],
        "CWR on the first only, PSH and FIN on the last only"
    );
    let ids: Vec<u16> = segments.iter().map(|segment| ip_id(segment)).collect();
    assert_eq!(ids, [stream.ip_id, stream.ip_id + 1, stream.ip_id + 2]);
    for segment in &segments {
        assert_valid(segment);
    }
}

#[test]
fn completes_the_checksum_of_a_packet_that_is_not_segmented() {
    let stream = Stream {
        udp: true,
        payload: b"datagram".to_vec(),
        ..Stream::default()
    };
    let mut read = stream.super_read();
    read[1] = VnetHeader::GSO_NONE;
    let read = TunRead::parse(&read).unwrap();
    assert_eq!(read.segment_count(), 1);
    assert_valid(&written(&read)[0]);
}

#[test]
fn spells_a_udp_checksum_of_zero_as_all_ones() {
    // The payload is chosen so that the sum comes out as zero, which in UDP means "none".
    let base = Stream {
        udp: true,
        payload: vec![0, 0],
        ..Stream::default()
    };
    let plain = &base.segments()[0];
    let complement = [plain[26], plain[27]];
    let stream = Stream {
        payload: complement.to_vec(),
        ..base
    };
    assert_eq!(stream.segments()[0][26..28], [0xff, 0xff]);
}

#[test]
fn a_completed_udp_checksum_of_zero_is_spelt_as_all_ones_too() {
    let base = Stream {
        udp: true,
        payload: vec![0, 0],
        ..Stream::default()
    };
    let plain = &base.segments()[0];
    let stream = Stream {
        payload: plain[26..28].to_vec(),
        ..base
    };
    let mut read = stream.super_read();
    read[1] = VnetHeader::GSO_NONE;
    let packet = &written(&TunRead::parse(&read).unwrap())[0];
    assert_eq!(packet[26..28], [0xff, 0xff]);
}

#[test]
fn refuses_reads_whose_plan_contradicts_the_packet() {
    let stream = Stream::default();
    let good = stream.super_read();
    let parse = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut read = good.clone();
        edit(&mut read);
        TunRead::parse(&read).map(|_| ())
    };
    assert_eq!(parse(&|_| ()), Ok(()));
    assert_eq!(
        parse(&|read| read[1] = VnetHeader::GSO_TCP_V6),
        Err(OffloadError::Mismatch)
    );
    assert_eq!(
        parse(&|read| read[1] = 3),
        Err(OffloadError::UnknownType(3)),
        "UFO is not asked for"
    );
    assert_eq!(
        parse(&|read| read[0] = 0),
        Err(OffloadError::Mismatch),
        "segments without a partial checksum"
    );
    assert_eq!(
        parse(&|read| read[4..6].fill(0)),
        Err(OffloadError::SegmentSize)
    );
    assert_eq!(
        parse(&|read| read[4..6].copy_from_slice(&1_u16.to_ne_bytes())),
        Err(OffloadError::SegmentSize),
        "one byte a segment"
    );
    assert_eq!(
        parse(&|read| {
            read[1] = VnetHeader::GSO_NONE;
            read[6..8].copy_from_slice(&u16::MAX.to_ne_bytes());
        }),
        Err(OffloadError::ChecksumOutside)
    );
    assert_eq!(
        parse(&|read| read.truncate(VNET_HEADER_LEN)),
        Err(OffloadError::Truncated)
    );
}

#[test]
fn joins_a_run_into_one_write() {
    let stream = Stream {
        payload: vec![7; 10_000],
        size: 1_228,
        ..Stream::default()
    };
    let writes = coalesce(&stream.segments(), BOTH);
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].packets, 9);
    let header = VnetHeader::parse(writes[0].bytes.first_chunk().unwrap());
    assert_eq!(
        header,
        VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type: VnetHeader::GSO_TCP_V4,
            header_len: 40,
            gso_size: 1_228,
            checksum_start: 20,
            checksum_offset: 16
        }
    );
}

#[test]
fn a_shorter_packet_or_a_push_ends_the_run() {
    let mut segments = Stream {
        payload: vec![1; 3_000],
        size: 1_000,
        ..Stream::default()
    }
    .segments();
    segments[1] = with_flags(&segments[1], TCP_ACK | TCP_PSH);
    assert_eq!(packets_per_write(&segments, BOTH), [2, 1]);

    let short_in_the_middle = [
        Stream {
            payload: vec![1; 1_500],
            size: 1_000,
            ..Stream::default()
        }
        .segments(),
        Stream {
            payload: vec![1; 1_000],
            sequence: Stream::default().sequence + 1_500,
            ip_id: Stream::default().ip_id + 2,
            ..Stream::default()
        }
        .segments(),
    ]
    .concat();
    assert_eq!(packets_per_write(&short_in_the_middle, BOTH), [2, 1]);
}

#[test]
fn does_not_join_what_differs_in_a_field_that_the_receiver_sees() {
    let first = Stream {
        payload: vec![1; 100],
        ..Stream::default()
    };
    let next = |edit: &dyn Fn(&mut Stream)| {
        let mut next = Stream {
            sequence: first.sequence + 100,
            ip_id: first.ip_id + 1,
            ..first.clone()
        };
        edit(&mut next);
        packets_per_write(&[first.segments(), next.segments()].concat(), BOTH)
    };
    assert_eq!(next(&|_| ()), [2], "continues the run");
    assert_eq!(next(&|stream| stream.sequence += 1), [1, 1], "gap");
    assert_eq!(next(&|stream| stream.sequence -= 1), [1, 1], "overlap");
    assert_eq!(next(&|stream| stream.acknowledgement += 1), [1, 1]);
    assert_eq!(next(&|stream| stream.window += 1), [1, 1]);
    assert_eq!(next(&|stream| stream.ttl -= 1), [1, 1]);
    assert_eq!(next(&|stream| stream.tos = 3), [1, 1], "congestion mark");
    assert_eq!(next(&|stream| stream.dont_fragment = false), [1, 1]);
    assert_eq!(
        next(&|stream| stream.options = vec![1, 1, 1, 1]),
        [1, 1],
        "options"
    );
    assert_eq!(next(&|stream| stream.flags |= TCP_FIN), [1, 1]);
    assert_eq!(next(&|stream| stream.payload.push(0)), [1, 1], "longer");
    assert_eq!(next(&|stream| stream.payload.clear()), [1, 1], "bare ACK");
    assert_eq!(
        next(&|stream| stream.ip_id += 7),
        [2],
        "ids mean nothing under DF"
    );
}

#[test]
fn only_push_is_merged_of_all_tcp_flags() {
    let plain = Stream {
        payload: vec![1; 2_000],
        size: 1_000,
        ..Stream::default()
    }
    .segments();
    for flag in (0..8).map(|bit| 1 << bit) {
        for at in [&[0][..], &[1], &[0, 1]] {
            let mut packets = plain.clone();
            let mut expected = [TCP_ACK, TCP_ACK];
            for at in at {
                packets[*at] = with_flags(&packets[*at], TCP_ACK ^ flag);
                expected[*at] = TCP_ACK ^ flag;
            }
            let writes = coalesce(&packets, BOTH);
            let flags = |write: &Written| write.bytes[VNET_HEADER_LEN + 20 + TCP_FLAGS];
            let came_out: Vec<u8> = writes.iter().map(flags).collect();
            if flag == TCP_PSH && at == [1] {
                assert_eq!(came_out, [TCP_ACK | TCP_PSH], "a push at the end");
            } else {
                assert_eq!(came_out, expected, "{flag:#x} on packets {at:?}");
            }
        }
    }
}

#[test]
fn ids_must_be_consecutive_where_a_router_may_fragment() {
    let first = Stream {
        dont_fragment: false,
        payload: vec![1; 100],
        ..Stream::default()
    };
    let next = |ip_id| Stream {
        sequence: first.sequence + 100,
        ip_id,
        ..first.clone()
    };
    let join = |ip_id| {
        let packets = [first.segments(), next(ip_id).segments()].concat();
        packets_per_write(&packets, BOTH)
    };
    assert_eq!(join(first.ip_id + 1), [2]);
    assert_eq!(join(first.ip_id + 2), [1, 1]);
}

#[test]
fn a_write_holds_at_most_64_kib_and_128_packets() {
    let large = Stream {
        payload: vec![1; 60 * 1_228],
        size: 1_228,
        ..Stream::default()
    };
    // Too long for one super-packet, hence cut in two.
    let (head, tail) = large.payload.split_at(30 * 1_228);
    let packets = [
        Stream {
            payload: head.to_vec(),
            ..large.clone()
        }
        .segments(),
        Stream {
            payload: tail.to_vec(),
            sequence: large.sequence + head.len() as u32,
            ..large.clone()
        }
        .segments(),
    ]
    .concat();
    assert_eq!(packets_per_write(&packets, BOTH), [53, 7]);

    let small = Stream {
        udp: true,
        payload: vec![1; 2_000],
        size: 10,
        ..Stream::default()
    };
    assert_eq!(packets_per_write(&small.segments(), BOTH), [128, 72]);
}

#[test]
fn does_not_join_a_corrupt_packet_because_the_kernel_would_trust_it() {
    let mut segments = Stream {
        payload: vec![1; 3_000],
        size: 1_000,
        ..Stream::default()
    }
    .segments();
    *segments[1].last_mut().unwrap() ^= 1;
    let writes = coalesce(&segments, BOTH);
    assert_eq!(writes.len(), 3);
    assert_eq!(writes[1].bytes[VNET_HEADER_LEN..], segments[1]);

    *segments[1].last_mut().unwrap() ^= 1;
    segments[1][11] ^= 1;
    assert_eq!(packets_per_write(&segments, BOTH), [1, 1, 1], "IP checksum");
}

#[test]
fn leaves_packets_alone_when_the_device_takes_no_joins() {
    let none = Joins {
        tcp: false,
        udp: false,
    };
    let segments = Stream {
        payload: vec![1; 3_000],
        size: 1_000,
        ..Stream::default()
    }
    .segments();
    let writes = coalesce(&segments, none);
    let packets: Vec<&[u8]> = writes
        .iter()
        .map(|write| &write.bytes[VNET_HEADER_LEN..])
        .collect();
    assert_eq!(packets, segments);
}

#[test]
fn a_generated_packet_keeps_its_place_in_its_flow() {
    let segments = Stream {
        payload: vec![1; 3_000],
        size: 1_000,
        ..Stream::default()
    }
    .segments();
    let mut coalescer = Coalescer::new(BOTH);
    let mut slab = segments[0].clone();
    let second_at = slab.len();
    slab.extend_from_slice(&segments[1]);
    coalescer.push(&segments[0], 0);
    coalescer.push_owned(&segments[2]);
    coalescer.push(&segments[1], second_at);
    let mut order = Vec::new();
    coalescer.flush(&mut slab, |write| {
        order.push(write.slices[1].to_vec());
    });
    assert_eq!(order, [&*segments[0], &*segments[2], &*segments[1]]);
}

proptest! {
    #[test]
    fn every_segment_is_a_valid_packet(stream in streams()) {
        let read = stream.super_read();
        let read = TunRead::parse(&read).unwrap();
        let segments = written(&read);
        let mut payload = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            assert_valid(segment);
            prop_assert!(segment.len() <= read.largest_segment());
            payload.extend_from_slice(&segment[stream.header_len()..]);
            if !stream.udp {
                let sequence = Parsed::parse(segment).unwrap().sequence(segment);
                let offset = (index * usize::from(stream.size)) as u32;
                prop_assert_eq!(sequence, stream.sequence.wrapping_add(offset));
            }
        }
        prop_assert_eq!(payload, stream.payload);
    }

    #[test]
    fn coalescing_undoes_segmentation(stream in streams()) {
        let segments = stream.segments();
        prop_assume!(segments.len() <= MAX_JOINED);
        let writes = coalesce(&segments, BOTH);
        prop_assert_eq!(writes.len(), 1);
        if segments.len() > 1 {
            let mut expected = stream.super_read();
            // `header_len` is a hint that the kernel gives loosely and takes strictly.
            expected[2..4].copy_from_slice(&(stream.header_len() as u16).to_ne_bytes());
            prop_assert_eq!(&writes[0].bytes, &expected);
        } else {
            prop_assert_eq!(&writes[0].bytes[VNET_HEADER_LEN..], &segments[0][..]);
        }
    }

    #[test]
    fn mixed_flows_come_out_complete_and_in_order(
        streams in vec(streams(), 1..5),
        picks in vec(any::<prop::sample::Index>(), 0..200),
    ) {
        let mut queues: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(index, stream)| {
                let port = index as u16 + 1;
                let segments = Stream { source_port: port, ..stream.clone() }.segments();
                segments.into_iter().peekable()
            })
            .collect();
        let mut sent = Vec::new();
        for pick in picks {
            let queue = pick.index(queues.len());
            sent.extend(queues[queue].next());
        }
        sent.extend(queues.into_iter().flatten());

        let mut received = Vec::new();
        for write in coalesce(&sent, BOTH) {
            received.extend(written(&TunRead::parse(&write.bytes).unwrap()));
        }
        for index in 0..streams.len() {
            let of_flow = |packets: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let port = (index as u16 + 1).to_be_bytes();
                packets
                    .iter()
                    .filter(|packet| {
                        let ip_len = if packet[0] >> 4 == 6 { 40 } else { 20 };
                        packet[ip_len..ip_len + 2] == port
                    })
                    .cloned()
                    .collect()
            };
            prop_assert_eq!(of_flow(&received), of_flow(&sent));
        }
    }

    #[test]
    fn arbitrary_reads_survive(read in vec(any::<u8>(), 0..300), kind in 0_u8..6, flags in 0_u8..2) {
        let mut read = read;
        if read.len() > VNET_HEADER_LEN {
            read[0] = flags;
            read[1] = kind;
        }
        if let Ok(read) = TunRead::parse(&read) {
            for segment in written(&read) {
                prop_assert!(!segment.is_empty());
            }
        }
    }

    #[test]
    fn damaged_reads_survive(stream in streams(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut read = stream.super_read();
        let at = at.index(read.len().min(100));
        read[at] = to;
        if let Ok(read) = TunRead::parse(&read) {
            written(&read);
        }
    }

    #[test]
    fn arbitrary_packets_are_written_unchanged(packets in vec(vec(any::<u8>(), 1..90), 0..20)) {
        let writes = coalesce(&packets, BOTH);
        let out: Vec<&[u8]> = writes.iter().map(|write| &write.bytes[VNET_HEADER_LEN..]).collect();
        prop_assert_eq!(out, packets);
    }
}

/// A run of payload in one flow, as the kernel would hand it out.
#[derive(Debug, Clone)]
struct Stream {
    ipv6: bool,
    udp: bool,
    source_port: u16,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
    ip_id: u16,
    sequence: u32,
    acknowledgement: u32,
    window: u16,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
    size: u16,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            ipv6: false,
            udp: false,
            source_port: 40_000,
            tos: 0,
            ttl: 64,
            dont_fragment: true,
            ip_id: 100,
            sequence: 5_000,
            acknowledgement: 77,
            window: 501,
            flags: TCP_ACK,
            options: Vec::new(),
            payload: vec![1; 3_000],
            size: 1_000,
        }
    }
}

impl Stream {
    fn header_len(&self) -> usize {
        let ip_len = if self.ipv6 { 40 } else { 20 };
        ip_len + if self.udp { 8 } else { 20 + self.options.len() }
    }

    /// The virtio-net header and the super-packet with its partial checksum.
    fn super_read(&self) -> Vec<u8> {
        let ip_len = if self.ipv6 { 40 } else { 20 };
        let transport = if self.udp {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type: match (self.udp, self.ipv6) {
                (true, _) => VnetHeader::GSO_UDP,
                (false, false) => VnetHeader::GSO_TCP_V4,
                (false, true) => VnetHeader::GSO_TCP_V6,
            },
            header_len: 0,
            gso_size: self.size,
            checksum_start: ip_len as u16,
            checksum_offset: transport.checksum_offset() as u16,
        };
        let total = self.header_len() + self.payload.len();
        let mut packet = Vec::with_capacity(total);
        if self.ipv6 {
            packet.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 0, 0, 0]);
            packet.extend([transport.protocol(), self.ttl]);
            packet.extend((0..32).map(|byte| byte ^ 0x20));
        } else {
            let fragment = if self.dont_fragment { 0x40 } else { 0 };
            packet.extend([0x45, self.tos, 0, 0]);
            packet.extend(self.ip_id.to_be_bytes());
            packet.extend([fragment, 0, self.ttl, transport.protocol(), 0, 0]);
            packet.extend([100, 64, 0, 1, 192, 0, 2, 9]);
        }
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(443_u16.to_be_bytes());
        if self.udp {
            packet.extend(((total - ip_len) as u16).to_be_bytes());
            packet.extend([0, 0]);
        } else {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.acknowledgement.to_be_bytes());
            packet.push(((20 + self.options.len()) as u8) << 2);
            packet.push(self.flags);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0, 0, 0, 0]);
            packet.extend(&self.options);
        }
        packet.extend(&self.payload);
        set_ip_length(&mut packet, self.ipv6, total);
        if !self.ipv6 {
            set_ip_checksum(&mut packet, 20);
        }
        let pseudo = slow_sum(&pseudo_header(&packet, ip_len));
        let at = ip_len + transport.checksum_offset();
        packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        [header.encode().to_vec(), packet].concat()
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        written(&TunRead::parse(&self.super_read()).unwrap())
    }
}

fn streams() -> impl Strategy<Value = Stream> {
    let fields = (
        any::<(bool, bool, u8, bool, u16)>(),
        any::<(u32, u32, u16)>(),
        1_u8..=255,
        any::<bool>(),
        vec(any::<u32>(), 0..=10),
        300_u16..1_400,
        vec(any::<u8>(), 1..20_000),
    );
    fields.prop_map(|(ip, tcp, ttl, push, options, size, payload)| Stream {
        ipv6: ip.0,
        udp: ip.1,
        source_port: 40_000,
        tos: ip.2,
        ttl,
        dont_fragment: ip.3,
        ip_id: ip.4,
        sequence: tcp.0,
        acknowledgement: tcp.1,
        window: tcp.2,
        flags: if push { TCP_ACK | TCP_PSH } else { TCP_ACK },
        options: options.into_iter().flat_map(u32::to_be_bytes).collect(),
        payload,
        size,
    })
}

fn written(read: &TunRead<'_>) -> Vec<Vec<u8>> {
    read.segments()
        .map(|segment| {
            let mut out = vec![0xaa; segment.len()];
            segment.write_into(&mut out);
            out
        })
        .collect()
}

struct Written {
    bytes: Vec<u8>,
    packets: usize,
}

/// Lay the packets out in one buffer, push and flush them.
fn coalesce(packets: &[Vec<u8>], joins: Joins) -> Vec<Written> {
    let mut coalescer = Coalescer::new(joins);
    let mut slab = packets.concat();
    let mut at = 0;
    for packet in packets {
        coalescer.push(packet, at);
        at += packet.len();
    }
    let mut writes = Vec::new();
    coalescer.flush(&mut slab, |write| {
        let bytes = write
            .slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        writes.push(Written {
            bytes,
            packets: write.packets,
        });
    });
    assert!(coalescer.is_empty());
    writes
}

fn packets_per_write(packets: &[Vec<u8>], joins: Joins) -> Vec<usize> {
    coalesce(packets, joins)
        .iter()
        .map(|write| write.packets)
        .collect()
}

/// An IPv4 TCP packet with other flags and its checksum made right again.
fn with_flags(packet: &[u8], flags: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[20 + TCP_FLAGS] = flags;
    packet[36..38].fill(0);
    let covered = [pseudo_header(&packet, 20), packet[20..].to_vec()].concat();
    packet[36..38].copy_from_slice(&(!slow_sum(&covered)).to_be_bytes());
    packet
}

fn assert_valid(packet: &[u8]) {
    let ip_len = if packet[0] >> 4 == 6 {
        let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        assert_eq!(length + 40, packet.len());
        40
    } else {
        assert_eq!(
            usize::from(u16::from_be_bytes([packet[2], packet[3]])),
            packet.len()
        );
        assert_eq!(slow_sum(&packet[..20]), 0xffff, "IP checksum");
        20
    };
    let covered = [pseudo_header(packet, ip_len), packet[ip_len..].to_vec()].concat();
    assert_eq!(slow_sum(&covered), 0xffff, "transport checksum");
}

fn pseudo_header(packet: &[u8], ip_len: usize) -> Vec<u8> {
    let (addresses, protocol) = if ip_len == 40 {
        (&packet[8..40], packet[6])
    } else {
        (&packet[12..20], packet[9])
    };
    let length = (packet.len() - ip_len) as u16;
    [addresses, &[0, protocol], &length.to_be_bytes()].concat()
}

/// RFC 1071 as it is written, two bytes at a time.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
