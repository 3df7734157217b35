//! The relay engine that ships, on the simulated network.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use wardgate_datapath::Outbox;
use wardgate_datapath::relay::{PeerRules, RelayConfig, RelayEngine, RelayPorts};
use wardgate_stun::{Class, Message, Method};

const STAMP_SECRET: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";
const UNIX_AT_START_S: u64 = 1_800_000_000;
const EXPIRY_S: u64 = 1_900_000_000;

pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

pub struct Relay {
    pub addresses: Vec<SocketAddr>,
    pub dead: bool,
    pub requests: Vec<Method>,
    engine: RelayEngine,
    start: Instant,
    restarts: u8,
}

impl Relay {
    pub fn new(addresses: &[&str], start: Instant) -> Self {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        let engine = engine(&addresses, start, 0);
        Self {
            addresses,
            dead: false,
            requests: Vec::new(),
            engine,
            start,
            restarts: 0,
        }
    }

    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|address| address.ip())
    }

    /// User name and password for a peer, as the portal derives them (relay §3.2).
    pub fn credentials(salt: &str) -> (String, String) {
        let digest = Sha256::digest(format!("{EXPIRY_S}:{STAMP_SECRET}:{salt}"));
        (format!("{EXPIRY_S}:{salt}"), STANDARD_NO_PAD.encode(digest))
    }

    /// Lose all state but the secret.
    pub fn restart(&mut self) {
        self.restarts += 1;
        self.engine = engine(&self.addresses, self.start, self.restarts);
    }

    /// Datagrams forwarded in either direction.
    pub fn forwarded(&self) -> u64 {
        self.engine.stats().relayed_packets
    }

    pub fn handle(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> Vec<Datagram> {
        if self.dead {
            return Vec::new();
        }
        if let Ok(message) = Message::parse(payload)
            && message.class() == Class::Request
            && self.addresses.contains(&to)
        {
            self.requests.push(message.method());
        }
        let mut wire = Wire(Vec::new());
        self.engine
            .handle_network(from, to, 0, payload.len(), payload, now, &mut wire);
        wire.0
    }
}

fn engine(addresses: &[SocketAddr], start: Instant, seed: u8) -> RelayEngine {
    let ips = || addresses.iter().map(SocketAddr::ip);
    RelayEngine::new(RelayConfig {
        stamp_secret: STAMP_SECRET.into(),
        ipv4: ips().find_map(|ip| {
            if let IpAddr::V4(v4) = ip {
                Some(v4)
            } else {
                None
            }
        }),
        ipv6: ips().find_map(|ip| {
            if let IpAddr::V6(v6) = ip {
                Some(v6)
            } else {
                None
            }
        }),
        port: 3478,
        allocation_ports: 49_152..=65_535,
        peer_rules: PeerRules::default(),
        seed: [seed; 32],
        epoch: start,
        unix_at_epoch: Duration::from_secs(UNIX_AT_START_S),
    })
}

struct Wire(Vec<Datagram>);

impl Outbox for Wire {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        _: u8,
        len: usize,
    ) -> &mut [u8] {
        self.0.push((local.unwrap(), remote, vec![0; len]));
        &mut self.0.last_mut().unwrap().2
    }

    fn rollback(&mut self) {
        self.0.pop();
    }
}

/// Every address of a relay exists on the simulated network.
impl RelayPorts for Wire {
    fn open(&mut self, _: SocketAddr) -> bool {
        true
    }

    fn close(&mut self, _: SocketAddr) {}
}
