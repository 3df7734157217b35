//! Segmentation of what a TUN device with a virtio-net header hands out, and coalescing of what it takes.
//!
//! A read is one IP packet of up to 64 KiB behind a 10-byte [`VnetHeader`]: a TCP or UDP *super-packet* whose segments are
//! still to be cut, or a packet whose checksum is still to be completed. [`TunRead`] holds it with the plan; each
//! [`Segment`] writes one finished packet straight to where it is going, which is the only copy. In the other direction
//! the [`Coalescer`] joins packets that lie decrypted in one receive buffer: it keeps ranges, rewrites the headers of each
//! first packet in place and hands out gather lists, so that payload is never copied.
//!
//! Facts of the kernel that this relies on: `hdr_len` of a read is not to be trusted, so header lengths come from
//! `csum_start` and the TCP data offset; the checksum field of a partial checksum holds the uncomplemented sum of the
//! pseudo-header; a write wants `NEEDS_CSUM`, the right IP length and IP checksum, and `hdr_len` = IP + transport header.
//! The IP and UDP lengths of a super-packet are those of the whole.
//!
//! Absent on purpose: UFO (IP fragments), tunnelled GSO, and any guess about packets that are neither TCP nor UDP.

use std::io::IoSlice;
use std::ops::Range;

use thiserror::Error;

use crate::fragment::Cut;

/// Bytes in front of every packet on a TUN device opened with `IFF_VNET_HDR` (legacy layout, native byte order).
pub const VNET_HEADER_LEN: usize = 10;
/// Largest packet that the IPv4 total length can express.
pub const MAX_SUPER_PACKET: usize = 65_535;
/// Segments that one super-packet may hold; the kernel makes at most 128 of UDP and 53 of full-sized TCP.
pub const MAX_SEGMENTS: usize = 256;
/// Packets joined into one write; the kernel takes at most 128 UDP segments (`UDP_MAX_SEGMENTS`).
pub const MAX_JOINED: usize = 128;

/// The virtio-net header of one read or write (virtio 1.2 §5.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VnetHeader {
    pub flags: u8,
    pub gso_type: u8,
    /// Bytes of all headers; a hint on read, checked on write.
    pub header_len: u16,
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// Where the transport header begins.
    pub checksum_start: u16,
    /// Where the checksum lies behind `checksum_start`.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// The checksum field holds the pseudo-header sum only.
    pub const NEEDS_CHECKSUM: u8 = 1;
    pub const GSO_NONE: u8 = 0;
    pub const GSO_TCP_V4: u8 = 1;
    pub const GSO_TCP_V6: u8 = 4;
    pub const GSO_UDP: u8 = 5;
    /// Added to the type: CWR belongs to the first segment only.
    pub const GSO_ECN: u8 = 0x80;

    pub fn parse(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_len: field(2),
            gso_size: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        }
    }

    pub fn encode(&self) -> [u8; VNET_HEADER_LEN] {
        let mut bytes = [0; VNET_HEADER_LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }
}

/// Why a read from the TUN device cannot be used; the packet is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OffloadError {
    #[error("the read is too short for a packet behind its header")]
    Truncated,
    #[error("segmentation type {0} is unknown")]
    UnknownType(u8),
    #[error("the segmentation type contradicts the packet's headers")]
    Mismatch,
    #[error("the checksum lies outside the packet")]
    ChecksumOutside,
    #[error("segment size zero, or more than {MAX_SEGMENTS} segments")]
    SegmentSize,
}

/// One read from the TUN device: a packet, and what remains to be done to it.
#[derive(Clone, Copy, Debug)]
pub struct TunRead<'a> {
    packet: &'a [u8],
    plan: Plan,
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    Finished,
    /// Complete the checksum at `start + offset` over everything from `start`.
    Checksum {
        start: usize,
        offset: usize,
    },
    Split(Split),
    /// The packet came in fragments, and goes in fragments.
    Cut(Cut),
}

#[derive(Clone, Copy, Debug)]
struct Split {
    transport: Transport,
    ipv6: bool,
    /// Length of the IP header (with extension headers).
    ip_len: usize,
    /// Length of all headers.
    header_len: usize,
    /// Payload bytes of each segment but the last.
    size: usize,
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn protocol(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    fn checksum_offset(self) -> usize {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }
}

impl<'a> TunRead<'a> {
    /// Take one read apart: [`VNET_HEADER_LEN`] bytes of header, then the packet.
    pub fn parse(read: &'a [u8]) -> Result<Self, OffloadError> {
        let (header, packet) = read
            .split_first_chunk::<VNET_HEADER_LEN>()
            .ok_or(OffloadError::Truncated)?;
        if packet.is_empty() {
            return Err(OffloadError::Truncated);
        }
        let header = VnetHeader::parse(header);
        let plan = match header.gso_type & !VnetHeader::GSO_ECN {
            VnetHeader::GSO_NONE if header.flags & VnetHeader::NEEDS_CHECKSUM == 0 => {
                Plan::Finished
            }
            VnetHeader::GSO_NONE => Plan::Checksum {
                start: usize::from(header.checksum_start),
                offset: usize::from(header.checksum_offset),
            },
            VnetHeader::GSO_TCP_V4 => {
                Plan::Split(Split::plan(&header, packet, Transport::Tcp, Some(false))?)
            }
            VnetHeader::GSO_TCP_V6 => {
                Plan::Split(Split::plan(&header, packet, Transport::Tcp, Some(true))?)
            }
            VnetHeader::GSO_UDP => Plan::Split(Split::plan(&header, packet, Transport::Udp, None)?),
            _ => return Err(OffloadError::UnknownType(header.gso_type)),
        };
        if let Plan::Checksum { start, offset } = plan
            && start + offset + 2 > packet.len()
        {
            return Err(OffloadError::ChecksumOutside);
        }
        Ok(Self { packet, plan })
    }

    /// A packet that is finished as it is.
    pub fn whole(packet: &'a [u8]) -> Self {
        Self {
            packet,
            plan: Plan::Finished,
        }
    }

    /// A whole packet that came in fragments: its segments are fragments again.
    pub fn cut(packet: &'a [u8], cut: Cut) -> Self {
        Self {
            packet,
            plan: Plan::Cut(cut),
        }
    }

    /// How the packet is cut into fragments, if it is.
    pub fn as_cut(&self) -> Option<Cut> {
        match self.plan {
            Plan::Cut(cut) => Some(cut),
            _ => None,
        }
    }

    /// The packet as read: good for addresses, ports and flags. Of a super-packet, lengths are those of the whole and the
    /// transport checksum is not one.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// How many packets [`TunRead::segments`] yields; at least 1.
    pub fn segment_count(&self) -> usize {
        match self.plan {
            Plan::Split(split) => split.count,
            Plan::Cut(cut) => cut.count(self.packet.len()),
            Plan::Finished | Plan::Checksum { .. } => 1,
        }
    }

    /// Payload bytes of the first `count` segments of a super-packet; `None` for a packet that is sent as it is.
    pub fn payload_of(&self, count: usize) -> Option<usize> {
        match self.plan {
            Plan::Split(split) => {
                Some((count * split.size).min(self.packet.len() - split.header_len))
            }
            Plan::Finished | Plan::Checksum { .. } | Plan::Cut(_) => None,
        }
    }

    /// Bytes of the largest segment, headers included.
    pub fn largest_segment(&self) -> usize {
        match self.plan {
            Plan::Split(split) => self.packet.len().min(split.header_len + split.size),
            Plan::Cut(cut) => cut.length(self.packet.len(), 0),
            Plan::Finished | Plan::Checksum { .. } => self.packet.len(),
        }
    }

    /// The packets to send, in order.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment<'a>> + use<'a> {
        let read = *self;
        (0..self.segment_count()).map(move |index| Segment { read, index })
    }
}

impl Split {
    fn plan(
        header: &VnetHeader,
        packet: &[u8],
        transport: Transport,
        ipv6: Option<bool>,
    ) -> Result<Self, OffloadError> {
        let is_ipv6 = match packet[0] >> 4 {
            4 => false,
            6 => true,
            _ => return Err(OffloadError::Mismatch),
        };
        let ip_len = usize::from(header.checksum_start);
        let fixed_len = if is_ipv6 { 40 } else { 20 };
        if packet.len() < fixed_len || ip_len < fixed_len {
            return Err(OffloadError::Truncated);
        }
        let protocol_fits = if is_ipv6 {
            ip_len > 40 || packet[6] == transport.protocol()
        } else {
            ip_len == usize::from(packet[0] & 0x0f) * 4 && packet[9] == transport.protocol()
        };
        if ipv6.is_some_and(|wanted| wanted != is_ipv6)
            || !protocol_fits
            || header.flags & VnetHeader::NEEDS_CHECKSUM == 0
            || usize::from(header.checksum_offset) != transport.checksum_offset()
        {
            return Err(OffloadError::Mismatch);
        }
        let transport_len = match transport {
            Transport::Tcp => {
                usize::from(*packet.get(ip_len + 12).ok_or(OffloadError::Truncated)? >> 4) * 4
            }
            Transport::Udp => 8,
        };
        let header_len = ip_len + transport_len;
        if transport == Transport::Tcp && transport_len < 20 {
            return Err(OffloadError::Mismatch);
        }
        if header_len > packet.len() || packet.len() > MAX_SUPER_PACKET {
            return Err(OffloadError::Truncated);
        }
        let size = usize::from(header.gso_size);
        let payload = packet.len() - header_len;
        if size == 0 || payload.div_ceil(size) > MAX_SEGMENTS {
            return Err(OffloadError::SegmentSize);
        }
        Ok(Self {
            transport,
            ipv6: is_ipv6,
            ip_len,
            header_len,
            size,
            count: payload.div_ceil(size).max(1),
        })
    }

    fn payload(&self, packet_len: usize, index: usize) -> Range<usize> {
        let start = self.header_len + index * self.size;
        start..packet_len.min(start + self.size)
    }
}

/// One packet to be written out of a [`TunRead`].
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    read: TunRead<'a>,
    index: usize,
}

impl Segment<'_> {
    /// Bytes of the finished packet.
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        match &self.read.plan {
            Plan::Finished | Plan::Checksum { .. } => self.read.packet.len(),
            Plan::Split(split) => {
                split.header_len + split.payload(self.read.packet.len(), self.index).len()
            }
            Plan::Cut(cut) => cut.length(self.read.packet.len(), self.index),
        }
    }

    /// Write the finished packet with all lengths and checksums right.
    ///
    /// # Panics
    /// If `out` is not exactly [`Segment::len`] bytes long.
    pub fn write_into(&self, out: &mut [u8]) {
        let packet = self.read.packet;
        match &self.read.plan {
            Plan::Finished => out.copy_from_slice(packet),
            Plan::Checksum { start, offset } => {
                out.copy_from_slice(packet);
                let sum = finish(sum(&out[*start..]));
                // Zero would mean "no checksum" to UDP; both spellings are the same number to everybody else.
                let sum = if sum == 0 { 0xffff } else { sum };
                store(out, start + offset, sum);
            }
            Plan::Split(split) => split.write_segment(packet, self.index, out),
            Plan::Cut(cut) => cut.write(packet, self.index, out),
        }
    }
}

impl Split {
    fn write_segment(&self, packet: &[u8], index: usize, out: &mut [u8]) {
        let payload = self.payload(packet.len(), index);
        let (headers, body) = out.split_at_mut(self.header_len);
        headers.copy_from_slice(&packet[..self.header_len]);
        body.copy_from_slice(&packet[payload]);

        set_ip_length(headers, self.ipv6, self.header_len + body.len());
        if !self.ipv6 {
            let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index as u16);
            headers[4..6].copy_from_slice(&id.to_be_bytes());
            set_ip_checksum(headers, self.ip_len);
        }

        let transport_len = self.header_len - self.ip_len + body.len();
        let transport = &mut headers[self.ip_len..];
        match self.transport {
            Transport::Tcp => {
                let sequence =
                    u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]])
                        .wrapping_add((index * self.size) as u32);
                transport[4..8].copy_from_slice(&sequence.to_be_bytes());
                if index > 0 {
                    transport[TCP_FLAGS] &= !TCP_CWR;
                }
                if index + 1 < self.count {
                    transport[TCP_FLAGS] &= !(TCP_FIN | TCP_PSH);
                }
            }
            Transport::Udp => {
                transport[4..6].copy_from_slice(&(transport_len as u16).to_be_bytes());
            }
        }
        let at = self.ip_len + self.transport.checksum_offset();
        store(headers, at, 0);
        let total = pseudo_sum(headers, self.ipv6, self.transport.protocol(), transport_len)
            + sum(&headers[self.ip_len..])
            + sum(body);
        let checksum = match finish(total) {
            0 if self.transport == Transport::Udp => 0xffff,
            other => other,
        };
        store(headers, at, checksum);
    }
}

const TCP_FLAGS: usize = 13;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_ACK: u8 = 0x10;
const TCP_CWR: u8 = 0x80;

/// Which joins the TUN device accepts (what `TUNSETOFFLOAD` admitted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joins {
    pub tcp: bool,
    pub udp: bool,
}

/// Joins packets of one receive buffer into as few writes as possible (data-plane §7.4).
///
/// The rules are those of the kernel's GRO: headers equal in all but lengths, ids, sequence, checksums and PSH; no IP options
/// or extension headers; TCP flags ACK or ACK|PSH and no gap in the sequence; IPv4 ids consecutive unless DF is set; payload not
/// longer than the first. A shorter one or PSH ends the run. A packet joins the newest run of its flow only, so that order
/// within a flow is kept. Checksums are verified before a join, because the kernel trusts those of joined packets.
#[derive(Debug)]
pub struct Coalescer {
    joins: Joins,
    runs: Vec<Run>,
    parts: Vec<Part>,
    owned: Vec<u8>,
    headers: Vec<[u8; VNET_HEADER_LEN]>,
    /// Newest run of the flows with this hash; `NONE` is empty.
    newest: Box<[u32; BUCKETS]>,
}

const BUCKETS: usize = 256;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Run {
    flow: Option<Flow>,
    /// The next older run in the same bucket.
    older: u32,
    source: Source,
    first: Range<usize>,
    /// What a packet must match to join; `None` once the run has ended or could never grow.
    growth: Option<Growth>,
    transport: Transport,
    ipv6: bool,
    ip_len: usize,
    header_len: usize,
    /// Payload bytes of the first packet, and of all.
    size: usize,
    payload_len: usize,
    packets: usize,
    pushed: bool,
    first_part: u32,
    last_part: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Slab,
    Owned,
}

#[derive(Debug, Clone, Copy)]
struct Growth {
    template: Template,
    next_sequence: u32,
    next_ip_id: Option<u16>,
}

#[derive(Debug, Clone)]
struct Part {
    payload: Range<usize>,
    next: u32,
}

/// One write to the TUN device.
#[derive(Debug)]
pub struct TunWrite<'a, 'b> {
    /// The virtio-net header, then the packet in pieces.
    pub slices: &'b [IoSlice<'a>],
    /// How many packets it carries.
    pub packets: usize,
}

impl Coalescer {
    pub fn new(joins: Joins) -> Self {
        Self {
            joins,
            runs: Vec::new(),
            parts: Vec::new(),
            owned: Vec::new(),
            headers: Vec::new(),
            newest: Box::new([NONE; BUCKETS]),
        }
    }

    /// Change what may be joined from the next packet on.
    pub fn set_joins(&mut self, joins: Joins) {
        self.joins = joins;
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Queue the packet that lies at `at` of the buffer that [`Coalescer::flush`] will be given. Its bytes must not change
    /// until then. An empty packet is ignored.
    pub fn push(&mut self, packet: &[u8], at: usize) {
        if packet.is_empty() {
            return;
        }
        let range = at..at + packet.len();
        let Some(parsed) = Parsed::parse(packet) else {
            self.append_run(Run::alone(Source::Slab, range, None));
            return;
        };
        if !parsed.is_joinable(packet, self.joins) {
            self.append_run(Run::alone(Source::Slab, range, Some(parsed.flow)));
            return;
        }
        let template = parsed.template(packet);
        if !self.join(packet, &parsed, &template, &range) {
            self.append_run(Run::growing(packet, &parsed, template, range));
        }
    }

    /// Queue a packet that lies elsewhere; it is copied and never joined.
    pub fn push_owned(&mut self, packet: &[u8]) {
        if packet.is_empty() {
            return;
        }
        let at = self.owned.len();
        self.owned.extend_from_slice(packet);
        let flow = Parsed::parse(packet).map(|parsed| parsed.flow);
        self.append_run(Run::alone(Source::Owned, at..at + packet.len(), flow));
    }

    /// Rewrite the headers of each run's first packet in `buffer` and call `write` for each run in order. The queue is
    /// empty afterwards.
    pub fn flush(&mut self, buffer: &mut [u8], mut write: impl FnMut(TunWrite<'_, '_>)) {
        for run in &self.runs {
            if run.packets > 1 {
                run.rewrite_headers(&mut buffer[run.first.clone()]);
            }
            self.headers.push(run.vnet_header().encode());
        }
        let mut slices = Vec::with_capacity(MAX_JOINED + 2);
        for (run, header) in self.runs.iter().zip(&self.headers) {
            let memory = match run.source {
                Source::Slab => &*buffer,
                Source::Owned => &self.owned,
            };
            slices.clear();
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&memory[run.first.clone()]));
            let mut at = run.first_part;
            while at != NONE {
                let part = &self.parts[at as usize];
                slices.push(IoSlice::new(&memory[part.payload.clone()]));
                at = part.next;
            }
            write(TunWrite {
                slices: &slices,
                packets: run.packets,
            });
        }
        for run in self.runs.drain(..) {
            if let Some(flow) = run.flow {
                self.newest[flow.bucket()] = NONE;
            }
        }
        self.parts.clear();
        self.owned.clear();
        self.headers.clear();
    }

    fn append_run(&mut self, mut run: Run) {
        if let Some(flow) = run.flow {
            let newest = &mut self.newest[flow.bucket()];
            run.older = *newest;
            *newest = self.runs.len() as u32;
        }
        self.runs.push(run);
    }

    /// Append the packet to the newest run of its flow, if it continues that run.
    fn join(
        &mut self,
        packet: &[u8],
        parsed: &Parsed,
        template: &Template,
        range: &Range<usize>,
    ) -> bool {
        let mut at = self.newest[parsed.flow.bucket()];
        while at != NONE && self.runs[at as usize].flow != Some(parsed.flow) {
            at = self.runs[at as usize].older;
        }
        if at == NONE {
            return false;
        }
        let run = &mut self.runs[at as usize];
        if !run.is_continued_by(packet, parsed, template) {
            return false;
        }
        let part = self.parts.len() as u32;
        self.parts.push(Part {
            payload: range.start + parsed.header_len..range.end,
            next: NONE,
        });
        match run.last_part {
            NONE => run.first_part = part,
            last => self.parts[last as usize].next = part,
        }
        run.last_part = part;
        run.grow(packet, parsed);
        true
    }
}

impl Run {
    /// A run of one packet that no other may join.
    fn alone(source: Source, first: Range<usize>, flow: Option<Flow>) -> Self {
        Self {
            flow,
            older: NONE,
            source,
            first,
            growth: None,
            transport: Transport::Udp,
            ipv6: false,
            ip_len: 0,
            header_len: 0,
            size: 0,
            payload_len: 0,
            packets: 1,
            pushed: false,
            first_part: NONE,
            last_part: NONE,
        }
    }

    fn growing(packet: &[u8], parsed: &Parsed, template: Template, first: Range<usize>) -> Self {
        let pushed = parsed.pushes(packet);
        let growth = Growth {
            template,
            next_sequence: parsed.next_sequence(packet),
            next_ip_id: parsed.next_ip_id(packet),
        };
        Self {
            growth: (!pushed).then_some(growth),
            transport: parsed.transport,
            ipv6: parsed.ipv6,
            ip_len: parsed.ip_len,
            header_len: parsed.header_len,
            size: parsed.payload_len,
            payload_len: parsed.payload_len,
            pushed,
            ..Self::alone(Source::Slab, first, Some(parsed.flow))
        }
    }

    fn is_continued_by(&self, packet: &[u8], parsed: &Parsed, template: &Template) -> bool {
        let Some(growth) = &self.growth else {
            return false;
        };
        let sequence_fits =
            parsed.transport == Transport::Udp || parsed.sequence(packet) == growth.next_sequence;
        let id_fits = growth.next_ip_id.is_none_or(|id| id == ip_id(packet));
        sequence_fits
            && id_fits
            && growth.template == *template
            && parsed.payload_len <= self.size
            && self.packets < MAX_JOINED
            && self.header_len + self.payload_len + parsed.payload_len <= MAX_SUPER_PACKET
    }

    fn grow(&mut self, packet: &[u8], parsed: &Parsed) {
        self.packets += 1;
        self.payload_len += parsed.payload_len;
        self.pushed = parsed.pushes(packet);
        if self.pushed || parsed.payload_len < self.size {
            self.growth = None;
        } else if let Some(growth) = &mut self.growth {
            growth.next_sequence = parsed.next_sequence(packet);
            growth.next_ip_id = parsed.next_ip_id(packet);
        }
    }

    fn vnet_header(&self) -> VnetHeader {
        if self.packets == 1 {
            return VnetHeader::default();
        }
        VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type: match (self.transport, self.ipv6) {
                (Transport::Tcp, false) => VnetHeader::GSO_TCP_V4,
                (Transport::Tcp, true) => VnetHeader::GSO_TCP_V6,
                (Transport::Udp, _) => VnetHeader::GSO_UDP,
            },
            header_len: self.header_len as u16,
            gso_size: self.size as u16,
            checksum_start: self.ip_len as u16,
            checksum_offset: self.transport.checksum_offset() as u16,
        }
    }

    fn rewrite_headers(&self, packet: &mut [u8]) {
        set_ip_length(packet, self.ipv6, self.header_len + self.payload_len);
        if !self.ipv6 {
            set_ip_checksum(packet, self.ip_len);
        }
        let transport_len = self.header_len - self.ip_len + self.payload_len;
        match self.transport {
            Transport::Tcp if self.pushed => packet[self.ip_len + TCP_FLAGS] |= TCP_PSH,
            Transport::Tcp => {}
            Transport::Udp => packet[self.ip_len + 4..self.ip_len + 6]
                .copy_from_slice(&(transport_len as u16).to_be_bytes()),
        }
        let pseudo = pseudo_sum(packet, self.ipv6, self.transport.protocol(), transport_len);
        store(
            packet,
            self.ip_len + self.transport.checksum_offset(),
            !finish(pseudo),
        );
    }
}

/// What the coalescer reads of a TCP or UDP packet.
#[derive(Debug, Clone, Copy)]
struct Parsed {
    flow: Flow,
    transport: Transport,
    ipv6: bool,
    ip_len: usize,
    header_len: usize,
    payload_len: usize,
}

/// Five-tuple in a form that is cheap to hash and compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    addresses: [u64; 4],
    ports: u32,
    /// IP version and protocol.
    kind: u32,
}

impl Flow {
    fn bucket(&self) -> usize {
        let mut hash = u64::from(self.ports) ^ (u64::from(self.kind) << 32);
        for word in self.addresses {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash >> 56) as usize
    }
}

impl Parsed {
    /// `None`: not TCP or UDP behind a plain header, or a fragment, or cut short.
    fn parse(packet: &[u8]) -> Option<Self> {
        let (ipv6, ip_len, protocol, addresses, ip_total) = match packet.first()? >> 4 {
            4 if packet.len() >= 20 => {
                let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff;
                if fragment != 0 {
                    return None;
                }
                let ip_len = usize::from(packet[0] & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let addresses = [word(packet, 12), 0, 0, 0];
                (false, ip_len, packet[9], addresses, total)
            }
            6 if packet.len() >= 40 => {
                let total = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                let addresses = [
                    word(packet, 8),
                    word(packet, 16),
                    word(packet, 24),
                    word(packet, 32),
                ];
                (true, 40, packet[6], addresses, total)
            }
            _ => return None,
        };
        let transport = match protocol {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            _ => return None,
        };
        if ip_len < 20 || ip_total != packet.len() || packet.len() < ip_len + 8 {
            return None;
        }
        let transport_len = match transport {
            Transport::Tcp => usize::from(*packet.get(ip_len + 12)? >> 4) * 4,
            Transport::Udp => 8,
        };
        let header_len = ip_len + transport_len;
        if (transport == Transport::Tcp && transport_len < 20) || header_len > packet.len() {
            return None;
        }
        let ports = &packet[ip_len..ip_len + 4];
        Some(Self {
            flow: Flow {
                addresses,
                ports: u32::from_ne_bytes([ports[0], ports[1], ports[2], ports[3]]),
                kind: u32::from(packet[0] >> 4) << 8 | u32::from(protocol),
            },
            transport,
            ipv6,
            ip_len,
            header_len,
            payload_len: packet.len() - header_len,
        })
    }

    fn is_joinable(&self, packet: &[u8], joins: Joins) -> bool {
        let shape_fits = self.payload_len > 0 && (self.ipv6 || self.ip_len == 20);
        let transport = &packet[self.ip_len..];
        let transport_fits = match self.transport {
            Transport::Tcp => {
                let flags = transport[TCP_FLAGS] & !TCP_PSH;
                joins.tcp && flags == TCP_ACK && transport[TCP_FLAGS - 1] & 0x0f == 0
            }
            Transport::Udp => {
                let length = usize::from(u16::from_be_bytes([transport[4], transport[5]]));
                joins.udp && length == transport.len() && transport[6..8] != [0, 0]
            }
        };
        shape_fits && transport_fits && self.checksums_are_right(packet)
    }

    fn checksums_are_right(&self, packet: &[u8]) -> bool {
        let pseudo = pseudo_sum(
            packet,
            self.ipv6,
            self.transport.protocol(),
            packet.len() - self.ip_len,
        );
        (self.ipv6 || finish(sum(&packet[..self.ip_len])) == 0)
            && finish(pseudo + sum(&packet[self.ip_len..])) == 0
    }

    /// The headers without what may differ between packets of one run.
    fn template(&self, packet: &[u8]) -> Template {
        let mut template = Template {
            bytes: [0; MAX_HEADERS],
            len: self.header_len,
        };
        let bytes = &mut template.bytes[..self.header_len];
        bytes.copy_from_slice(&packet[..self.header_len]);
        if self.ipv6 {
            bytes[4..6].fill(0);
        } else {
            bytes[2..6].fill(0);
            bytes[10..12].fill(0);
        }
        let transport = &mut bytes[self.ip_len..];
        match self.transport {
            Transport::Tcp => {
                transport[4..8].fill(0);
                transport[TCP_FLAGS] &= !TCP_PSH;
                transport[16..18].fill(0);
            }
            Transport::Udp => transport[4..8].fill(0),
        }
        template
    }

    fn sequence(&self, packet: &[u8]) -> u32 {
        match self.transport {
            Transport::Tcp => {
                let at = self.ip_len + 4;
                u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
            }
            Transport::Udp => 0,
        }
    }

    fn next_sequence(&self, packet: &[u8]) -> u32 {
        self.sequence(packet).wrapping_add(self.payload_len as u32)
    }

    /// The id that the next packet must bear; none where ids mean nothing (RFC 6864 §4.1).
    fn next_ip_id(&self, packet: &[u8]) -> Option<u16> {
        let may_fragment = !self.ipv6 && packet[6] & 0x40 == 0;
        may_fragment.then(|| ip_id(packet).wrapping_add(1))
    }

    fn pushes(&self, packet: &[u8]) -> bool {
        self.transport == Transport::Tcp && packet[self.ip_len + TCP_FLAGS] & TCP_PSH != 0
    }
}

/// IPv6 header and the longest TCP header.
const MAX_HEADERS: usize = 40 + 60;

#[derive(Debug, Clone, Copy)]
struct Template {
    bytes: [u8; MAX_HEADERS],
    len: usize,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.bytes[..self.len] == other.bytes[..other.len]
    }
}

fn ip_id(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

fn set_ip_length(packet: &mut [u8], ipv6: bool, total: usize) {
    if ipv6 {
        packet[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
    } else {
        packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    }
}

fn set_ip_checksum(packet: &mut [u8], ip_len: usize) {
    store(packet, 10, 0);
    let checksum = finish(sum(&packet[..ip_len]));
    store(packet, 10, checksum);
}

/// Sums are kept in native byte order: the ones' complement sum does not care (RFC 1071 §2), and nothing is swapped.
fn pseudo_sum(packet: &[u8], ipv6: bool, protocol: u8, transport_len: usize) -> u64 {
    let addresses = if ipv6 {
        &packet[8..40]
    } else {
        &packet[12..20]
    };
    sum(addresses)
        + u64::from(u16::from(protocol).to_be())
        + u64::from((transport_len as u16).to_be())
}

/// Ones' complement sum, unfolded; an odd last byte is padded with zero. At most 2^32 words, so that nothing overflows.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0_u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (pairs, odd) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [last] = odd {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// Fold and complement; the result is stored as it is ([`store`]).
fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn store(packet: &mut [u8], at: usize, checksum: u16) {
    packet[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
}

#[cfg(test)]
mod tests;
