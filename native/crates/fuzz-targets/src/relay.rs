//! The relay, with two clients that have credentials and anybody who has none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wardgate_datapath::relay::RelayEngine;
use wardgate_stun::{
    AttributeType, Class, IntegrityKey, Message, MessageBuilder, Method, TransactionId,
    channel_header,
};

use crate::epoch;
use crate::input::Input;
use crate::world::{
    Datagram, RELAY_V4, STRANGER, Wire, host_address, new_relay, relay_address, relay_credentials,
};

const REALM: &str = "firezone";
const CLIENTS: usize = 2;
/// Ports that [`new_relay`] allocates from.
const FIRST_PORT: u16 = 50_000;
const PORTS: u16 = 10;
/// What one datagram may bring about, beyond what it carries: an answer, or a header.
const ANSWER: usize = 400;

/// The input is a script of datagrams, requests that the clients sign, and time. Who is not authenticated gets no allocation
/// and no large answer, the ports opened are those allocated, and nothing goes to an address that is never a peer.
pub fn relay(input: &[u8]) -> bool {
    let mut script = Input::new(input);
    let mut server = Server::new();
    while let Some(step) = script.step() {
        match step % 8 {
            0 => {
                let (from, stride) = (sender(script.byte()), script.short());
                server.receive(from, relay_address(), stride, script.bytes());
            }
            1 => {
                let (from, port) = (sender(script.byte()), u16::from(script.byte()) % PORTS);
                let to = SocketAddr::from((RELAY_V4, FIRST_PORT + port));
                let stride = script.short();
                server.receive(from, to, stride, script.bytes());
            }
            2 => server.advance(script.byte()),
            3 => server.allocate(script.byte()),
            4 => {
                let (client, number) = (script.byte(), u16::from(script.byte() % 4));
                let peer = peer(script.byte());
                server.request(client, Method::CHANNEL_BIND, |request| {
                    request
                        .channel_number(0x4000 + number)
                        .xor_peer_address(peer)
                });
            }
            5 => {
                let (client, lifetime) = (script.byte(), script.short());
                server.request(client, Method::REFRESH, |request| {
                    request.lifetime(lifetime.into())
                });
            }
            6 => {
                let (client, number) = (script.byte(), u16::from(script.byte() % 4));
                let payload = script.bytes();
                let header = channel_header(0x4000 + number, payload.len() as u16);
                let frame = [&header[..], payload].concat();
                server.receive(
                    host_address(usize::from(client) % CLIENTS),
                    relay_address(),
                    0,
                    &frame,
                );
            }
            _ => {
                let (client, method) = (script.byte(), Method(u16::from(script.byte() % 16)));
                let (kind, value) = (AttributeType(script.short()), script.bytes());
                server.request(client, method, |request| request.attribute(kind, value));
            }
        }
    }
    server.understood
}

struct Server {
    now: Instant,
    engine: RelayEngine,
    wire: Wire,
    nonces: [String; CLIENTS],
    requests: u64,
    understood: bool,
}

impl Server {
    fn new() -> Self {
        let now = epoch();
        Self {
            now,
            engine: new_relay(now),
            wire: Wire::new(relay_address()),
            nonces: Default::default(),
            requests: 0,
            understood: false,
        }
    }

    fn allocate(&mut self, client: u8) {
        self.request(client, Method::ALLOCATE, |request| {
            request.requested_transport(17)
        });
    }

    /// Send a signed request; if it had no good nonce, once more with the one that came back.
    fn request(
        &mut self,
        client: u8,
        method: Method,
        fill: impl Fn(MessageBuilder) -> MessageBuilder,
    ) {
        let client = usize::from(client) % CLIENTS;
        for _ in 0..2 {
            self.requests += 1;
            let mut id = [client as u8; 12];
            id[4..].copy_from_slice(&self.requests.to_be_bytes());
            let (username, password) = relay_credentials(["one", "two"][client]);
            let key = IntegrityKey::long_term(&username, REALM, &password);
            let request = fill(MessageBuilder::new(
                Class::Request,
                method,
                TransactionId(id),
            ))
            .username(&username)
            .realm(REALM)
            .nonce(&self.nonces[client])
            .sign(&key)
            .finish();
            let answers = self.handle(host_address(client), relay_address(), 0, &request);
            let refreshed = answers.iter().find_map(|answer| {
                let message = Message::parse(&answer.payload).ok()?;
                self.understood |= message.class() == Class::Success;
                matches!(message.error_code()?.code, 401 | 438)
                    .then(|| message.nonce().map(str::to_owned))?
            });
            match refreshed {
                Some(nonce) if nonce != self.nonces[client] => self.nonces[client] = nonce,
                _ => break,
            }
        }
        assert!(
            self.engine.stats().allocations <= CLIENTS as u64,
            "one for each client"
        );
    }

    /// A datagram that nobody signed here: it may repeat what a client sent, no more.
    fn receive(&mut self, from: SocketAddr, to: SocketAddr, stride: u16, bytes: &[u8]) {
        let allocations = self.engine.stats().allocations;
        let sent: usize = self
            .handle(from, to, stride.into(), bytes)
            .iter()
            .map(|datagram| datagram.payload.len())
            .sum();
        let datagrams = bytes.len().div_ceil(if stride == 0 {
            bytes.len().max(1)
        } else {
            stride.into()
        });
        assert!(
            sent <= bytes.len() + ANSWER * datagrams,
            "an answer is bounded by what was asked"
        );
        assert!(self.engine.stats().allocations <= allocations);
    }

    fn advance(&mut self, tens_of_seconds: u8) {
        self.now += Duration::from_secs(u64::from(tens_of_seconds) * 10);
        self.engine.handle_timeout(self.now, &mut self.wire);
        assert!(
            self.engine.poll_timeout().is_none_or(|at| at > self.now),
            "all that is due was done"
        );
        self.check();
    }

    fn handle(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        stride: usize,
        bytes: &[u8],
    ) -> Vec<Datagram> {
        self.engine
            .handle_network(from, to, 0, stride, bytes, self.now, &mut self.wire);
        self.check();
        std::mem::take(&mut self.wire.datagrams)
    }

    fn check(&self) {
        assert_eq!(self.wire.open.len() as u64, self.engine.stats().allocations);
        for datagram in &self.wire.datagrams {
            let (local, remote) = (datagram.from, datagram.to);
            assert!(
                local == relay_address() || self.wire.open.contains(&local),
                "{local}"
            );
            assert!(
                remote.port() != 0 && !remote.ip().is_loopback() && !remote.ip().is_multicast(),
                "{remote}"
            );
            assert!(
                local == relay_address() || remote != relay_address(),
                "to itself"
            );
        }
    }
}

/// Anybody may forge a source address.
fn sender(choice: u8) -> SocketAddr {
    match choice % 4 {
        choice @ (0 | 1) => host_address(choice.into()),
        2 => STRANGER,
        _ => peer(0),
    }
}

/// Peers as clients name them: good ones, each other's allocations, and those that no relay sends to.
fn peer(choice: u8) -> SocketAddr {
    match choice % 8 {
        0 => SocketAddr::from(([203, 0, 113, 9], 9)),
        1 => SocketAddr::from(([203, 0, 113, 9], 1009)),
        2 => SocketAddr::from(([10, 0, 0, 1], 52625)),
        3 => SocketAddr::from((RELAY_V4, FIRST_PORT + u16::from(choice / 8) % PORTS)),
        4 => relay_address(),
        5 => SocketAddr::from(([127, 0, 0, 1], 4000)),
        6 => SocketAddr::from(([224, 0, 0, 1], 4000)),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 3478)),
    }
}
