use std::net::UdpSocket as StdUdpSocket;
use std::sync::atomic::{AtomicU16, Ordering};

use wardgate_stun::{
    CHANNEL_HEADER, ChannelData, Class, IntegrityKey, Message, MessageBuilder, Method,
    TRANSPORT_UDP, TransactionId, channel_header,
};

use super::*;

const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Two usernames that expire in 2038, with their passwords of SECRET by
/// `printf '%s' EXPIRY:SECRET:SALT | sha256sum | xxd -r -p | base64`.
const USERS: [(&str, &str); 2] = [
    (
        "2145916800:c2FsdA",
        "vMwjag93IazwKz2o+u9Xe1IfCf+n2vTVcd78I6EOap8",
    ),
    (
        "2145916800:b3RoZXI",
        "vbV4MTAehyCeTpo2LluHoYnv2u7k+njGYRcXxDuELgE",
    ),
];
const CHANNEL: u16 = 0x4000;

#[test]
fn tells_anybody_the_address_that_it_sees() {
    let relay = start(free_ports());
    let client = Client::new(&relay);
    let answer = client.ask(MessageBuilder::new(Class::Request, Method::BINDING, ID).finish());
    let answer = Message::parse(&answer).unwrap();
    assert_eq!(
        answer.xor_mapped_address(),
        Some(client.socket.local_addr().unwrap())
    );
}

#[test]
fn relays_both_ways_between_a_client_and_its_peer() {
    let relay = start(free_ports());
    let client = Client::new(&relay);
    let relayed = client.allocate().unwrap();
    let peer = socket();
    client.bind(CHANNEL, peer.local_addr().unwrap());

    for number in 0..20_u8 {
        let payload = [number; 900];
        let frame = [&channel_header(CHANNEL, 900)[..], &payload].concat();
        client.socket.send(&frame).unwrap();
    }
    for number in 0..20_u8 {
        let mut buffer = [0; 2_000];
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!(from, relayed);
        assert_eq!(buffer[..len], [number; 900]);
    }
    for number in 0..20_u8 {
        peer.send_to(&[number; 901], relayed).unwrap();
    }
    for number in 0..20_u8 {
        let frame = client.receive();
        let data = ChannelData::parse_exact(&frame).unwrap();
        assert_eq!(frame.len(), CHANNEL_HEADER + 901);
        assert_eq!((data.number, data.payload), (CHANNEL, &[number; 901][..]));
    }
    let stats = relay.stats().unwrap();
    let value = |name| stats.iter().find(|(found, _)| *found == name).unwrap().1;
    assert_eq!((value("allocations"), value("channels")), (1, 1));
    assert_eq!(value("relayed_packets"), 40);
    assert_eq!(value("udp_send_errors"), 0);
}

#[test]
fn a_port_that_somebody_else_holds_is_passed_over() {
    let ports = free_ports();
    let held = StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, *ports.start())).unwrap();
    let relay = start(ports.clone());
    let first = Client::new(&relay);
    assert_eq!(first.allocate().unwrap().port(), *ports.end());
    let second = Client {
        user: USERS[1],
        ..Client::new(&relay)
    };
    assert_eq!(second.allocate(), Err(508), "no port is left");
    drop(held);
    assert_eq!(second.allocate().unwrap().port(), *ports.start());
}

#[test]
fn the_port_of_an_allocation_that_ended_is_free_again() {
    let relay = start(free_ports());
    let client = Client::new(&relay);
    let relayed = client.allocate().unwrap();
    let bind = || StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, relayed.port()));
    assert!(bind().is_err());
    let end = |message: MessageBuilder| message.lifetime(0);
    assert_eq!(client.request(Method::REFRESH, end).1, None);
    assert!(bind().is_ok());
}

#[test]
fn allocations_leave_the_process_descriptors_of_its_own() {
    let relay = RelayHost::start(RelayHostConfig {
        max_sockets: 1,
        ..config(free_ports())
    })
    .unwrap();
    let first = Client::new(&relay);
    first.allocate().unwrap();
    let second = Client {
        user: USERS[1],
        ..Client::new(&relay)
    };
    assert_eq!(second.allocate(), Err(508));
    assert_eq!(second.allocate(), Err(508));
    let warnings = relay.take_news().warnings;
    let told: Vec<&String> = warnings
        .iter()
        .filter(|warning| warning.contains("LimitNOFILE"))
        .collect();
    assert_eq!(told.len(), 1, "{warnings:?}");
    let stats = relay.stats().unwrap();
    let value = |name| stats.iter().find(|(found, _)| *found == name).unwrap().1;
    assert_eq!((value("sockets"), value("sockets_most")), (1, 1));
    assert_eq!(value("allocations_refused"), 2);
    assert!(value("sockets_refused") >= 2);
    let end = |message: MessageBuilder| message.lifetime(0);
    assert_eq!(first.request(Method::REFRESH, end).1, None);
    second.allocate().unwrap();
}

#[test]
fn a_draining_relay_grants_nothing_new() {
    let relay = start(free_ports());
    relay.drain().unwrap();
    assert_eq!(Client::new(&relay).allocate(), Err(508));
}

#[test]
fn a_closed_relay_answers_that_it_has_stopped() {
    let relay = RelayHost::start(RelayHostConfig {
        port: *free_ports().start(),
        ..config(free_ports())
    })
    .unwrap();
    relay.close();
    relay.close();
    assert_eq!(relay.stats(), Err(NoAnswer::Stopped));
    assert!(StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, relay.local_port())).is_ok());
}

#[test]
fn addresses_of_the_machine_that_are_not_announced_are_no_peers() {
    let announced = Ipv4Addr::new(192, 0, 2, 1);
    let inner = inner_addresses(Some(announced), None);
    assert!(inner.contains(&Ipv4Addr::LOCALHOST.into()));
    assert!(!inner.contains(&announced.into()));
    assert!(inner_addresses(Some(Ipv4Addr::LOCALHOST), None).is_empty());
}

#[test]
fn a_relay_without_a_public_address_does_not_start() {
    let config = RelayHostConfig {
        ipv4: None,
        ..config(free_ports())
    };
    let error = RelayHost::start(config).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

const ID: TransactionId = TransactionId([9; 12]);

fn start(ports: RangeInclusive<u16>) -> RelayHost {
    RelayHost::start(config(ports)).unwrap()
}

fn config(allocation_ports: RangeInclusive<u16>) -> RelayHostConfig {
    RelayHostConfig {
        stamp_secret: SECRET.to_owned(),
        ipv4: Some(Ipv4Addr::LOCALHOST),
        ipv6: None,
        port: 0,
        allocation_ports,
        peer_rules: PeerRules::default(),
        max_sockets: 1_000,
    }
}

/// Two neighbouring ports that nobody holds, and that the operating system gives to nobody who asks for any.
fn free_ports() -> RangeInclusive<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(61_000);
    loop {
        let port = NEXT.fetch_add(2, Ordering::Relaxed);
        let is_free = |port| StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port..=port + 1;
        }
    }
}

fn socket() -> StdUdpSocket {
    let socket = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
}

struct Client {
    user: (&'static str, &'static str),
    socket: StdUdpSocket,
}

impl Client {
    fn new(relay: &RelayHost) -> Self {
        let socket = socket();
        socket
            .connect((Ipv4Addr::LOCALHOST, relay.local_port()))
            .unwrap();
        Self {
            user: USERS[0],
            socket,
        }
    }

    fn ask(&self, message: Vec<u8>) -> Vec<u8> {
        self.socket.send(&message).unwrap();
        self.receive()
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 2_000];
        let len = self.socket.recv(&mut buffer).unwrap();
        buffer.truncate(len);
        buffer
    }

    /// The relayed address, or the error code.
    fn allocate(&self) -> Result<SocketAddr, u16> {
        let (answer, error) = self.request(Method::ALLOCATE, |message| {
            message.requested_transport(TRANSPORT_UDP)
        });
        match error {
            Some(code) => Err(code),
            None => Ok(Message::parse(&answer)
                .unwrap()
                .xor_relayed_addresses()
                .next()
                .unwrap()),
        }
    }

    fn bind(&self, channel: u16, peer: SocketAddr) {
        let (_, error) = self.request(Method::CHANNEL_BIND, |message| {
            message.channel_number(channel).xor_peer_address(peer)
        });
        assert_eq!(error, None);
    }

    /// Ask with a fresh nonce; the answer and its error code.
    fn request(
        &self,
        method: Method,
        fill: impl Fn(MessageBuilder) -> MessageBuilder,
    ) -> (Vec<u8>, Option<u16>) {
        let (user, password) = self.user;
        let key = IntegrityKey::long_term(user, "firezone", password);
        let unsigned = || fill(MessageBuilder::new(Class::Request, method, ID)).username(user);
        let challenge = self.ask(unsigned().sign(&key).finish());
        let challenge = Message::parse(&challenge).unwrap();
        let message = unsigned()
            .realm("firezone")
            .nonce(challenge.nonce().unwrap())
            .sign(&key)
            .finish();
        let answer = self.ask(message);
        let code = Message::parse(&answer)
            .unwrap()
            .error_code()
            .map(|error| error.code);
        (answer, code)
    }
}
