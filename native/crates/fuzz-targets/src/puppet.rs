//! A genuine peer that does what the script says: the paths and keys are real, what it sends inside is arbitrary.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use wardgate_connect::{
    IceCredentials, Inbound, Node, NodeEvent, Path, PeerConfig, Profile, RelayConfig,
};
use wardgate_wireguard::{
    DATA_HEADER_SIZE, Keys, MessageKind, PresharedKey, PrivateKey, PublicKey, TAG_SIZE, Timers,
    TimestampClock, Tunnel, TunnelConfig, classify,
};

use crate::world::{End, UNIX, Wire, relay_address, relay_credentials};

pub const PEER: u32 = 2;
pub const PRESHARED_KEY: [u8; 32] = [9; 32];
const RELAY: u32 = 1;
/// Packets opened that are kept.
const OPENED: usize = 64;

pub struct Puppet {
    pub node: Node<u32>,
    pub opened: Vec<Vec<u8>>,
    end: usize,
    controlling: bool,
    tunnel: Option<Tunnel>,
    path: Option<Path<u32>>,
    candidates: Vec<String>,
}

/// The private key of an end's tunnel.
pub fn private_key(end: usize) -> [u8; 32] {
    [end as u8 + 1; 32]
}

pub fn public_key(end: usize) -> PublicKey {
    PrivateKey::new(private_key(end)).public_key()
}

/// What an end shows and expects in connectivity checks.
pub fn ice(end: usize) -> IceCredentials {
    IceCredentials {
        username: ["left", "rite"][end].to_owned(),
        password: ["password-of-the-left-end", "password-of-the-right-one"][end].to_owned(),
    }
}

impl Puppet {
    /// An end that knows the relay and nobody else.
    pub fn new(end: usize, controlling: bool, now: Instant) -> Self {
        let mut node = Node::new([end as u8 + 40; 32]);
        let (username, password) = relay_credentials(["left", "right"][end]);
        let relay = RelayConfig {
            id: RELAY,
            addresses: vec![relay_address()],
            username,
            password,
        };
        node.set_relays(vec![relay], &[], true, now);
        Self {
            node,
            opened: Vec::new(),
            end,
            controlling,
            tunnel: None,
            path: None,
            candidates: Vec::new(),
        }
    }

    /// Get to know the other end.
    pub fn meet(&mut self, now: Instant, wire: &mut Wire) {
        let config = PeerConfig {
            local_ice: ice(self.end),
            remote_ice: ice(1 - self.end),
            controlling: self.controlling,
            profile: if self.controlling {
                Profile::Client
            } else {
                Profile::Server
            },
        };
        // Refused while no relay has answered: then there is nothing to do, as in life.
        let _ = self.node.upsert_peer(PEER, config, now);
        self.drain(now, wire);
    }

    /// Have a tunnel to the other end.
    pub fn make_tunnel(&mut self, now: Instant) {
        let keys = Arc::new(Keys::new(PrivateKey::new(private_key(self.end))));
        let config = TunnelConfig {
            keys,
            peer: public_key(1 - self.end),
            preshared_key: PresharedKey::new(PRESHARED_KEY),
            index: 7,
            timers: Timers::CLASSIC,
            seed: [77; 32],
            clock: TimestampClock::new(now, UNIX),
        };
        self.tunnel = Some(Tunnel::new(config, now));
    }

    pub fn initiate(&mut self, now: Instant, wire: &mut Wire) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.initiate(now);
        }
        self.drain(now, wire);
    }

    /// Send any bytes through the tunnel, if there is a session.
    pub fn seal(&mut self, packet: &[u8], now: Instant, wire: &mut Wire) {
        let mut message = vec![0; DATA_HEADER_SIZE];
        message.extend_from_slice(packet);
        message.resize(message.len() + TAG_SIZE, 0);
        let tunnel = self.tunnel.as_mut();
        let sealed = tunnel.is_some_and(|tunnel| tunnel.seal(&mut message, now).is_ok());
        if sealed {
            self.send(&message, wire);
        }
        self.drain(now, wire);
    }

    pub fn drain(&mut self, now: Instant, wire: &mut Wire) {
        while let Some(event) = self.node.poll_event() {
            match event {
                NodeEvent::CandidatesAdded { candidates, .. } => self.candidates.extend(candidates),
                NodeEvent::PathSelected { path, .. } => {
                    if self.path.is_none()
                        && self.controlling
                        && let Some(tunnel) = &mut self.tunnel
                    {
                        tunnel.initiate(now);
                    }
                    self.path = Some(path);
                }
                NodeEvent::PathFailed { .. } => self.path = None,
                NodeEvent::CandidatesRemoved { .. }
                | NodeEvent::RelayUp { .. }
                | NodeEvent::RelayLost { .. }
                | NodeEvent::NoRelays => {}
            }
        }
        // What it has to say before there is a path waits for one.
        while self.path.is_some()
            && let Some(message) = self.tunnel.as_mut().and_then(Tunnel::poll_transmit)
        {
            self.send(&message, wire);
        }
        while self.tunnel.as_mut().and_then(Tunnel::poll_event).is_some() {}
        while let Some(transmit) = self.node.poll_transmit() {
            wire.send(transmit.local, transmit.remote, &transmit.payload);
        }
    }

    fn send(&mut self, message: &[u8], wire: &mut Wire) {
        let Some(path) = self.path else {
            return;
        };
        let mut datagram = Vec::new();
        if let Some(channel) = path.channel {
            datagram.extend_from_slice(&channel.to_be_bytes());
            datagram.extend_from_slice(&(message.len() as u16).to_be_bytes());
        }
        datagram.extend_from_slice(message);
        wire.send(path.local, path.send_to, &datagram);
    }
}

impl End for Puppet {
    fn receive(
        &mut self,
        from: SocketAddr,
        local: SocketAddr,
        stride: usize,
        payload: &mut [u8],
        now: Instant,
        out: &mut Wire,
    ) {
        for datagram in payload.chunks_mut(stride.max(1)) {
            let inbound = self.node.handle_datagram(from, local, datagram, now);
            let Inbound::Wireguard { offset, .. } = inbound else {
                continue;
            };
            assert!(offset == 0 || (offset == 4 && datagram.len() >= 4));
            let (message, Some(tunnel)) = (&mut datagram[offset..], &mut self.tunnel) else {
                continue;
            };
            if classify(message) != Some(MessageKind::Data) {
                let _ = tunnel.handle_handshake(message, now);
            } else if let Ok(packet) = tunnel.open(message, now)
                && !packet.is_empty()
                && self.opened.len() < OPENED
            {
                self.opened.push(packet.to_vec());
            }
        }
        self.drain(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Wire) {
        self.node.handle_timeout(now);
        if let Some(tunnel) = &mut self.tunnel
            && tunnel.poll_timeout().is_some_and(|at| at <= now)
        {
            tunnel.handle_timeout(now);
        }
        self.drain(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let tunnel = self.tunnel.as_ref().and_then(Tunnel::poll_timeout);
        [self.node.poll_timeout(), tunnel]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_candidates(&mut self) -> Vec<String> {
        std::mem::take(&mut self.candidates)
    }

    fn add_candidates(&mut self, candidates: &[String], now: Instant, out: &mut Wire) {
        for candidate in candidates {
            self.node.add_remote_candidate(PEER, candidate, now);
        }
        self.drain(now, out);
    }
}
