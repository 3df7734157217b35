use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use wardgate_packet::offload::Joins;

use super::*;
use crate::sys::leave_network_namespace;
use crate::udp::{UdpOptions, UdpSocket};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn datagrams_commands_and_events_pass_through_the_thread() {
    let host = start(None);
    let peer = peer_of(&host);
    peer.send(b"ping").unwrap();
    assert_eq!(receive(&peer), b"ping");
    wait_until(|| is_readable(&host));
    assert_eq!(host.drain_events(), [Happening::Datagram(4)]);
    assert!(!is_readable(&host));

    assert_eq!(host.apply(Order::Refuse), Ok(Err("refused")));
    assert_eq!(host.apply(Order::Say(7)), Ok(Ok(())));
    assert_eq!(host.drain_events(), [Happening::Said(7)]);

    let stats = host.stats().unwrap();
    assert_eq!(value(&stats, "udp_received_datagrams"), 1);
    assert_eq!(value(&stats, "udp_sent_bytes"), 4);
}

#[test]
fn timers_fire_without_traffic() {
    let host = start(None);
    let due = host.clock().now() + Duration::from_millis(20);
    assert_eq!(host.apply(Order::Wake(due)), Ok(Ok(())));
    let later = due + Duration::from_secs(3_600);
    wait_until(|| match host.drain_events()[..] {
        [Happening::Woken(at)] => {
            assert!(at >= due && at < later);
            true
        }
        _ => false,
    });
}

#[test]
fn rebinding_changes_the_port_and_traffic_goes_on() {
    let host = start(None);
    let before = host.local_port();
    host.rebind().unwrap();
    let after = host.local_port();
    assert_ne!(before, after);
    let peer = peer_of(&host);
    peer.send(b"still here").unwrap();
    assert_eq!(receive(&peer), b"still here");
    // Whoever else was given the old port by chance gives it back soon.
    wait_until(|| TunnelSockets::bind(before, None, &mut Vec::new()).is_ok());
}

#[test]
fn a_port_that_is_taken_gives_way_to_one_that_is_free() {
    let taken = TunnelSockets::open(0, None, &mut Vec::new()).unwrap();
    let other = TunnelSockets::open(taken.port(), None, &mut Vec::new()).unwrap();
    assert_ne!(other.port(), taken.port());
    assert_ne!(other.port(), 0);
}

#[test]
fn a_closed_host_answers_that_it_has_stopped() {
    let host = start(None);
    host.close();
    host.close();
    assert_eq!(host.apply(Order::Refuse), Err(NoAnswer::Stopped));
    assert!(host.rebind().is_err());
    assert!(is_readable(&host), "a listener learns of the end");
}

#[test]
fn a_thread_that_panics_is_reported() {
    let host = start(None);
    assert_eq!(host.apply(Order::Panic), Err(NoAnswer::Stopped));
    wait_until(|| is_readable(&host));
    wait_until(|| host.take_news().fault.is_some());
    assert!(host.take_news().fault.unwrap().contains("failed"));
}

#[test]
fn a_thread_that_hangs_is_reported_and_one_that_waits_is_not() {
    let host = start(None);
    assert_eq!(host.apply(Order::Say(1)), Ok(Ok(())));
    let turns = value(&host.stats().unwrap(), "io_turns");
    assert!(turns > 0);
    wait_until(|| (0..100).all(|_| host.check() == 0));
    assert_eq!(host.take_news().fault, None);

    let (release, until) = channel();
    thread::scope(|scope| {
        let hanging = scope.spawn(|| host.apply(Order::Hang(until)));
        wait_until(|| {
            host.check();
            host.take_news().fault.is_some()
        });
        assert!(host.take_news().fault.unwrap().contains("hangs"));
        assert_eq!(host.apply(Order::Say(2)), Err(NoAnswer::Hung));
        drop(release);
        assert_eq!(hanging.join().unwrap(), Ok(Ok(())));
    });
}

/// The whole way of a packet, twice: TSO split, segmented send, joined receive, joined write.
#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn a_stream_through_the_tun_device_arrives_unharmed() {
    let host = in_new_namespace();
    let listener = TcpListener::bind((OWN, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), IpAddr::V4(MIRRORED), "came through the tunnel");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    let sent: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut stream = TcpStream::connect((MIRRORED, port)).unwrap();
    stream.write_all(&sent).unwrap();
    drop(stream);
    assert!(server.join().unwrap() == sent, "the bytes differ");

    let stats = host.stats().unwrap();
    let reads = value(&stats, "tun_reads");
    let packets = value(&stats, "tun_written_packets");
    let writes = value(&stats, "tun_writes");
    assert!(reads * 4 < packets, "{reads} reads for {packets} packets");
    assert!(
        writes * 4 < packets,
        "{writes} writes for {packets} packets"
    );
    assert_eq!(value(&stats, "tun_write_dropped"), 0);
    assert_eq!(value(&stats, "tun_unusable_reads"), 0);
}

#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn datagrams_through_the_tun_device_arrive_unharmed_and_in_order() {
    let host = in_new_namespace();
    let receiver = StdUdpSocket::bind((OWN, 0)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let sender = UdpSocket::open(
        &UdpOptions {
            address: SocketAddr::new(IpAddr::V4(OWN), 0),
            firewall_mark: None,
            send_buffer: 1 << 20,
            receive_buffer: 1 << 16,
        },
        &mut Vec::new(),
    );
    let mut sender = sender.unwrap();
    let mut outbox = GsoOutbox::new();
    for number in 0..50_u32 {
        let room = outbox.reserve(None, SocketAddr::new(IpAddr::V4(MIRRORED), port), 0, 1_000);
        room[..4].copy_from_slice(&number.to_be_bytes());
    }
    outbox.flush(|batch| sender.send(batch, None));
    let mut buffer = [0; 2_000];
    for number in 0..50_u32 {
        let (len, _) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(len, 1_000);
        assert_eq!(buffer[..4], number.to_be_bytes());
    }
    let stats = host.stats().unwrap();
    assert!(
        value(&stats, "tun_reads") < 10,
        "segmentation is left to us"
    );
    assert!(value(&stats, "tun_writes") < 10, "packets are joined");
}

/// Without that, what the device hands out would be dropped beyond the outbox's limit.
#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn the_tun_device_is_not_read_while_a_socket_is_blocked() {
    const PACKETS: u64 = 20_000;
    const SIZE: usize = 1_200;
    let host = in_new_namespace_toward(SLOW);
    shell("ip link add slow0 type veth peer name slow1");
    shell("ip addr add 10.8.0.1/24 dev slow0");
    shell(&format!(
        "ip neigh add {SLOW} lladdr 02:00:00:00:00:02 dev slow0"
    ));
    shell("tc qdisc add dev slow0 root tbf rate 1mbit burst 8kb limit 100mb");
    shell("ip link set slow1 up");
    shell("ip link set slow0 up");
    shell("ip link set mirror0 txqueuelen 30000");
    let sender = StdUdpSocket::bind((OWN, 0)).unwrap();
    for _ in 0..PACKETS {
        sender.send_to(&[0; SIZE], (MIRRORED, 9)).unwrap();
    }
    assert_eq!(
        host.apply(Order::Say(1)),
        Ok(Ok(())),
        "commands are applied meanwhile"
    );
    let sent = || value(&host.stats().unwrap(), "udp_sent_datagrams");
    assert!(sent() < PACKETS, "the socket blocks");
    shell("tc qdisc change dev slow0 root tbf rate 10gbit burst 1mb limit 100mb");
    wait_until(|| sent() == PACKETS);
    assert_eq!(value(&host.stats().unwrap(), "udp_send_dropped"), 0);
    assert_eq!(value(&host.stats().unwrap(), "udp_send_errors"), 0);
}

#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn without_its_tun_device_the_thread_ends_and_says_so() {
    let host = in_new_namespace();
    assert_eq!(host.take_news().fault, None);
    shell("ip link del mirror0");
    wait_until(|| host.take_news().fault.is_some());
    let fault = host.take_news().fault.unwrap();
    assert!(fault.contains("TUN device is gone"), "{fault}");
    wait_until(|| is_readable(&host));
    assert_eq!(host.apply(Order::Say(1)), Err(NoAnswer::Stopped));
}

#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn an_interface_that_is_only_down_ends_nothing() {
    let host = in_new_namespace();
    shell("ip link set mirror0 down");
    shell("ip link set mirror0 up");
    assert_eq!(host.apply(Order::Say(1)), Ok(Ok(())));
    assert_eq!(host.take_news().fault, None);
}

#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn a_second_open_of_the_same_interface_is_refused() {
    let _host = in_new_namespace();
    let _first = Tun::open("double0").unwrap();
    let error = Tun::open("double0").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    let error = Tun::open("a-name-too-long-for-an-interface").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// Sends what the TUN device hands out to the other end, which is itself over loopback, with source and destination exchanged (which leaves
/// checksums right), and writes what arrives to the TUN device. Datagrams that are no IP packet go back.
struct Mirror {
    other_end: SocketAddr,
    events: Vec<Happening>,
    wake_at: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum Happening {
    Datagram(usize),
    Said(u32),
    Woken(Instant),
}

enum Order {
    Say(u32),
    Refuse,
    Wake(Instant),
    Panic,
    /// Be busy until the other end is dropped.
    Hang(Receiver<()>),
}

impl PacketEngine for Mirror {
    type Command = Order;
    type Refusal = &'static str;
    type Event = Happening;

    fn handle_network(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let mut at = 0;
        while at < buffer.len() {
            let end = buffer.len().min(at + received.stride);
            if buffer[at] >> 4 == 4 && end - at >= 20 {
                io.tun.push(buffer, at..end);
            } else {
                self.events.push(Happening::Datagram(end - at));
                io.out
                    .reserve(Some(received.local), received.from, 0, end - at)
                    .copy_from_slice(&buffer[at..end]);
            }
            at = end;
        }
    }

    fn handle_tun(&mut self, read: &TunRead<'_>, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        if read.packet()[0] >> 4 != 4 {
            return;
        }
        for segment in read.segments() {
            let packet = io.out.reserve(None, self.other_end, 0, segment.len());
            segment.write_into(packet);
            let (source, destination) = packet[12..20].split_at_mut(4);
            source.swap_with_slice(destination);
        }
    }

    fn apply(
        &mut self,
        command: Order,
        _io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), &'static str> {
        match command {
            Order::Say(number) => self.events.push(Happening::Said(number)),
            Order::Refuse => return Err("refused"),
            Order::Wake(at) => self.wake_at = Some(at),
            Order::Panic => panic!("as ordered by the test"),
            Order::Hang(until) => {
                let _ = until.recv();
            }
        }
        Ok(())
    }

    fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        if self.wake_at.take_if(|at| *at <= io.now).is_some() {
            self.events.push(Happening::Woken(io.now));
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.wake_at
    }

    fn poll_event(&mut self, _waiting: usize) -> Option<Happening> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    fn stats(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// What leaves for `MIRRORED` comes back to `OWN`, and seems to come from `MIRRORED`.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const MIRRORED: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// Where nobody answers, behind a link as slow as one wants.
const SLOW: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);

fn start(tun: Option<Tun>) -> Host<Mirror> {
    start_toward(tun, Ipv4Addr::LOCALHOST)
}

fn start_toward(tun: Option<Tun>, other_end: Ipv4Addr) -> Host<Mirror> {
    let mut warnings = Vec::new();
    let sockets = TunnelSockets::open(0, None, &mut warnings).unwrap();
    let mirror = Mirror {
        other_end: SocketAddr::new(IpAddr::V4(other_end), sockets.port()),
        events: Vec::new(),
        wake_at: None,
    };
    Host::start(tun, sockets, BootClock::new(), mirror, Vec::new()).unwrap()
}

/// A host with a TUN device, in a namespace that this thread alone is in.
fn in_new_namespace() -> Host<Mirror> {
    in_new_namespace_toward(Ipv4Addr::LOCALHOST)
}

fn in_new_namespace_toward(other_end: Ipv4Addr) -> Host<Mirror> {
    leave_network_namespace().unwrap();
    shell("ip link set lo up");
    let tun = Tun::open("mirror0").unwrap();
    assert_eq!(
        tun.joins(),
        Joins {
            tcp: true,
            udp: true
        }
    );
    let host = start_toward(Some(tun), other_end);
    shell("ip link set mirror0 mtu 1280 txqueuelen 10000");
    shell(&format!("ip addr add {OWN}/24 dev mirror0"));
    shell("ip link set mirror0 up");
    host
}

fn shell(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{command}");
}

fn peer_of(host: &Host<Mirror>) -> StdUdpSocket {
    let peer = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.connect((Ipv4Addr::LOCALHOST, host.local_port()))
        .unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer
}

fn receive(peer: &StdUdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_000];
    let len = peer.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

fn is_readable(host: &Host<Mirror>) -> bool {
    let poller = Poller::new().unwrap();
    poller
        .add(&host.events.readable(), 0, Interest::READABLE)
        .unwrap();
    let mut ready = Vec::new();
    poller.wait(&mut ready, false).unwrap();
    !ready.is_empty()
}

#[expect(clippy::disallowed_methods, reason = "a deadline of the test itself")]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come to pass");
        thread::yield_now();
    }
}

fn value(stats: &[(&'static str, u64)], name: &str) -> u64 {
    stats.iter().find(|(found, _)| *found == name).unwrap().1
}

#[test]
#[ignore = "needs root for a network namespace and a TUN device"]
fn a_device_that_another_process_had_open_is_taken_over_with_what_waits_in_it() {
    let _host = in_new_namespace();
    let first = Tun::open("heir0").unwrap();
    shell("ip addr add 192.0.2.1/24 dev heir0");
    shell("ip link set heir0 up");
    let shared = first.share().unwrap();
    drop(first);
    let sender = StdUdpSocket::bind("192.0.2.1:0").unwrap();
    sender.send_to(b"waits", "192.0.2.2:9").unwrap();
    let number = shared.into_raw_fd();
    let error = Tun::inherit(number, "other0").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let second = Tun::inherit(number, "heir0").unwrap();
    let mut buffer = [0; 2048];
    let found = std::iter::from_fn(|| second.read(&mut buffer).ok()).count();
    assert!(found > 0, "the datagram has waited");
    let pipe = std::io::pipe().unwrap();
    assert!(Tun::inherit(pipe.0.as_raw_fd(), "heir0").is_err());
}
