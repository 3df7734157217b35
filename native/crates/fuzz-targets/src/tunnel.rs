//! The tunnel engine in either role, with a genuine but hostile peer (of a client a gateway or another client), a relay,
//! and whoever else is on the network.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use wardgate_datapath::command::{
    AddRoutes, Authorize, Command, Deauthorize, Filter, FilterProtocol, Grant, GrantKind,
    IceCredentials, IceProfile, IceRole, Key, RecordFlows, Refused, RelayServer, RemoteCandidates,
    RemoveRoutes, RemovedRoute, RetainGrants, RetainedGrant, Revoke, Route, SetAddresses,
    SetRelays, SetRoutes, Table, Translate, UpdateFilters, UpsertPeer,
};
use wardgate_datapath::event::{Event, FlowReport, FlowRole};
use wardgate_datapath::prefix::Prefix;
use wardgate_datapath::tunnel::{Arrival, EngineConfig, Io, Role, TunnelEngine};
use wardgate_datapath::{TunRead, TunSink};
use wardgate_packet::{ControlEvent, ControlPacket, Fragment, IpPacket, Kind, build};

use crate::connect::source;
use crate::input::Input;
use crate::puppet::{PRESHARED_KEY, Puppet, ice, private_key, public_key};
use crate::world::{End, UNIX, Wire, World, host_address, relay_address, relay_credentials};

const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0, 0, 0, 0, 1);
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0, 0, 0, 0, 2);
/// Resource "net": 10.0.0.0/24, UDP port 53 and TCP port 80.
const NET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
/// Resource "app": this name's address at the client, and what it stands for.
const PROXY: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
const REAL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 7);

/// Bits of the first byte.
const GATEWAY: u8 = 1;
const RELAYED: u8 = 2;
const UNACQUAINTED: u8 = 4;
/// The client's peer is another client, which it reaches by resource "net" and lets in by it.
const DEVICE: u8 = 8;

/// The input begins with the state to start from; the rest is a script. Nothing reaches a network that no grant names, and
/// nothing reaches a client that is not for it.
pub fn tunnel(input: &[u8]) -> bool {
    let mut script = Input::new(input);
    let start = script.byte();
    let role = if start & GATEWAY == 0 {
        Role::Client
    } else {
        Role::Gateway
    };
    let mut world = World::new(start & RELAYED == 0, |now| {
        let is_device = role == Role::Client && start & DEVICE != 0;
        let mut puppet = Puppet::new(1, role == Role::Gateway || is_device, now);
        puppet.make_tunnel(now);
        (Subject::new(role, is_device, now), puppet)
    });
    world.drive_a(Subject::set_up);
    world.drive_b(Puppet::drain);
    world.run(Duration::from_secs(1));
    if start & UNACQUAINTED == 0 {
        world.drive_b(Puppet::meet);
        world.drive_a(Subject::meet);
        world.run(Duration::from_secs(1));
    }
    while let Some(step) = script.step() {
        match if step < 240 { step % 15 } else { 15 } {
            0 => {
                let (from, stride) = (source(script.byte()), script.short());
                let mut datagrams = script.bytes().to_vec();
                let local = host_address(0);
                world.drive_a(|end, now, wire| {
                    end.receive(from, local, stride.into(), &mut datagrams, now, wire);
                });
            }
            1 => {
                let read = script.bytes();
                if let Ok(read) = TunRead::parse(read) {
                    world.drive_a(|end, now, wire| end.send(&read, now, wire));
                }
            }
            2 => {
                let packet = script.bytes();
                if !packet.is_empty() {
                    let read = TunRead::whole(packet);
                    world.drive_a(|end, now, wire| end.send(&read, now, wire));
                }
            }
            3 => world.run(Duration::from_millis(u64::from(script.byte()) * 100)),
            4 => world.alter(script.short(), script.byte()),
            5 => world.repeat(),
            6 => {
                let packet = script.bytes();
                world.drive_b(|end, now, wire| {
                    for piece in drawn_packets(role, packet) {
                        end.seal(&piece, now, wire);
                    }
                });
            }
            7 => world.drive_b(Puppet::initiate),
            8 => {
                let candidate = String::from_utf8_lossy(script.bytes()).into_owned();
                world.drive_a(|end, now, wire| end.add_candidates(&[candidate], now, wire));
            }
            9 => world.drive_a(Subject::meet),
            11 => {
                let translate = hostile_translation(&mut script);
                world.drive_a(|end, now, wire| end.translate(translate, now, wire));
            }
            12 => {
                let upsert = hostile_peer(&mut script);
                world.drive_a(|end, now, wire| end.meet_other(upsert, now, wire));
            }
            13 => {
                let event = match script.byte() % 4 {
                    0 => ControlEvent::AssignedIps,
                    1 => ControlEvent::DomainStatus,
                    2 => ControlEvent::Goodbye,
                    _ => ControlEvent::Unknown(script.byte()),
                };
                let body = script.bytes();
                if let Ok(packet) = (ControlPacket { event, body }).encode() {
                    world.drive_b(|end, now, wire| end.seal(&packet, now, wire));
                }
            }
            14 => {
                let command = drawn_routes(&mut script);
                world.drive_a(|end, now, wire| end.change_routes(command, now, wire));
            }
            15 => {
                let command = drawn_grant(&mut script);
                world.drive_a(|end, now, wire| {
                    let _ = end.apply(command, now, wire);
                });
            }
            _ => world.drive_b(Puppet::meet),
        }
    }
    world.run(Duration::from_millis(100));
    world.a.tun.received || !world.b.opened.is_empty()
}

/// The engine under test, and its TUN device.
struct Subject {
    role: Role,
    engine: TunnelEngine,
    tun: Device,
    candidates: Vec<String>,
    /// Whether path and session to the genuine peer stand.
    is_connected: bool,
}

impl Subject {
    fn new(role: Role, is_device: bool, now: Instant) -> Self {
        Self {
            role,
            engine: TunnelEngine::new(
                role,
                EngineConfig {
                    private_key: private_key(0),
                    seed: [5; 32],
                    epoch: now,
                    unix_at_epoch: UNIX,
                },
            ),
            tun: Device {
                role,
                is_device,
                received: false,
                opened: BTreeSet::new(),
                real: BTreeSet::from([REAL.into()]),
            },
            candidates: Vec::new(),
            is_connected: false,
        }
    }

    fn set_up(&mut self, now: Instant, wire: &mut Wire) {
        let (ipv4, ipv6) = match self.role {
            Role::Client => (CLIENT_V4, CLIENT_V6),
            Role::Gateway => (GATEWAY_V4, GATEWAY_V6),
        };
        let (username, password) = relay_credentials("subject");
        let relay = RelayServer {
            id: "relay".to_owned(),
            addresses: vec![relay_address()],
            username,
            password,
        };
        let _ = self.apply(
            Command::SetAddresses(SetAddresses { ipv4, ipv6 }),
            now,
            wire,
        );
        let relays = SetRelays {
            relays: vec![relay],
            removed: Vec::new(),
            replace_all: true,
        };
        let _ = self.apply(Command::SetRelays(relays), now, wire);
        let record = RecordFlows {
            is_on: true,
            unix_at_zero_s: UNIX.as_secs_f64(),
        };
        let _ = self.apply(Command::RecordFlows(record), now, wire);
        if self.role == Role::Client {
            let route = |resource: &str, prefix, table, filters| Route {
                prefix,
                resource_id: resource.to_owned(),
                table,
                filters,
                rank: 0,
            };
            let mut routes = vec![
                route("net", net(), Table::Cidr, filters()),
                route("app", Prefix::host(PROXY.into()), Table::Dns, Vec::new()),
            ];
            if self.tun.is_device {
                let device = Prefix::host(GATEWAY_V4.into());
                routes = vec![route("net", device, Table::Device, Vec::new())];
            }
            let _ = self.apply(Command::SetRoutes(SetRoutes { routes }), now, wire);
        }
    }

    /// What the portal has both ends do when access is granted.
    fn meet(&mut self, now: Instant, wire: &mut Wire) {
        let (role, profile, ipv4, ipv6) = match self.role {
            Role::Client => (
                if self.tun.is_device {
                    IceRole::Controlled
                } else {
                    IceRole::Controlling
                },
                IceProfile::Client,
                GATEWAY_V4,
                GATEWAY_V6,
            ),
            Role::Gateway => (
                IceRole::Controlled,
                IceProfile::Server,
                CLIENT_V4,
                CLIENT_V6,
            ),
        };
        let credentials = |end| IceCredentials {
            username: ice(end).username,
            password: ice(end).password,
        };
        let upsert = UpsertPeer {
            id: "peer".to_owned(),
            public_key: Key(public_key(1).0),
            preshared_key: Key(PRESHARED_KEY),
            local_ice: credentials(0),
            remote_ice: credentials(1),
            role,
            profile,
            ipv4,
            ipv6,
        };
        let _ = self.apply(Command::UpsertPeer(upsert), now, wire);
        for command in match self.role {
            Role::Client if self.tun.is_device => device_grants(),
            Role::Client => authorizations(),
            Role::Gateway => grants(),
        } {
            let _ = self.apply(command, now, wire);
        }
    }

    /// What Python makes of an assignment: the peer chose all but the real addresses, and a name's zone chose those.
    fn translate(&mut self, command: Translate, now: Instant, wire: &mut Wire) {
        let applied = self.apply(Command::Translate(command.clone()), now, wire);
        if applied.is_ok() {
            assert_eq!((self.role, &*command.resource_id), (Role::Gateway, "app"));
            assert!([4, 8].contains(&command.addresses.len()));
            for (proxy, real) in command.addresses {
                assert!(is_proxy(proxy), "{proxy}");
                if let Some(real) = real {
                    assert_eq!(real.is_ipv4(), proxy.is_ipv4());
                    assert!(!is_special(real), "{real}");
                    self.tun.real.insert(real);
                }
            }
        }
    }

    /// Names come and go, and with the last route to the resource of a peer its connection.
    fn change_routes(&mut self, command: Command, now: Instant, wire: &mut Wire) {
        for _ in 0..2 {
            let applied = self.apply(command.clone(), now, wire);
            assert_eq!(applied.is_ok(), self.role == Role::Client);
        }
    }

    /// Another device comes, with a public key of its choice.
    fn meet_other(&mut self, command: UpsertPeer, now: Instant, wire: &mut Wire) {
        let takes_key = command.public_key == Key(public_key(1).0);
        let is_own = command.public_key == Key(public_key(0).0);
        let was_connected = self.is_connected;
        let applied = self.apply(Command::UpsertPeer(command), now, wire);
        assert!(applied.is_err() || !is_own, "a peer with our own key");
        assert!(
            applied.is_err() || !(takes_key && was_connected),
            "the key of a peer with a session was taken"
        );
    }

    /// The operating system sends into the tunnel.
    fn send(&mut self, read: &TunRead<'_>, now: Instant, wire: &mut Wire) {
        if let Ok(packet) = IpPacket::parse(read.packet()) {
            self.tun.opened.insert(flow_of(&packet));
        }
        self.call(now, wire, |engine, io| engine.handle_tun(read, io));
    }

    /// Refused where the peer is gone or no relay has answered: nothing happens, as in life.
    fn apply(&mut self, command: Command, now: Instant, wire: &mut Wire) -> Result<(), Refused> {
        self.call(now, wire, |engine, io| engine.apply(command, io))
    }

    fn call<T>(
        &mut self,
        now: Instant,
        wire: &mut Wire,
        call: impl FnOnce(&mut TunnelEngine, &mut Io<'_, Device, Wire>) -> T,
    ) -> T {
        let mut io = Io {
            now,
            tun: &mut self.tun,
            out: wire,
        };
        let result = call(&mut self.engine, &mut io);
        self.drain();
        result
    }

    fn drain(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::LocalCandidatesAdded { candidates, .. } => {
                    self.candidates.extend(candidates);
                }
                Event::HandshakeDone { peer_id, .. } => {
                    assert_eq!(peer_id, "peer", "a session without its key");
                    self.is_connected = true;
                }
                Event::PeerFailed { peer_id, .. } | Event::PeerClosed { peer_id, .. }
                    if peer_id == "peer" =>
                {
                    self.is_connected = false;
                }
                Event::FlowsReported { reports, lost } => {
                    assert_eq!(lost, 0);
                    for report in reports {
                        check_report(self.role, &report, &self.tun.real);
                    }
                }
                _ => {}
            }
        }
    }
}

impl End for Subject {
    fn receive(
        &mut self,
        from: std::net::SocketAddr,
        local: std::net::SocketAddr,
        stride: usize,
        payload: &mut [u8],
        now: Instant,
        out: &mut Wire,
    ) {
        let arrival = Arrival {
            from,
            local,
            ecn: 0,
            stride,
        };
        self.call(now, out, |engine, io| {
            engine.handle_network(&arrival, payload, io);
        });
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Wire) {
        self.call(now, out, |engine, io| engine.handle_timeout(io));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    fn take_candidates(&mut self) -> Vec<String> {
        std::mem::take(&mut self.candidates)
    }

    fn add_candidates(&mut self, candidates: &[String], now: Instant, out: &mut Wire) {
        let command = RemoteCandidates {
            peer_id: "peer".to_owned(),
            candidates: candidates.to_vec(),
        };
        let _ = self.apply(Command::AddRemoteCandidates(command), now, out);
    }
}

/// Checks every packet that comes out of the tunnel.
struct Device {
    role: Role,
    /// The peer is another client.
    is_device: bool,
    received: bool,
    /// Flows that the operating system may have opened, as it sees them.
    opened: BTreeSet<(bool, Option<u16>, Option<u16>)>,
    /// What names have stood for.
    real: BTreeSet<IpAddr>,
}

impl Device {
    fn check(&mut self, bytes: &[u8]) {
        self.received = true;
        if let Some(fragment) = Fragment::parse(bytes) {
            return self.check_fragment(&fragment);
        }
        let packet = IpPacket::parse_inner(bytes).expect("only packets come out of the tunnel");
        let (source, destination) = (packet.source(), packet.destination());
        match self.role {
            Role::Client => {
                assert!(
                    is_one_of(destination, CLIENT_V4, CLIENT_V6),
                    "{destination}"
                );
                if self.is_device {
                    assert!(is_one_of(source, GATEWAY_V4, GATEWAY_V6), "{source}");
                    let (is_tcp, near, far) = flow_of(&packet);
                    assert!(
                        is_granted(&packet)
                            || packet.kind() == Kind::IcmpError
                            || self.opened.contains(&(is_tcp, far, near)),
                        "{:?}",
                        packet.kind()
                    );
                }
            }
            Role::Gateway => {
                assert!(is_one_of(source, CLIENT_V4, CLIENT_V6), "{source}");
                assert!(
                    (net().contains(destination) && is_granted(&packet))
                        || (self.real.contains(&destination) && packet.kind() != Kind::IcmpError)
                        // The gateway itself is open to whoever holds any grant (data-plane §5.3).
                        || is_one_of(destination, GATEWAY_V4, GATEWAY_V6),
                    "{destination} {:?}",
                    packet.kind()
                );
            }
        }
    }
}

impl Device {
    /// Ports were judged with the whole; the addresses stand in each piece.
    fn check_fragment(&self, fragment: &Fragment<'_>) {
        let (source, destination) = (fragment.id.source, fragment.id.destination);
        match self.role {
            Role::Client => assert!(is_one_of(destination, CLIENT_V4, CLIENT_V6)),
            Role::Gateway => {
                assert!(is_one_of(source, CLIENT_V4, CLIENT_V6), "{source}");
                assert!(
                    net().contains(destination)
                        || self.real.contains(&destination)
                        || is_one_of(destination, GATEWAY_V4, GATEWAY_V6),
                    "{destination}"
                );
            }
        }
    }
}

impl TunSink for Device {
    fn push(&mut self, buffer: &mut [u8], range: Range<usize>) {
        self.check(&buffer[range]);
    }

    fn push_owned(&mut self, packet: &[u8]) {
        self.check(packet);
    }
}

/// What the peer puts into the tunnel: these bytes or, where the first one is that of no IP version, a datagram in fragments:
/// two bytes of its length, one that chooses where it goes, and behind them the order in which pieces go, spoilt or not.
fn drawn_packets(role: Role, bytes: &[u8]) -> Vec<Vec<u8>> {
    let [0xfe, high, low, place, order @ ..] = bytes else {
        return vec![bytes.to_vec()];
    };
    let far = SocketAddr::from(match place % 3 {
        0 => (Ipv4Addr::new(10, 0, 0, 1), 53),
        1 => (Ipv4Addr::new(10, 0, 0, 1), 22),
        _ => (PROXY, 53),
    });
    let own = SocketAddr::from((CLIENT_V4, 4000));
    let (from, to) = match role {
        Role::Client => (far, own),
        Role::Gateway => (own, far),
    };
    let payload = vec![*place; usize::from(u16::from_be_bytes([*high, *low])) % 8000];
    let pieces = build::fragments(&build::udp(from, to, &payload).unwrap_or_default(), 7);
    let drawn = order.iter().map(|draw| {
        let mut piece = pieces[usize::from(draw % 32) % pieces.len()].clone();
        match draw >> 5 {
            6 => piece[7] = piece[7].wrapping_add(1),
            7 => piece[6] ^= 0x20,
            _ => {}
        }
        piece
    });
    drawn.collect()
}

fn is_one_of(address: IpAddr, v4: Ipv4Addr, v6: Ipv6Addr) -> bool {
    address == IpAddr::V4(v4) || address == IpAddr::V6(v6)
}

fn is_granted<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> bool {
    match packet.kind() {
        Kind::Udp => packet.destination_value() == Some(53),
        Kind::Tcp => packet.destination_value() == Some(80),
        _ => false,
    }
}

fn flow_of<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> (bool, Option<u16>, Option<u16>) {
    let is_tcp = packet.kind() == Kind::Tcp;
    (is_tcp, packet.source_value(), packet.destination_value())
}

/// Each lets the other in: ours by `filters`.
fn device_grants() -> Vec<Command> {
    let grant = Grant {
        peer_id: "peer".to_owned(),
        resource_id: "net".to_owned(),
        kind: GrantKind::Device,
        networks: Vec::new(),
        filters: filters(),
        expires_deadline_s: None,
        rank: 0,
        record_under: None,
    };
    let authorize = Authorize {
        resource_id: "net".to_owned(),
        peer_id: "peer".to_owned(),
        addresses: Vec::new(),
        device_address: Some(GATEWAY_V4.into()),
        record_under: None,
    };
    vec![Command::Grant(grant), Command::Authorize(authorize)]
}

/// What the portal says about grants, never more than `filters` permit.
fn drawn_grant(script: &mut Input<'_>) -> Command {
    let peer_id = ["peer", "other"][usize::from(script.byte() % 2)].to_owned();
    let resource_id = ["net", "app", "more"][usize::from(script.byte() % 3)].to_owned();
    let deadline = |seconds: u8| (seconds < 200).then_some(f64::from(seconds) / 4.0);
    match script.byte() % 6 {
        0 => Command::Revoke(Revoke {
            peer_id,
            resource_id,
        }),
        1 => Command::UpdateFilters(UpdateFilters {
            resource_id,
            filters: filters(),
        }),
        2 => Command::RetainGrants(RetainGrants {
            grants: vec![RetainedGrant {
                peer_id,
                resource_id,
                expires_deadline_s: deadline(script.byte()),
            }],
        }),
        3 => Command::Deauthorize(Deauthorize {
            resource_id,
            device_address: script.byte().is_multiple_of(2).then_some(GATEWAY_V4.into()),
        }),
        4 => Command::Authorize(Authorize {
            resource_id,
            peer_id,
            addresses: Vec::new(),
            device_address: Some(GATEWAY_V4.into()),
            record_under: None,
        }),
        _ => Command::Grant(Grant {
            peer_id,
            resource_id,
            kind: GrantKind::Device,
            networks: Vec::new(),
            filters: filters(),
            expires_deadline_s: deadline(script.byte()),
            rank: 0,
            record_under: None,
        }),
    }
}

fn authorizations() -> Vec<Command> {
    let authorize = |resource: &str, prefix| {
        Command::Authorize(Authorize {
            resource_id: resource.to_owned(),
            peer_id: "peer".to_owned(),
            addresses: vec![prefix],
            device_address: None,
            record_under: Some(resource.to_owned()),
        })
    };
    vec![
        authorize("net", net()),
        authorize("app", Prefix::host(PROXY.into())),
    ]
}

fn grants() -> Vec<Command> {
    let grant = |resource: &str, kind, networks, filters| {
        Command::Grant(Grant {
            peer_id: "peer".to_owned(),
            resource_id: resource.to_owned(),
            kind,
            networks,
            filters,
            expires_deadline_s: None,
            rank: 0,
            record_under: Some(resource.to_owned()),
        })
    };
    vec![
        grant("net", GrantKind::Cidr, vec![net()], filters()),
        grant("app", GrantKind::Dns, Vec::new(), Vec::new()),
        Command::Translate(Translate {
            peer_id: "peer".to_owned(),
            resource_id: "app".to_owned(),
            name: "app.internal.example".to_owned(),
            addresses: (0..4)
                .map(|index| Ipv4Addr::from_bits(PROXY.to_bits() + index))
                .map(|proxy| (proxy.into(), Some(REAL.into())))
                .collect(),
        }),
    ]
}

/// An assignment as a hostile client writes it, and what the zone of the name answers.
fn hostile_translation(script: &mut Input<'_>) -> Translate {
    let resource_id = ["app", "app", "app", "net", "none"][usize::from(script.byte() % 5)];
    let name = match script.byte() {
        0 => String::from_utf8_lossy(script.bytes()).into_owned(),
        index => format!("n{}.internal.example", index % 4),
    };
    let count = match script.byte() % 8 {
        0..=3 => 4,
        4..=6 => 8,
        _ => usize::from(script.byte()),
    };
    let mut address = |index: usize| -> IpAddr {
        let last = script.byte();
        match last % 16 {
            0..=5 => Ipv4Addr::new(100, 96, index as u8, last).into(),
            6 | 7 => Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0x8000, 0, 0, 0, last.into()).into(),
            8 => Ipv4Addr::new(100, 100, 111, last).into(),
            9 => [REAL, Ipv4Addr::LOCALHOST, GATEWAY_V4, CLIENT_V4][usize::from(last / 16 % 4)]
                .into(),
            10 => Ipv4Addr::new(169, 254, 169, 254).into(),
            11 => Ipv4Addr::new(10, 66, 0, last).into(),
            12 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
            13 => Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0, 0, 0, 0, last.into()).into(),
            _ => Ipv4Addr::new(script.byte(), script.byte(), script.byte(), last).into(),
        }
    };
    let addresses = (0..count)
        .map(|index| {
            let proxy = address(index);
            let real = address(index);
            (proxy, (real != proxy).then_some(real))
        })
        .collect();
    Translate {
        peer_id: "peer".to_owned(),
        resource_id: resource_id.to_owned(),
        name,
        addresses,
    }
}

/// Routes of names that a program asks for or that make room, among them those that the world began with.
fn drawn_routes(script: &mut Input<'_>) -> Command {
    let is_new = script.byte().is_multiple_of(2);
    let routes = (0..script.byte() % 16).map(|_| {
        let (choice, last) = (script.byte(), script.byte());
        let prefix = match choice % 4 {
            0 => net(),
            1 => Prefix::host(PROXY.into()),
            2 => Prefix::host(Ipv4Addr::new(100, 96, 0, last).into()),
            _ => Prefix::new(Ipv4Addr::new(last, 0, 0, 0).into(), last % 33).unwrap_or_else(net),
        };
        let table = [Table::Device, Table::Dns, Table::Cidr, Table::Internet];
        RemovedRoute {
            prefix,
            resource_id: ["net", "app", "other"][usize::from(choice / 4 % 3)].to_owned(),
            table: table[usize::from(choice / 16 % 4)],
        }
    });
    let routes: Vec<_> = routes.collect();
    if !is_new {
        return Command::RemoveRoutes(RemoveRoutes { routes });
    }
    let added = routes.into_iter().map(|route| Route {
        prefix: route.prefix,
        resource_id: route.resource_id,
        table: route.table,
        filters: Vec::new(),
        rank: 0,
    });
    Command::AddRoutes(AddRoutes {
        routes: added.collect(),
    })
}

/// A record is of the genuine peer, of what is granted, and ends behind its start.
fn check_report(role: Role, report: &FlowReport, real: &BTreeSet<IpAddr>) {
    let (own, far) = match (role, report.context.role) {
        (Role::Client, FlowRole::Responder) => (report.responder.0, report.initiator.0),
        _ => (report.initiator.0, report.responder.0),
    };
    match role {
        Role::Client => {
            assert!(
                [IpAddr::from(CLIENT_V4), CLIENT_V6.into()].contains(&own),
                "{own}"
            );
            assert!(report.context.domain.is_none());
        }
        Role::Gateway => {
            assert_eq!(report.context.role, FlowRole::Responder);
            assert!(
                [IpAddr::from(CLIENT_V4), CLIENT_V6.into()].contains(&own),
                "{own}"
            );
            assert!(net().contains(far) || real.contains(&far), "{far}");
        }
    }
    assert!((1..=16).contains(&report.context.paths.len()), "{report:?}");
    if let Some(end) = &report.end {
        assert!(report.started_at_us <= end.last_packet_at_us);
        assert!(end.last_packet_at_us <= end.ended_at_us);
        assert!(end.tx_packets > 0);
    }
}

/// What the portal passes on of a device that says what it likes about itself.
fn hostile_peer(script: &mut Input<'_>) -> UpsertPeer {
    let public_key = match script.byte() % 4 {
        0 => public_key(1).0,
        1 => public_key(0).0,
        2 => [0; 32],
        _ => [script.byte(); 32],
    };
    let mut credentials = || IceCredentials {
        username: String::from_utf8_lossy(script.bytes()).into_owned(),
        password: String::from_utf8_lossy(script.bytes()).into_owned(),
    };
    UpsertPeer {
        id: "other".to_owned(),
        public_key: Key(public_key),
        preshared_key: Key([8; 32]),
        local_ice: credentials(),
        remote_ice: credentials(),
        role: IceRole::Controlled,
        profile: IceProfile::Server,
        ipv4: Ipv4Addr::new(100, 64, 0, 9),
        ipv6: Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0, 0, 0, 0, 9),
    }
}

/// 100.96.0.0/11 and fd00:2021:1111:8000::/107 without the stub resolvers' addresses.
fn is_proxy(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, third, _] = v4.octets();
            first == 100 && (96..128).contains(&second) && (second, third) != (100, 111)
        }
        IpAddr::V6(v6) => {
            let words = v6.segments();
            words[..6] == [0xfd00, 0x2021, 0x1111, 0x8000, 0, 0] && words[6] < 0x20
        }
    }
}

fn is_special(address: IpAddr) -> bool {
    let is_of_tunnels = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]),
        IpAddr::V6(v6) => v6.segments()[..3] == [0xfd00, 0x2021, 0x1111],
    };
    is_of_tunnels
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unspecified()
        || address == IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))
}

fn filters() -> Vec<Filter> {
    let one_port = |protocol, port| Filter {
        protocol,
        first_port: port,
        last_port: port,
    };
    vec![
        one_port(FilterProtocol::Udp, 53),
        one_port(FilterProtocol::Tcp, 80),
    ]
}

fn net() -> Prefix {
    Prefix::new(NET.into(), 24).expect("24 of 32 bits")
}
