//! Our WireGuard core against `wireguard-go`, over UDP, in a network namespace: the peer's kernel talks to us through its tunnel.
//!
//! ```text
//! ping ── TUN ── wireguard-go ──── UDP, loopback ──── Gate, Tunnel ── a host that answers echo requests
//!  10.22.0.1                                                            10.22.0.2
//! ```
//!
//! Needs root, `/dev/net/tun` and the commands `wireguard-go`, `ip` and `ping`, so it is ignored unless asked for (`make test` does).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use wardgate_io::{BootClock, fill_random};
use wardgate_packet::{IpPacket, Kind, build, declared_length};
use wardgate_wireguard::{
    DATA_HEADER_SIZE, Gate, Keys, MessageKind, PresharedKey, PrivateKey, TAG_SIZE, Timers,
    TimestampClock, Tunnel, TunnelConfig, TunnelEvent, Verdict, classify,
};

const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 22, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 22, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);
const PRESHARED_KEY: [u8; 32] = [0x5a; 32];

#[test]
#[ignore = "needs root, /dev/net/tun, wireguard-go, ip and ping"]
fn packets_pass_both_ways_when_we_initiate() {
    let mut pair = Pair::start("i", Endpoint::Learned, Timers::CLASSIC);
    pair.initiate();
    pair.pump_until("a session", |pair| pair.handshakes > 0);
    for size in [1, 56, 1200] {
        pair.ping_them(size);
        pair.be_pinged(size);
    }
}

#[test]
#[ignore = "needs root, /dev/net/tun, wireguard-go, ip and ping"]
fn packets_pass_both_ways_when_wireguard_go_initiates() {
    let mut pair = Pair::start("r", Endpoint::Configured, Timers::CLASSIC);
    for size in [1, 56, 1200] {
        pair.be_pinged(size);
        pair.ping_them(size);
    }
}

#[test]
#[ignore = "needs root, /dev/net/tun, wireguard-go, ip and ping"]
fn sessions_that_we_renew_lose_no_packet() {
    let timers = Timers {
        rekey_after: Duration::from_secs(1),
        ..Timers::CLASSIC
    };
    let mut pair = Pair::start("k", Endpoint::Learned, timers);
    pair.initiate();
    pair.pump_until("a session", |pair| pair.handshakes > 0);
    let limit = pair.clock.now() + PATIENCE;
    while pair.handshakes < 4 {
        assert!(pair.clock.now() < limit, "{} sessions", pair.handshakes);
        pair.ping_them(56);
    }
    pair.be_pinged(56);
}

#[test]
#[ignore = "needs root, /dev/net/tun, wireguard-go, ip and ping"]
fn a_peer_that_starts_over_gets_a_new_session() {
    let mut pair = Pair::start("n", Endpoint::Configured, Timers::CLASSIC);
    pair.be_pinged(56);
    let before = pair.handshakes;
    // It forgets its session and keeps its keys, as after a restart.
    pair.peer.configure(&["replace_peers=true".to_owned()]);
    pair.introduce(Endpoint::Configured);
    pair.be_pinged(56);
    pair.ping_them(56);
    assert!(pair.handshakes > before);
}

#[test]
#[ignore = "needs root, /dev/net/tun, wireguard-go, ip and ping"]
fn only_the_right_preshared_key_makes_a_session() {
    let timers = Timers {
        rekey_timeout: Duration::from_millis(100),
        ..Timers::CLASSIC
    };
    let mut pair = Pair::start("p", Endpoint::Learned, timers);
    pair.tunnel.set_preshared_key(PresharedKey::new([1; 32]));
    pair.initiate();
    pair.pump_until("responses that we cannot read", |pair| pair.refused >= 2);
    assert_eq!(pair.handshakes, 0);
    pair.tunnel
        .set_preshared_key(PresharedKey::new(PRESHARED_KEY));
    pair.pump_until("a session", |pair| pair.handshakes > 0);
    pair.ping_them(56);
}

/// Whether wireguard-go is told where we are, or learns it from our initiation.
#[derive(Clone, Copy, PartialEq)]
enum Endpoint {
    Configured,
    Learned,
}

/// Our end, and wireguard-go as the other.
struct Pair {
    peer: Peer,
    socket: UdpSocket,
    clock: BootClock,
    gate: Gate,
    tunnel: Tunnel,
    own_public: [u8; 32],
    /// Where wireguard-go listens.
    remote: SocketAddr,
    /// Sessions made.
    handshakes: usize,
    /// Handshake messages that changed nothing.
    refused: usize,
    sequence: u16,
    /// Sequence numbers of the echo replies that came back.
    answered: Vec<u16>,
}

impl Pair {
    fn start(name: &str, endpoint: Endpoint, timers: Timers) -> Self {
        let peer = Peer::start(name);
        let clock = BootClock::new();
        let now = clock.now();
        let keys = Arc::new(Keys::new(PrivateKey::new(random())));
        let their_private: [u8; 32] = random();
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 51820));
        let config = TunnelConfig {
            keys: keys.clone(),
            peer: PrivateKey::new(their_private).public_key(),
            preshared_key: PresharedKey::new(PRESHARED_KEY),
            index: 1,
            timers,
            seed: random(),
            clock: TimestampClock::new(clock.zero(), clock.unix_at_zero()),
        };
        let pair = Self {
            socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            gate: Gate::new(&keys.public, random(), now),
            tunnel: Tunnel::new(config, now),
            own_public: keys.public.0,
            peer,
            clock,
            remote,
            handshakes: 0,
            refused: 0,
            sequence: 0,
            answered: Vec::new(),
        };
        let receive_timeout = Some(Duration::from_millis(10));
        pair.socket.set_read_timeout(receive_timeout).unwrap();
        pair.peer.configure(&[
            format!("private_key={}", hex(&their_private)),
            format!("listen_port={}", remote.port()),
        ]);
        pair.introduce(endpoint);
        pair
    }

    /// Tell wireguard-go of us.
    fn introduce(&self, endpoint: Endpoint) {
        let mut settings = vec![
            format!("public_key={}", hex(&self.own_public)),
            format!("preshared_key={}", hex(&PRESHARED_KEY)),
            format!("allowed_ip={OURS}/32"),
        ];
        if endpoint == Endpoint::Configured {
            let own = self.socket.local_addr().unwrap();
            settings.push(format!("endpoint={own}"));
        }
        self.peer.configure(&settings);
    }

    fn initiate(&mut self) {
        self.tunnel.initiate(self.clock.now());
    }

    /// Send an echo request through the tunnel and have it answered by wireguard-go's kernel.
    fn ping_them(&mut self, size: usize) {
        self.sequence += 1;
        let sequence = self.sequence;
        let payload = vec![0x2a; size];
        let (from, to) = (IpAddr::V4(OURS), IpAddr::V4(THEIRS));
        self.send(&build::icmp_echo(from, to, false, 7, sequence, &payload).unwrap());
        self.pump_until("an echo reply", |pair| pair.answered.contains(&sequence));
    }

    /// Let wireguard-go's kernel send an echo request through the tunnel, and answer it.
    fn be_pinged(&mut self, size: usize) {
        let mut ping = Command::new("ping")
            .args(["-c", "1", "-W", "15", "-s", &size.to_string()])
            .arg(OURS.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut status = None;
        self.pump_until("the end of ping", |_| {
            status = ping.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{size} bytes: no answer");
    }

    /// Do what arrives and what is due, until `done`.
    fn pump_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.clock.now() + PATIENCE;
        let mut buffer = [0; 2048];
        self.settle();
        while !done(self) {
            assert!(self.clock.now() < limit, "waited in vain for {what}");
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.receive(&mut buffer[..length], from),
                // Nothing came, or the process was stopped for a moment (signal(7)).
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("{error:?}"),
            }
            let now = self.clock.now();
            if self.tunnel.poll_timeout().is_some_and(|at| at <= now) {
                self.tunnel.handle_timeout(now);
            }
            self.settle();
        }
    }

    fn receive(&mut self, message: &mut [u8], from: SocketAddr) {
        assert_eq!(from, self.remote);
        let now = self.clock.now();
        if classify(message) == Some(MessageKind::Data) {
            let plaintext = self.tunnel.open(message, now).unwrap();
            // It pads to 16 bytes; the packet says how long it is.
            if let Some(length) = declared_length(plaintext) {
                let packet = plaintext[..length].to_vec();
                self.receive_packet(&packet);
            }
            return;
        }
        match self.gate.check(message, from, now) {
            Verdict::Pass if self.tunnel.handle_handshake(message, now).is_ok() => {}
            Verdict::Pass => self.refused += 1,
            verdict => panic!("{verdict:?}"),
        }
    }

    fn receive_packet(&mut self, packet: &[u8]) {
        let packet = IpPacket::parse_inner(packet).unwrap();
        assert!(packet.checksums_valid());
        let echo = packet.upper();
        let field = |at: usize| u16::from_be_bytes([echo[at], echo[at + 1]]);
        let (identifier, sequence) = (field(4), field(6));
        match packet.kind() {
            Kind::EchoReply => self.answered.push(sequence),
            Kind::EchoRequest => {
                let (from, to) = (packet.destination(), packet.source());
                let reply = build::icmp_echo(from, to, true, identifier, sequence, &echo[8..]);
                self.send(&reply.unwrap());
            }
            kind => panic!("the tunnel carries echoes only: {kind:?}"),
        }
    }

    fn send(&mut self, packet: &[u8]) {
        let mut message = vec![0; DATA_HEADER_SIZE];
        message.extend_from_slice(packet);
        message.resize(message.len() + TAG_SIZE, 0);
        self.tunnel.seal(&mut message, self.clock.now()).unwrap();
        self.socket.send_to(&message, self.remote).unwrap();
    }

    fn settle(&mut self) {
        while let Some(message) = self.tunnel.poll_transmit() {
            self.socket.send_to(&message, self.remote).unwrap();
        }
        while let Some(event) = self.tunnel.poll_event() {
            assert_eq!(event, TunnelEvent::HandshakeDone);
            self.handshakes += 1;
        }
    }
}

/// A wireguard-go process in a network namespace of its own, which the calling thread moves to.
struct Peer {
    process: Child,
    control: PathBuf,
}

impl Peer {
    fn start(name: &str) -> Self {
        enter_new_namespace();
        let interface = format!("wg{name}{}", std::process::id());
        let process = Command::new("wireguard-go")
            .arg(&interface)
            .envs([("WG_PROCESS_FOREGROUND", "1"), ("LOG_LEVEL", "error")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let control = PathBuf::from(format!("/var/run/wireguard/{interface}.sock"));
        let peer = Self { process, control };
        wait_until("wireguard-go's socket", || {
            UnixStream::connect(&peer.control).is_ok()
        });
        ip(&format!("address add {THEIRS}/24 dev {interface}"));
        ip(&format!("link set {interface} mtu 1280 up"));
        peer
    }

    /// Speak its configuration protocol (wireguard.com/xplatform).
    fn configure(&self, settings: &[String]) {
        let mut control = UnixStream::connect(&self.control).unwrap();
        let request = format!("set=1\n{}\n\n", settings.join("\n"));
        control.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 64];
        let length = control.read(&mut answer).unwrap();
        assert_eq!(answer[..length], *b"errno=0\n\n", "{settings:?}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.control);
    }
}

fn enter_new_namespace() {
    // SAFETY: takes no pointers; only the calling thread, and what it starts, changes.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    ip("link set lo up");
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let clock = BootClock::new();
    let limit = clock.now() + PATIENCE;
    while !done() {
        assert!(clock.now() < limit, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    fill_random(&mut bytes).unwrap();
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
