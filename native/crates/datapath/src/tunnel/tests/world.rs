//! A client, a gateway or another client, and a relay on an in-memory network in virtual time; their portal is the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wardgate_packet::offload::TunRead;

use crate::command::{Command, Key, Refused};
use crate::event::Event;
use crate::relay::{PeerRules, RelayConfig, RelayEngine, RelayPorts};
use crate::tunnel::figures::ConnectionFigures;
use crate::tunnel::test_clock::an_instant;
use crate::tunnel::{Arrival, EngineConfig, Io, Role, TunnelEngine, public_key};
use crate::{Outbox, TunSink};

pub const CLIENT: usize = 0;
pub const GATEWAY: usize = 1;
/// The other client, in a world of clients.
pub const DEVICE: usize = 1;
pub const CLIENT_V4: &str = "100.64.0.1";
pub const CLIENT_V6: &str = "fd00:2021:1111::1";
pub const GATEWAY_V4: &str = "100.64.0.2";
pub const GATEWAY_V6: &str = "fd00:2021:1111::2";
pub const DEVICE_V4: &str = GATEWAY_V4;
pub const DEVICE_V6: &str = GATEWAY_V6;

const ONE_WAY: Duration = Duration::from_millis(10);
const UNIX: Duration = Duration::from_secs(1_800_000_000);
const STAMP_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const RELAY: &str = "5.5.5.5:3478";
const HOSTS: [&str; 2] = ["6.6.6.1:52625", "7.7.7.1:52625"];

pub struct World {
    pub now: Instant,
    pub epoch: Instant,
    pub hosts: Vec<Host>,
    /// Whether datagrams between the hosts' own addresses get through.
    pub direct: bool,
    /// Every datagram delivered: when, from, to, how long.
    pub trace: Vec<(Duration, SocketAddr, SocketAddr, usize)>,
    relay: RelayEngine,
    in_flight: BTreeMap<(Instant, u64), Datagram>,
    /// Candidates on their way through the portal: to which host, as a command.
    signals: VecDeque<(Instant, usize, Value)>,
    sent: u64,
    generation: u8,
}

pub struct Host {
    pub role: Role,
    pub engine: TunnelEngine,
    pub address: SocketAddr,
    pub key: Key,
    pub tun: Packets,
    pub events: Vec<Event>,
    /// A dead host neither hears nor does anything.
    pub alive: bool,
}

#[derive(Clone, Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ecn: u8,
    pub payload: Vec<u8>,
}

#[derive(Default)]
pub struct Packets(pub Vec<Vec<u8>>);

impl TunSink for Packets {
    fn push(&mut self, buffer: &mut [u8], range: Range<usize>) {
        self.0.push(buffer[range].to_vec());
    }

    fn push_owned(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

/// The outbox of one host: what leaves the source open comes from the host's address.
pub struct Wire {
    own: SocketAddr,
    pub datagrams: Vec<Datagram>,
}

impl Wire {
    pub fn new(own: SocketAddr) -> Self {
        Self {
            own,
            datagrams: Vec::new(),
        }
    }
}

impl Outbox for Wire {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        self.datagrams.push(Datagram {
            from: local.unwrap_or(self.own),
            to: remote,
            ecn,
            payload: vec![0; len],
        });
        let last = self.datagrams.len() - 1;
        &mut self.datagrams[last].payload
    }

    fn rollback(&mut self) {
        self.datagrams.pop();
    }
}

impl RelayPorts for Wire {
    fn open(&mut self, _address: SocketAddr) -> bool {
        true
    }

    fn close(&mut self, _address: SocketAddr) {}
}

impl World {
    /// A client and a gateway have their addresses and the relay; nobody knows anybody.
    pub fn new() -> Self {
        Self::of(Role::Gateway)
    }

    /// Two clients instead.
    pub fn of_clients() -> Self {
        Self::of(Role::Client)
    }

    fn of(other: Role) -> Self {
        let epoch = an_instant();
        let mut world = Self {
            now: epoch,
            epoch,
            hosts: vec![
                Host::new(CLIENT, Role::Client, 1, epoch),
                Host::new(GATEWAY, other, 1, epoch),
            ],
            direct: true,
            trace: Vec::new(),
            relay: RelayEngine::new(RelayConfig {
                stamp_secret: STAMP_SECRET.to_owned(),
                ipv4: Some([5, 5, 5, 5].into()),
                ipv6: None,
                port: 3478,
                allocation_ports: 50_000..=50_099,
                peer_rules: PeerRules::default(),
                seed: [9; 32],
                epoch,
                unix_at_epoch: UNIX,
            }),
            in_flight: BTreeMap::new(),
            signals: VecDeque::new(),
            sent: 0,
            generation: 1,
        };
        world.set_up(CLIENT);
        world.set_up(GATEWAY);
        world.run(Duration::from_secs(1));
        world
    }

    /// Gateway and client are told of each other, as the portal does when it authorises something. The client has a route
    /// to 10.0.0.0/24 for resource "net", and the gateway grants it without filters.
    pub fn connected() -> Self {
        let mut world = Self::new();
        world.route_net(json!([]));
        world.introduce();
        world.grant("net", json!(["10.0.0.0/24"]), json!([]), Value::Null);
        world.authorize("net", json!(["10.0.0.0/24"]));
        world.run(Duration::from_secs(2));
        assert!(
            world.saw(CLIENT, |event| matches!(event, Event::HandshakeDone { .. })),
            "{:?}",
            world.hosts[CLIENT].events
        );
        world
    }

    /// Two clients told of each other by the portal; neither may do anything at the other.
    pub fn connected_clients() -> Self {
        let mut world = Self::of_clients();
        world.introduce();
        world.run(2 * Duration::from_secs(1));
        assert!(world.saw(CLIENT, |event| matches!(event, Event::HandshakeDone { .. })));
        world
    }

    /// How the other host knows this one.
    pub fn name(&self, host: usize) -> &'static str {
        match (host, self.hosts[host].role) {
            (CLIENT, _) => "client",
            (_, Role::Client) => "device",
            (_, Role::Gateway) => "gateway",
        }
    }

    /// The portal grants one client the other, by `pool`.
    pub fn grant_device(&mut self, from: usize, filters: Value, deadline: Value) {
        self.apply(
            1 - from,
            json!({
                "command": "grant", "peer_id": self.name(from), "resource_id": "pool", "kind": "device",
                "networks": [], "filters": filters, "expires_deadline_s": deadline,
            }),
        );
    }

    /// Lead a client to the other one: routes and authorizations for both addresses.
    pub fn authorize_device(&mut self, from: usize) {
        let (ipv4, ipv6) = tunnel_addresses(1 - from);
        self.route_device(from);
        for device in [ipv4, ipv6] {
            self.apply(
                from,
                json!({"command": "authorize", "resource_id": "pool", "peer_id": self.name(1 - from),
                       "addresses": [], "device_address": device}),
            );
        }
    }

    pub fn route_device(&mut self, from: usize) {
        let (ipv4, ipv6) = tunnel_addresses(1 - from);
        self.apply(
            from,
            json!({"command": "set_routes", "routes": [
                {"prefix": format!("{ipv4}/32"), "resource_id": "pool", "table": "device"},
                {"prefix": format!("{ipv6}/128"), "resource_id": "pool", "table": "device"},
            ]}),
        );
    }

    pub fn route_net(&mut self, filters: Value) {
        self.apply(
            CLIENT,
            json!({"command": "set_routes", "routes": [
                {"prefix": "10.0.0.0/24", "resource_id": "net", "table": "cidr", "filters": filters, "rank": 0},
            ]}),
        );
    }

    pub fn introduce(&mut self) {
        let credentials =
            |name: &str| json!({"username": name, "password": format!("secret-of-{name}-xxxx")});
        let psk = Key([7; 32]).encode();
        let keys = [CLIENT, GATEWAY].map(|host| public_key(&self.hosts[host].key).encode());
        let ices = [
            credentials(&format!("cl{:02}", self.generation)),
            credentials(&format!("gw{:02}", self.generation)),
        ];
        for (host, role) in [(GATEWAY, "controlled"), (CLIENT, "controlling")] {
            let peer = 1 - host;
            let profile = match self.hosts[host].role {
                Role::Client => "client",
                Role::Gateway => "server",
            };
            let (ipv4, ipv6) = tunnel_addresses(peer);
            self.apply(
                host,
                json!({
                    "command": "upsert_peer", "id": self.name(peer), "public_key": keys[peer],
                    "preshared_key": psk, "local_ice": ices[host], "remote_ice": ices[peer],
                    "role": role, "profile": profile, "ipv4": ipv4, "ipv6": ipv6,
                }),
            );
        }
    }

    pub fn grant(&mut self, resource: &str, networks: Value, filters: Value, deadline: Value) {
        let kind = if networks.as_array().is_some_and(Vec::is_empty) {
            "dns"
        } else {
            "cidr"
        };
        self.apply(
            GATEWAY,
            json!({
                "command": "grant", "peer_id": "client", "resource_id": resource, "kind": kind,
                "networks": networks, "filters": filters, "expires_deadline_s": deadline, "rank": 0,
            }),
        );
    }

    pub fn authorize(&mut self, resource: &str, addresses: Value) {
        self.apply(
            CLIENT,
            json!({
                "command": "authorize", "resource_id": resource, "peer_id": "gateway",
                "addresses": addresses, "device_address": null,
            }),
        );
    }

    /// Apply a command that must be accepted.
    pub fn apply(&mut self, host: usize, command: Value) {
        let text = command.to_string();
        self.try_apply(host, command)
            .unwrap_or_else(|refused| panic!("{text}: {refused}"));
    }

    pub fn try_apply(&mut self, host: usize, command: Value) -> Result<(), Refused> {
        let command = Command::parse(command.to_string().as_bytes())?;
        self.drive(host, |engine, io| engine.apply(command, io))
    }

    /// Let the host's operating system send these packets into the tunnel.
    pub fn send(&mut self, host: usize, packet: &[u8]) {
        self.send_read(host, &TunRead::whole(packet));
    }

    pub fn send_read(&mut self, host: usize, read: &TunRead<'_>) {
        self.drive(host, |engine, io| engine.handle_tun(read, io));
    }

    /// Put a packet into the tunnel past the host's own engine, as a hostile one would.
    pub fn smuggle(&mut self, host: usize, packet: &[u8]) {
        let peer = self.name(1 - host);
        self.drive(host, |engine, io| {
            let (links, counters) = engine.parts();
            let key = links.key_of(peer).unwrap();
            links
                .send_packet(key, packet, counters, io.now, io.out)
                .unwrap();
        });
    }

    /// Let the host's operating system send this packet into the tunnel at an instant for which no timer has run.
    pub fn send_before_timers(&mut self, host: usize, packet: &[u8], at: Instant) {
        self.drive(host, |engine, io| {
            io.now = at;
            engine.handle_tun(&TunRead::whole(packet), io);
        });
    }

    /// Packets that came out of the tunnel since last asked.
    pub fn received(&mut self, host: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.hosts[host].tun.0)
    }

    pub fn events(&mut self, host: usize) -> Vec<Event> {
        std::mem::take(&mut self.hosts[host].events)
    }

    pub fn saw(&self, host: usize, matches: impl Fn(&Event) -> bool) -> bool {
        self.hosts[host].events.iter().any(matches)
    }

    pub fn count(&mut self, host: usize, name: &str) -> u64 {
        let stats = self.hosts[host].engine.stats();
        let found = stats.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).1
    }

    pub fn figures(&self, host: usize, peer: &str) -> Option<ConnectionFigures> {
        let figures = self.hosts[host]
            .engine
            .figures(&[peer.to_owned()], self.now);
        figures.into_iter().next()
    }

    pub fn allocations(&self) -> u64 {
        self.relay.stats().allocations
    }

    pub fn now_s(&self) -> f64 {
        (self.now - self.epoch).as_secs_f64()
    }

    /// Take the datagrams off the network that have not arrived.
    pub fn intercept(&mut self) -> Vec<Datagram> {
        std::mem::take(&mut self.in_flight).into_values().collect()
    }

    /// Let the next introduction of the same keys be one with other ICE credentials.
    pub fn renew_credentials(&mut self) {
        self.generation += 1;
    }

    /// Replace a host by a fresh process with a new key.
    pub fn restart(&mut self, host: usize) {
        self.generation += 1;
        let role = self.hosts[host].role;
        self.hosts[host] = Host::new(host, role, self.generation, self.epoch);
        self.set_up(host);
        self.run(Duration::from_secs(1));
    }

    /// Let the world go on for as long as this.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.next_step().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    fn next_step(&self) -> Option<Instant> {
        let flight = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        let alive = self.hosts.iter().filter(|host| host.alive);
        let hosts = alive.map(|host| host.engine.poll_timeout());
        let signal = self.signals.front().map(|(at, ..)| *at);
        hosts
            .chain([flight, signal, self.relay.poll_timeout()])
            .flatten()
            .min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(flight) = self.in_flight.first_entry()
            && flight.key().0 <= now
        {
            let datagram = flight.remove();
            self.deliver(datagram);
        }
        while self.signals.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, host, command)) = self.signals.pop_front()
        {
            // A host that does not know the peer loses them, as in life.
            let _ = self.try_apply(host, command);
        }
        for host in 0..self.hosts.len() {
            let due = self.hosts[host].engine.poll_timeout();
            if self.hosts[host].alive && due.is_some_and(|at| at <= now) {
                self.drive(host, |engine, io| engine.handle_timeout(io));
            }
        }
        let mut wire = Wire::new(address(RELAY));
        self.relay.handle_timeout(now, &mut wire);
        self.post(wire.datagrams);
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram {
            from,
            to,
            ecn,
            mut payload,
        } = datagram;
        let now = self.now;
        self.trace.push((now - self.epoch, from, to, payload.len()));
        let stride = payload.len();
        if to.ip() == address(RELAY).ip() {
            let mut wire = Wire::new(address(RELAY));
            self.relay
                .handle_network(from, to, ecn, stride, &payload, now, &mut wire);
            self.post(wire.datagrams);
        } else if let Some(host) = self
            .hosts
            .iter()
            .position(|host| host.alive && host.address == to)
        {
            let arrival = Arrival {
                from,
                local: to,
                ecn,
                stride,
            };
            self.drive(host, |engine, io| {
                engine.handle_network(&arrival, &mut payload, io);
            });
        }
    }

    /// Call a host's engine, send what it emits, and leave its events where they are.
    pub fn drive_deaf(
        &mut self,
        host: usize,
        call: impl FnOnce(&mut TunnelEngine, &mut Io<'_, Packets, Wire>),
    ) {
        let now = self.now;
        let caller = &mut self.hosts[host];
        let mut wire = Wire::new(caller.address);
        let mut io = Io {
            now,
            tun: &mut caller.tun,
            out: &mut wire,
        };
        call(&mut caller.engine, &mut io);
        self.post(wire.datagrams);
    }

    /// Call a host's engine, then send what it emits and signal its candidates.
    pub fn drive<T>(
        &mut self,
        host: usize,
        call: impl FnOnce(&mut TunnelEngine, &mut Io<'_, Packets, Wire>) -> T,
    ) -> T {
        let now = self.now;
        let name = self.name(host);
        let caller = &mut self.hosts[host];
        let mut wire = Wire::new(caller.address);
        let mut io = Io {
            now,
            tun: &mut caller.tun,
            out: &mut wire,
        };
        let result = call(&mut caller.engine, &mut io);
        let events: Vec<Event> = std::iter::from_fn(|| caller.engine.poll_event()).collect();
        caller.events.extend(events.iter().cloned());
        self.post(wire.datagrams);
        for event in events {
            if let Event::LocalCandidatesAdded { candidates, .. } = event {
                let command = json!({
                    "command": "add_remote_candidates", "peer_id": name, "candidates": candidates,
                });
                self.signals
                    .push_back((self.now + 2 * ONE_WAY, 1 - host, command));
            }
        }
        result
    }

    fn post(&mut self, datagrams: Vec<Datagram>) {
        let own: BTreeSet<IpAddr> = HOSTS.iter().map(|text| address(text).ip()).collect();
        for datagram in datagrams {
            let is_direct = own.contains(&datagram.from.ip()) && own.contains(&datagram.to.ip());
            if is_direct && !self.direct {
                continue;
            }
            self.sent += 1;
            self.in_flight
                .insert((self.now + ONE_WAY, self.sent), datagram);
        }
    }

    fn set_up(&mut self, host: usize) {
        let (ipv4, ipv6) = tunnel_addresses(host);
        self.apply(
            host,
            json!({"command": "set_addresses", "ipv4": ipv4, "ipv6": ipv6}),
        );
        let expiry = UNIX.as_secs() + 86_400;
        let salt = format!("{}{}", self.name(host), self.generation);
        let digest = Sha256::digest(format!("{expiry}:{STAMP_SECRET}:{salt}"));
        self.apply(
            host,
            json!({"command": "set_relays", "removed": [], "replace_all": true, "relays": [{
                "id": "relay", "addresses": [RELAY], "username": format!("{expiry}:{salt}"),
                "password": STANDARD_NO_PAD.encode(digest),
            }]}),
        );
    }
}

impl Host {
    fn new(host: usize, role: Role, generation: u8, epoch: Instant) -> Self {
        let mut key = [generation; 32];
        // Not the first byte: clamping clears its low bits (RFC 7748 §5), and both hosts would have one key.
        key[1] = host as u8;
        Self {
            role,
            engine: TunnelEngine::new(
                role,
                EngineConfig {
                    private_key: key,
                    seed: [host as u8 * 16 + generation; 32],
                    epoch,
                    unix_at_epoch: UNIX,
                },
            ),
            address: {
                // A restarted process is behind a new port, as after a reset.
                let mut address = address(HOSTS[host]);
                address.set_port(address.port() + u16::from(generation));
                address
            },
            key: Key(key),
            tun: Packets::default(),
            events: Vec::new(),
            alive: true,
        }
    }
}

fn tunnel_addresses(host: usize) -> (&'static str, &'static str) {
    [(CLIENT_V4, CLIENT_V6), (GATEWAY_V4, GATEWAY_V6)][host]
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
