//! The least TURN server that a peer accepts: signed errors, both families in one allocation, channels.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use wardgate_stun::{
    ChannelData, Class, Integrity, IntegrityKey, Message, MessageBuilder, Method, Shape,
    channel_header, shape,
};

pub const PASSWORD: &str = "relay-password";
const REALM: &str = "firezone";
const LIFETIME_S: u32 = 600;

pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

#[derive(Debug, Default)]
struct Allocation {
    relayed: Vec<SocketAddr>,
    channels: BTreeMap<u16, SocketAddr>,
    server: Option<SocketAddr>,
}

#[derive(Debug)]
pub struct TurnServer {
    pub addresses: Vec<SocketAddr>,
    pub dead: bool,
    pub nonce: String,
    pub requests: Vec<Method>,
    /// Payloads forwarded in either direction.
    pub forwarded: usize,
    allocations: BTreeMap<SocketAddr, Allocation>,
    next_port: u16,
}

impl TurnServer {
    pub fn new(addresses: &[&str]) -> Self {
        Self {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            dead: false,
            nonce: "nonce-0".into(),
            requests: Vec::new(),
            forwarded: 0,
            allocations: BTreeMap::new(),
            next_port: 50_000,
        }
    }

    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|address| address.ip())
    }

    /// Lose all state, as by a restart.
    pub fn restart(&mut self) {
        self.allocations.clear();
        self.nonce.push('+');
    }

    pub fn handle(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<Datagram> {
        if self.dead {
            return Vec::new();
        }
        if !self.addresses.contains(&to) {
            return self.forward_inward(from, to, payload).into_iter().collect();
        }
        match shape(payload) {
            Some(Shape::Stun) => {
                let answer = Message::parse(payload)
                    .ok()
                    .and_then(|message| self.answer(&message, from, to));
                answer
                    .map(|answer| (to, from, answer))
                    .into_iter()
                    .collect()
            }
            Some(Shape::ChannelData) => self.forward_outward(from, payload).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn answer(
        &mut self,
        message: &Message<'_>,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<Vec<u8>> {
        if message.class() != Class::Request {
            return None;
        }
        let method = message.method();
        self.requests.push(method);
        let success = MessageBuilder::new(Class::Success, method, message.transaction_id());
        if method == Method::BINDING {
            return Some(success.xor_mapped_address(from).finish());
        }
        let key = IntegrityKey::long_term(message.username()?, REALM, PASSWORD);
        let error = |code| {
            let error = MessageBuilder::new(Class::Error, method, message.transaction_id())
                .error_code(code, "no");
            Some(error.realm(REALM).nonce(&self.nonce).sign(&key).finish())
        };
        if message.integrity(&key) != Integrity::Valid || message.nonce().is_none() {
            return error(401);
        }
        if message.nonce() != Some(&self.nonce) {
            return error(438);
        }
        match method {
            Method::ALLOCATE if self.allocations.contains_key(&from) => error(437),
            Method::ALLOCATE => {
                self.next_port += 1;
                let relayed: Vec<SocketAddr> = self
                    .ips()
                    .map(|ip| SocketAddr::new(ip, self.next_port))
                    .collect();
                let answer = relayed.iter().fold(success, |answer, address| {
                    answer.xor_relayed_address(*address)
                });
                let allocation = Allocation {
                    relayed,
                    channels: BTreeMap::new(),
                    server: Some(to),
                };
                self.allocations.insert(from, allocation);
                Some(
                    answer
                        .lifetime(LIFETIME_S)
                        .xor_mapped_address(from)
                        .sign(&key)
                        .finish(),
                )
            }
            Method::REFRESH if !self.allocations.contains_key(&from) => error(437),
            Method::REFRESH => {
                let lifetime = message.lifetime().unwrap_or(LIFETIME_S);
                if lifetime == 0 {
                    self.allocations.remove(&from);
                }
                Some(success.lifetime(lifetime).sign(&key).finish())
            }
            Method::CHANNEL_BIND => match self.allocations.get_mut(&from) {
                None => error(437),
                Some(allocation) => {
                    let (number, peer) = (message.channel_number()?, message.xor_peer_address()?);
                    allocation.channels.insert(number, peer);
                    Some(success.sign(&key).finish())
                }
            },
            _ => error(400),
        }
    }

    fn forward_outward(&mut self, from: SocketAddr, payload: &[u8]) -> Option<Datagram> {
        let data = ChannelData::parse_exact(payload)?;
        let allocation = self.allocations.get(&from)?;
        let peer = *allocation.channels.get(&data.number)?;
        let source = *allocation
            .relayed
            .iter()
            .find(|relayed| relayed.is_ipv4() == peer.is_ipv4())?;
        self.forwarded += 1;
        Some((source, peer, data.payload.to_vec()))
    }

    fn forward_inward(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
    ) -> Option<Datagram> {
        let (client, allocation) = self
            .allocations
            .iter()
            .find(|(_, allocation)| allocation.relayed.contains(&to))?;
        let (number, _) = allocation
            .channels
            .iter()
            .find(|(_, peer)| **peer == from)?;
        let mut framed = channel_header(*number, payload.len() as u16).to_vec();
        framed.extend_from_slice(payload);
        self.forwarded += 1;
        Some((allocation.server?, *client, framed))
    }
}
