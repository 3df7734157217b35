//! UDP sockets with segmentation and receive offload (data-plane §1.2, §7.3).
//!
//! Datagrams may be fragmented on their way: a full inner packet makes 1,340 bytes or more, and a path may carry no more
//! than 1,280 (PPPoE in a tunnel, IPv6 over anything), while the inner MTU is fixed. Over IPv4 no datagram says "don't
//! fragment", so that routers do it; over IPv6 we do, to what routers reported. Segmented sends are the exception: the
//! kernel makes no fragments of segments, so such a batch goes out datagram by datagram.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::outbox::{Batch, Outcome};
use crate::sys;

/// 10 Gbit/s for 1 ms, rounded up to a power of two.
pub const SEND_BUFFER: usize = 2 << 20;
/// 10 Gbit/s for 10 ms, rounded up to a power of two.
pub const RECEIVE_BUFFER: usize = 16 << 20;

/// Room for one received datagram, or as many as the kernel joined.
pub const DATAGRAM_ROOM: usize = 65_536;

/// How to open a socket.
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    pub address: SocketAddr,
    /// SO_MARK on everything sent, so that policy routing keeps it out of the tunnel.
    pub firewall_mark: Option<u32>,
    pub send_buffer: usize,
    pub receive_buffer: usize,
}

/// What was received into one buffer: datagrams of `stride` bytes, the last possibly shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub from: SocketAddr,
    /// The address it was sent to, with our port.
    pub local: SocketAddr,
    pub ecn: u8,
    pub len: usize,
    pub stride: usize,
}

/// What was counted on one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    pub sent_datagrams: u64,
    pub sent_bytes: u64,
    /// Datagrams that the kernel refused.
    pub send_errors: u64,
    /// Datagrams for which the receive buffer had no room.
    pub receive_drops: u64,
}

impl UdpCounters {
    pub fn add(&mut self, other: UdpCounters) {
        self.sent_datagrams += other.sent_datagrams;
        self.sent_bytes += other.sent_bytes;
        self.send_errors += other.send_errors;
        self.receive_drops += other.receive_drops;
    }
}

/// One non-blocking UDP socket of one family.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    state: UdpSocketState,
    local: SocketAddr,
    blocked: bool,
    /// The kernel or the network card has refused segmentation.
    segmentation_refused: bool,
    counters: UdpCounters,
}

impl UdpSocket {
    /// Open and bind. Warnings about capped buffers are appended to `warnings`, each at most once.
    ///
    /// # Errors
    /// What the kernel says; failing to set the mark is an error, since traffic would loop.
    pub fn open(options: &UdpOptions, warnings: &mut Vec<String>) -> io::Result<Self> {
        let domain = Domain::for_address(options.address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if options.address.is_ipv6() {
            socket.set_only_v6(true)?;
            // Temporary addresses vanish under established paths.
            // A kernel without the option picks addresses as it likes.
            let _ = sys::set_socket_option(
                &socket,
                libc::IPPROTO_IPV6,
                IPV6_ADDR_PREFERENCES,
                IPV6_PREFER_SRC_PUBLIC,
            );
        }
        if let Some(mark) = options.firewall_mark {
            socket.set_mark(mark)?;
        }
        for buffer in [
            KernelBuffer::send(options.send_buffer),
            KernelBuffer::receive(options.receive_buffer),
        ] {
            if let Some(warning) = buffer.apply(&socket)
                && !warnings.contains(&warning)
            {
                warnings.push(warning);
            }
        }
        socket.bind(&options.address.into())?;
        let state = new_state(&socket)?;
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            socket,
            state,
            local,
            blocked: false,
            segmentation_refused: false,
            counters: UdpCounters::default(),
        })
    }

    /// The bound address; the IP is unspecified for a wildcard.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What was counted so far; asks the kernel for its share.
    pub fn counters(&self) -> UdpCounters {
        UdpCounters {
            receive_drops: sys::receive_drops(&self.socket).unwrap_or(0),
            ..self.counters
        }
    }

    /// The last send would have blocked, and [`UdpSocket::unblock`] was not called since.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Receive into as many `buffers` of [`DATAGRAM_ROOM`] bytes as there is traffic for; the answer is written to `received`,
    /// one entry a buffer in order.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); MAX_BUFFERS];
        let room = buffers.len().min(MAX_BUFFERS);
        let count = self.state.recv(
            UdpSockRef::from(&self.socket),
            &mut buffers[..room],
            &mut metas[..room],
        )?;
        received.extend(metas[..count].iter().map(|meta| Received {
            from: meta.addr,
            local: SocketAddr::new(meta.dst_ip.unwrap_or(self.local.ip()), self.local.port()),
            ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
            len: meta.len,
            stride: meta.stride.max(1),
        }));
        Ok(())
    }

    /// Send one batch from `source`, or from where the routing table says; segmented by the kernel where it can.
    ///
    /// Every error but "would block" costs the batch: UDP may lose, and what is above retransmits.
    pub fn send(&mut self, batch: &mut Batch, source: Option<IpAddr>) -> Outcome {
        if self.blocked {
            return Outcome::Blocked;
        }
        if batch.datagrams() > 1 && !self.segmentation_refused {
            match self.transmit(batch, source, batch.contents(), Some(batch.segment_size())) {
                Ok(()) => {
                    self.count_sent(batch.datagrams(), batch.contents().len());
                    return Outcome::Done;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Outcome::Blocked;
                }
                // A segment is larger than the path takes.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return self.send_singly(batch, source);
                }
                Err(error) if may_refuse_segmentation(&error) => {
                    return self.send_after_refusal(batch, source, &error);
                }
                Err(_) => {
                    self.counters.send_errors += batch.datagrams() as u64;
                    return Outcome::Done;
                }
            }
        }
        self.send_singly(batch, source)
    }

    /// A segmented send got an error that means "no segmentation here" as well as "no such source address", and before
    /// Linux 6.13 "the path takes no segments of this size". Only when the same datagrams pass one by one, and would do so
    /// on any path, is segmentation at fault, and given up for good.
    fn send_after_refusal(
        &mut self,
        batch: &mut Batch,
        source: Option<IpAddr>,
        error: &io::Error,
    ) -> Outcome {
        // The state gives up segmentation and ECN on either error.
        if let Ok(state) = new_state(&self.socket) {
            self.state = state;
        }
        let before = self.counters;
        let outcome = self.send_singly(batch, source);
        let is_final =
            error.raw_os_error() == Some(libc::EIO) || batch.segment_size() <= FITS_ANYWHERE;
        if is_final && self.counters.sent_datagrams > before.sent_datagrams {
            self.segmentation_refused = true;
        }
        outcome
    }

    fn send_singly(&mut self, batch: &mut Batch, source: Option<IpAddr>) -> Outcome {
        loop {
            let len = batch.contents().len().min(batch.segment_size());
            match self.transmit(batch, source, &batch.contents()[..len], None) {
                Ok(()) => self.count_sent(1, len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Outcome::Blocked;
                }
                Err(error) => {
                    self.counters.send_errors += 1;
                    if may_refuse_segmentation(&error)
                        && let Ok(state) = new_state(&self.socket)
                    {
                        self.state = state;
                    }
                }
            }
            batch.advance();
            if batch.contents().is_empty() {
                return Outcome::Done;
            }
        }
    }

    fn transmit(
        &self,
        batch: &Batch,
        source: Option<IpAddr>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        self.state.try_send(
            UdpSockRef::from(&self.socket),
            &Transmit {
                destination: batch.remote,
                ecn: EcnCodepoint::from_bits(batch.ecn),
                contents,
                segment_size,
                src_ip: source.filter(|ip| !ip.is_unspecified()),
            },
        )
    }

    fn count_sent(&mut self, datagrams: usize, bytes: usize) {
        self.counters.sent_datagrams += datagrams as u64;
        self.counters.sent_bytes += bytes as u64;
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The wildcard address of a family with `port`.
pub fn wildcard(ipv6: bool, port: u16) -> SocketAddr {
    let ip = if ipv6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    SocketAddr::new(ip, port)
}

/// Most buffers of one [`UdpSocket::receive`].
pub const MAX_BUFFERS: usize = 8;

/// linux/in6.h (RFC 5014); `libc` has neither.
const IPV6_ADDR_PREFERENCES: libc::c_int = 72;
const IPV6_PREFER_SRC_PUBLIC: libc::c_int = 0x0002;

/// Largest datagram that no path refuses: the least MTU of IPv6, less the larger of the headers.
const FITS_ANYWHERE: usize = 1_280 - 48;

fn new_state(socket: &Socket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    allow_fragments(socket)?;
    // Nobody reads the receive timestamps that this turned on; each costs a look at the clock.
    sys::set_socket_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0)?;
    Ok(state)
}

/// Undo what the state has forbidden, as QUIC needs it: there no packet may be fragmented.
fn allow_fragments(socket: &Socket) -> io::Result<()> {
    let set = |level, option, value| sys::set_socket_option(socket, level, option, value);
    if socket.domain()? == Domain::IPV6 {
        // What a router reports is believed, which IPv6 bounds to 1,280 and more.
        set(
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        )?;
        set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)
    } else {
        // What a router reports is not believed: without "don't fragment" no router has anything to report.
        set(
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_OMIT,
        )
    }
}

fn may_refuse_segmentation(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

/// One of a socket's two kernel buffers.
struct KernelBuffer {
    wanted: usize,
    name: &'static str,
    sysctl: &'static str,
    force: libc::c_int,
    set: fn(&Socket, usize) -> io::Result<()>,
    get: fn(&Socket) -> io::Result<usize>,
}

impl KernelBuffer {
    fn send(wanted: usize) -> Self {
        Self {
            wanted,
            name: "send",
            sysctl: "net.core.wmem_max",
            force: libc::SO_SNDBUFFORCE,
            set: |socket, size| socket.set_send_buffer_size(size),
            get: |socket| socket.send_buffer_size(),
        }
    }

    fn receive(wanted: usize) -> Self {
        Self {
            wanted,
            name: "receive",
            sysctl: "net.core.rmem_max",
            force: libc::SO_RCVBUFFORCE,
            set: |socket, size| socket.set_recv_buffer_size(size),
            get: |socket| socket.recv_buffer_size(),
        }
    }

    /// Size the buffer, past the system's limit where we may; the answer is a warning if it came out smaller.
    fn apply(&self, socket: &Socket) -> Option<String> {
        let size = libc::c_int::try_from(self.wanted).unwrap_or(libc::c_int::MAX);
        if sys::set_socket_option(socket, libc::SOL_SOCKET, self.force, size).is_err() {
            // Without the privilege the kernel caps silently; what came of it is read back below.
            let _ = (self.set)(socket, self.wanted);
        }
        // The kernel doubles what it is asked for, to cover its own bookkeeping.
        let got = (self.get)(socket).unwrap_or(0) / 2;
        (got < self.wanted).then(|| {
            format!(
                "UDP {} buffer is {got} bytes instead of {}: bursts will be lost; raise it with `sysctl -w {}={}`",
                self.name, self.wanted, self.sysctl, self.wanted
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use wardgate_datapath::Outbox as _;

    use super::*;
    use crate::outbox::GsoOutbox;
    use crate::sys::leave_network_namespace;

    #[test]
    fn a_batch_leaves_in_one_send_and_arrives_in_one_buffer() {
        let (mut sender, receiver) = (loopback(), loopback());
        let mut outbox = GsoOutbox::new();
        for mark in 0..40_u8 {
            outbox
                .reserve(Some(sender.local()), receiver.local(), 2, 1_300)
                .fill(mark);
        }
        outbox
            .reserve(Some(sender.local()), receiver.local(), 2, 7)
            .fill(40);
        outbox.flush(|batch| send(&mut sender, batch));
        assert!(outbox.is_empty());

        let (received, bytes) = receive(&receiver);
        assert_eq!(
            received,
            Received {
                from: sender.local(),
                local: receiver.local(),
                ecn: 2,
                len: 40 * 1_300 + 7,
                stride: 1_300
            }
        );
        for (mark, datagram) in bytes.chunks(1_300).enumerate() {
            assert!(datagram.iter().all(|&byte| usize::from(byte) == mark));
        }
        assert_eq!(sender.counters().sent_datagrams, 41);
    }

    #[test]
    fn datagrams_go_out_one_by_one_where_segmentation_is_refused() {
        let (mut sender, receiver) = (loopback(), loopback());
        sender.segmentation_refused = true;
        let mut outbox = GsoOutbox::new();
        outbox.reserve(None, receiver.local(), 0, 10).fill(1);
        outbox.reserve(None, receiver.local(), 0, 4).fill(2);
        outbox.flush(|batch| send(&mut sender, batch));
        let mut arrived = Vec::new();
        while arrived.len() < 14 {
            arrived.extend(receive(&receiver).1);
        }
        assert_eq!(arrived, [vec![1; 10], vec![2; 4]].concat());
        assert_eq!(sender.counters().sent_datagrams, 2);
    }

    /// A link of the smallest MTU is the path, and both kinds of send have to pass it.
    #[test]
    #[ignore = "needs root for a network namespace"]
    fn datagrams_larger_than_the_path_takes_go_out_in_fragments() {
        leave_network_namespace().unwrap();
        for command in [
            "ip link set lo up mtu 1280",
            "ip address add 192.0.2.1/32 dev lo",
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let status = std::process::Command::new(words[0])
                .args(&words[1..])
                .status();
            assert!(status.unwrap().success(), "{command}");
        }
        for address in ["192.0.2.1:0", "[::1]:0"] {
            let Ok(mut sender) = open(address.parse().unwrap()) else {
                assert!(address.starts_with('['), "IPv4 is always there");
                continue;
            };
            let receiver = open(address.parse().unwrap()).unwrap();
            let mut outbox = GsoOutbox::new();
            for mark in 0..20_u8 {
                outbox.reserve(None, receiver.local(), 0, 1_316).fill(mark);
            }
            outbox.flush(|batch| send(&mut sender, batch));
            let mut arrived = Vec::new();
            while arrived.len() < 20 * 1_316 {
                arrived.extend(receive(&receiver).1);
            }
            for (mark, datagram) in arrived.chunks(1_316).enumerate() {
                assert!(datagram.iter().all(|&byte| usize::from(byte) == mark));
            }
            let counters = sender.counters();
            assert_eq!((counters.sent_datagrams, counters.send_errors), (20, 0));
            assert!(!sender.segmentation_refused, "smaller ones go as before");
        }
    }

    #[test]
    fn a_source_address_that_is_not_ours_costs_the_batch_but_not_segmentation() {
        let (mut sender, receiver) = (loopback(), loopback());
        let foreign = "192.0.2.77:1".parse().unwrap();
        let mut outbox = GsoOutbox::new();
        for _ in 0..3 {
            outbox.reserve(Some(foreign), receiver.local(), 0, 100);
        }
        outbox.flush(|batch| send(&mut sender, batch));
        assert_eq!(sender.counters().send_errors, 3);

        for _ in 0..3 {
            outbox.reserve(None, receiver.local(), 1, 100);
        }
        outbox.flush(|batch| send(&mut sender, batch));
        let (received, _) = receive(&receiver);
        assert_eq!((received.len, received.stride, received.ecn), (300, 100, 1));
    }

    #[test]
    fn counts_what_the_receive_buffer_had_no_room_for() {
        let (mut sender, receiver) = (loopback(), loopback());
        let mut outbox = GsoOutbox::new();
        for _ in 0..1_000 {
            outbox.reserve(None, receiver.local(), 0, 1_300);
        }
        outbox.flush(|batch| send(&mut sender, batch));
        let drops = receiver.counters().receive_drops;
        assert!(drops > 0 && drops <= 1_000, "{drops}");
        assert_eq!(sender.counters().receive_drops, 0);
    }

    #[test]
    #[ignore = "needs IPv6 on the loopback interface"]
    fn ipv6_works_alike() {
        let open = || open("[::1]:0".parse().unwrap()).unwrap();
        let (mut sender, receiver) = (open(), open());
        let mut outbox = GsoOutbox::new();
        for _ in 0..3 {
            outbox.reserve(Some(sender.local()), receiver.local(), 3, 50);
        }
        outbox.flush(|batch| send(&mut sender, batch));
        let (received, _) = receive(&receiver);
        assert_eq!((received.len, received.stride, received.ecn), (150, 50, 3));
        assert_eq!(received.local, receiver.local());
    }

    #[test]
    fn warns_of_a_capped_buffer_and_names_the_setting() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let buffer = KernelBuffer {
            // An option that does not exist: as without the privilege.
            force: -1,
            ..KernelBuffer::receive(1 << 30)
        };
        let warning = buffer.apply(&socket).unwrap();
        assert!(
            warning.contains("sysctl -w net.core.rmem_max=1073741824"),
            "{warning}"
        );
        assert_eq!(KernelBuffer::receive(4_096).apply(&socket), None);
    }

    fn send(socket: &mut UdpSocket, batch: &mut Batch) -> Outcome {
        let source = batch.local.map(|local| local.ip());
        socket.send(batch, source)
    }

    fn loopback() -> UdpSocket {
        open("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn open(address: SocketAddr) -> io::Result<UdpSocket> {
        let options = UdpOptions {
            address,
            firewall_mark: None,
            send_buffer: 1 << 16,
            receive_buffer: 1 << 16,
        };
        UdpSocket::open(&options, &mut Vec::new())
    }

    #[expect(clippy::disallowed_methods, reason = "a deadline of the test itself")]
    fn receive(socket: &UdpSocket) -> (Received, Vec<u8>) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut buffer = vec![0; DATAGRAM_ROOM];
        let mut received = Vec::new();
        loop {
            match socket.receive(&mut [IoSliceMut::new(&mut buffer)], &mut received) {
                Ok(()) => {
                    buffer.truncate(received[0].len);
                    return (received[0], buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "nothing arrived");
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
