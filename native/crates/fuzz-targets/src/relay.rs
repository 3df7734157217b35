//! The relay, with more clients than it has ports, and anybody who has no credentials.

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
const CLIENTS: usize = 12;
/// Ports that [`new_relay`] allocates from.
const FIRST_PORT: u16 = 50_000;
const PORTS: u16 = 10;
/// What one datagram may bring about, beyond what it carries: an answer, or a header.
const ANSWER: usize = 400;
/// Requests of a client at once that the relay answers, with some to spare: it holds its allocation by itself.
const OWN_REQUESTS: usize = 900;

/// The input is a script of datagrams, requests that the clients sign, and time. Who is not authenticated gets no allocation
/// and no large answer, the ports opened are those allocated, and nothing goes to an address that is never a peer.
pub fn relay(input: &[u8]) -> bool {
    let mut script = Input::new(input);
    let mut server = Server::new();
    while let Some(step) = script.step() {
        match step % 10 {
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
            3 => {
                server.allocate(script.byte());
            }
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
            8 => {
                let (client, port) = (script.byte(), script.byte());
                server.forge_bindings(client, port, usize::from(script.byte() % 16) * 100);
            }
            9 => {
                let (client, port) = (script.byte(), script.byte());
                let channel = 0x4000 + u16::from(script.byte() % 4);
                server.forge_channel_data(client, port, channel, script.bytes());
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
    /// What came from each client's address and port since its bucket was full.
    spent: [usize; CLIENTS],
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
            spent: [0; CLIENTS],
            requests: 0,
            understood: false,
        }
    }

    /// Whether the client holds an allocation afterwards.
    fn allocate(&mut self, client: u8) -> bool {
        let answer = self.request(client, Method::ALLOCATE, |request| {
            request.requested_transport(17)
        });
        matches!(
            answer,
            Some(Answer::Success | Answer::Error(ALLOCATION_MISMATCH))
        )
    }

    /// Somebody writes a client's address onto requests, though not its port: its own are answered all the same.
    fn forge_bindings(&mut self, client: u8, port: u8, count: usize) {
        let holds_allocation = self.allocate(client);
        let (index, forged) = (usize::from(client) % CLIENTS, forger_of(client, port));
        for number in 0..count {
            let mut id = [0xf0; 12];
            id[4..].copy_from_slice(&(number as u64).to_be_bytes());
            let binding = binding(TransactionId(id));
            self.handle(forged, relay_address(), 0, &binding);
        }
        if holds_allocation && self.spent[index] < OWN_REQUESTS {
            let keepalive = binding(TransactionId([0xee; 12]));
            let answers = self.handle(host_address(index), relay_address(), 0, &keepalive);
            assert_eq!(answers.len(), 1, "a client's keepalives are starved");
        }
    }

    /// A channel is its client's: who only writes the client's address sends nothing over it.
    fn forge_channel_data(&mut self, client: u8, port: u8, channel: u16, payload: &[u8]) {
        let header = channel_header(channel, payload.len() as u16);
        let frame = [&header[..], payload].concat();
        let sent = self.handle(forger_of(client, port), relay_address(), 0, &frame);
        assert!(sent.is_empty(), "{sent:?}");
    }

    /// Send a signed request; if it had no good nonce, once more with the one that came back. Returns the last answer.
    fn request(
        &mut self,
        client: u8,
        method: Method,
        fill: impl Fn(MessageBuilder) -> MessageBuilder,
    ) -> Option<Answer> {
        let client = usize::from(client) % CLIENTS;
        let mut last = None;
        for _ in 0..2 {
            self.requests += 1;
            let mut id = [client as u8; 12];
            id[4..].copy_from_slice(&self.requests.to_be_bytes());
            let (username, password) = relay_credentials(&salt(client));
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
                last = Some(match message.error_code() {
                    Some(error) => Answer::Error(error.code),
                    None => Answer::Success,
                });
                matches!(message.error_code()?.code, 401 | 438)
                    .then(|| message.nonce().map(str::to_owned))?
            });
            match refreshed {
                Some(nonce) if nonce != self.nonces[client] => self.nonces[client] = nonce,
                _ => break,
            }
        }
        assert!(
            self.engine.stats().allocations <= CLIENTS.min(PORTS.into()) as u64,
            "one for each client, as long as there are ports"
        );
        last
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
        if tens_of_seconds > 0 {
            self.spent = [0; CLIENTS];
        }
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
        if let Some(client) = (0..CLIENTS).find(|index| host_address(*index) == from) {
            self.spent[client] += bytes.len().div_ceil(stride.max(1)).max(1);
        }
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

#[derive(Clone, Copy)]
enum Answer {
    Success,
    Error(u16),
}

/// RFC 8656 §7.2: the client has an allocation.
const ALLOCATION_MISMATCH: u16 = 437;

fn binding(id: TransactionId) -> Vec<u8> {
    MessageBuilder::new(Class::Request, Method::BINDING, id).finish()
}

fn salt(client: usize) -> String {
    match client {
        0 => "one".to_owned(),
        1 => "two".to_owned(),
        other => format!("client-{other}"),
    }
}

/// A client's address with a port that is not the client's.
fn forger_of(client: u8, port: u8) -> SocketAddr {
    let own = host_address(usize::from(client) % CLIENTS);
    SocketAddr::new(own.ip(), own.port() + 1 + u16::from(port))
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
