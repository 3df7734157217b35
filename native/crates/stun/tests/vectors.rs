//! Messages of other implementations and of the standard: what we decode from them, and that we encode the same bytes.
#![allow(clippy::unwrap_used)] // vectors are ours: a broken one is to fail loudly

use serde_json::Value;
use std::net::SocketAddr;
use wardgate_stun::{
    AddressFamily, AttributeType, ChannelData, Class, Integrity, IntegrityKey, Message,
    MessageBuilder, Method, TRANSPORT_UDP, TransactionId, channel_header,
};

const RFC5769: &str = include_str!("../../../../tests/vectors/stun/rfc5769.json");
const RELAY: &str = include_str!("../../../../tests/vectors/stun/relay.json");
const CAPTURED: &str = include_str!("../../../../tests/vectors/stun/captured.json");

#[test]
fn the_samples_of_rfc_5769_decode_and_verify() {
    for vector in datagrams(RFC5769) {
        let id = &vector["id"];
        let bytes = hex(&vector["datagram"]);
        let message = Message::parse(&bytes).unwrap();
        message.validate().unwrap();
        assert_eq!(
            message.integrity(&key(&vector["key"])),
            Integrity::Valid,
            "{id}"
        );
        assert_eq!(
            message.has_valid_fingerprint(),
            vector["fingerprint"],
            "{id}"
        );
        assert_eq!(message.username(), vector["username"].as_str(), "{id}");
        assert_eq!(message.software(), vector["software"].as_str(), "{id}");
        let mapped: Option<SocketAddr> =
            vector["mapped"].as_str().map(|text| text.parse().unwrap());
        assert_eq!(message.xor_mapped_address(), mapped, "{id}");
    }
}

#[test]
fn a_wrong_password_does_not_verify() {
    let vector = &datagrams(RFC5769)[0];
    let bytes = hex(&vector["datagram"]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        message.integrity(&IntegrityKey::short_term("wrong")),
        Integrity::Wrong
    );
}

#[test]
fn a_turn_session_with_a_relay_is_encoded_as_specified() {
    let vectors: Value = serde_json::from_str(RELAY).unwrap();
    let text = |name: &str| vectors[name].as_str().unwrap();
    let key = IntegrityKey::long_term(text("username"), "firezone", text("password"));
    let (username, nonce, software) = (text("username"), text("nonce"), text("software"));
    let relay: Vec<SocketAddr> = [0, 1]
        .map(|n| vectors["relay"][n].as_str().unwrap().parse().unwrap())
        .into();
    let client: SocketAddr = text("client").parse().unwrap();
    let relayed = |n: usize| {
        SocketAddr::new(
            relay[n].ip(),
            vectors["allocation_port"].as_u64().unwrap() as u16,
        )
    };
    let start = |class, method, id: u8| MessageBuilder::new(class, method, TransactionId([id; 12]));
    let allocate = |id| {
        start(Class::Request, Method::ALLOCATE, id)
            .requested_transport(TRANSPORT_UDP)
            .additional_address_family(AddressFamily::V6)
            .software("example-client")
            .username(username)
            .realm("firezone")
    };
    let mut hello = channel_header(0x4000, 5).to_vec();
    hello.extend_from_slice(b"hello");
    let ours = [
        ("A1", allocate(1).sign(&key).finish()),
        (
            "A2",
            start(Class::Error, Method::ALLOCATE, 1)
                .software(software)
                .error_code(401, "Unauthorized")
                .realm("firezone")
                .nonce(nonce)
                .sign(&key)
                .finish(),
        ),
        ("A3", allocate(2).nonce(nonce).sign(&key).finish()),
        (
            "A4",
            start(Class::Success, Method::ALLOCATE, 2)
                .software(software)
                .xor_relayed_address(relayed(0))
                .xor_relayed_address(relayed(1))
                .xor_mapped_address(client)
                .lifetime(600)
                .sign(&key)
                .finish(),
        ),
        (
            "A5",
            start(Class::Request, Method::CHANNEL_BIND, 3)
                .xor_peer_address("192.0.2.9:52625".parse().unwrap())
                .channel_number(0x4000)
                .username(username)
                .realm("firezone")
                .nonce(nonce)
                .sign(&key)
                .finish(),
        ),
        (
            "A6",
            start(Class::Success, Method::CHANNEL_BIND, 3)
                .software(software)
                .sign(&key)
                .finish(),
        ),
        (
            "A8",
            start(Class::Success, Method::BINDING, 4)
                .software(software)
                .xor_mapped_address(client)
                .finish(),
        ),
        ("A9", hello),
    ];
    for ((id, bytes), vector) in ours.iter().zip(datagrams(RELAY)) {
        assert_eq!(vector["id"], *id);
        assert_eq!(*bytes, hex(&vector["datagram"]), "{id}");
    }
    assert_eq!(ours.len(), datagrams(RELAY).len());
}

#[test]
fn captured_messages_decode_and_their_signatures_verify_under_the_peers_credentials() {
    let mut signed = 0;
    let mut keys = std::collections::HashMap::new();
    let vectors = datagrams(CAPTURED);
    for vector in &vectors {
        let bytes = hex(&vector["datagram"]);
        let id = vector["id"].as_str().unwrap();
        let kind = vector["message"].as_str().unwrap();
        if kind == "channel data" {
            let frame = ChannelData::parse_exact(&bytes).unwrap();
            let inner = Message::parse(frame.payload).unwrap();
            inner.validate().unwrap();
            assert!(inner.has_valid_fingerprint(), "{id}: a connectivity check");
            continue;
        }
        let message = Message::parse(&bytes).unwrap();
        message.validate().unwrap();
        assert_eq!(described(&message), kind, "{id}");
        let peer = if vector["from"] == "203.0.113.11:3478" {
            &vector["to"]
        } else {
            &vector["from"]
        };
        if let Some(username) = message.username() {
            let secrets: Value = serde_json::from_str(CAPTURED).unwrap();
            let secret = secrets["stamp_secrets"][vector["scene"].as_str().unwrap()]
                .as_str()
                .unwrap()
                .to_owned();
            keys.insert(
                format!("{}{peer}", vector["scene"]),
                (username.to_owned(), secret),
            );
        }
        if message.has_integrity() {
            let (username, secret) = &keys[&format!("{}{peer}", vector["scene"])];
            let (expiry, salt) = username.split_once(':').unwrap();
            let key = IntegrityKey::long_term(
                username,
                "firezone",
                &stamp_password(expiry, secret, salt),
            );
            assert_eq!(message.integrity(&key), Integrity::Valid, "{id}");
            signed += 1;
        }
    }
    assert!(
        signed >= 30,
        "only {signed} of {} captured messages were signed",
        vectors.len()
    );
}

#[test]
fn captured_messages_encode_to_the_same_bytes_again() {
    for vector in datagrams(CAPTURED) {
        let bytes = hex(&vector["datagram"]);
        let Ok(message) = Message::parse(&bytes) else {
            continue;
        };
        let mut builder =
            MessageBuilder::new(message.class(), message.method(), message.transaction_id());
        for (kind, value) in message.attributes() {
            builder = match kind {
                AttributeType::XOR_MAPPED_ADDRESS => {
                    builder.xor_mapped_address(message.xor_mapped_address().unwrap())
                }
                AttributeType::XOR_PEER_ADDRESS => {
                    builder.xor_peer_address(message.xor_peer_address().unwrap())
                }
                AttributeType::LIFETIME => builder.lifetime(message.lifetime().unwrap()),
                AttributeType::CHANNEL_NUMBER => {
                    builder.channel_number(message.channel_number().unwrap())
                }
                AttributeType::ERROR_CODE => {
                    let error = message.error_code().unwrap();
                    builder.error_code(error.code, error.reason)
                }
                _ => builder.attribute(kind, value),
            };
        }
        assert_eq!(builder.finish(), bytes, "{}", vector["id"]);
    }
}

fn described(message: &Message<'_>) -> &'static str {
    match (message.class(), message.method()) {
        (Class::Request, Method::BINDING) => "binding request",
        (Class::Success, Method::BINDING) => "binding success",
        (Class::Request, Method::ALLOCATE) => "allocate request",
        (Class::Success, Method::ALLOCATE) => "allocate success",
        (Class::Error, Method::ALLOCATE) => "allocate error",
        (Class::Request, Method::CHANNEL_BIND) => "channel-bind request",
        (Class::Success, Method::CHANNEL_BIND) => "channel-bind success",
        other => panic!("unexpected {other:?}"),
    }
}

fn stamp_password(expiry: &str, secret: &str, salt: &str) -> String {
    use base64::Engine;
    use sha2::Digest;
    base64::engine::general_purpose::STANDARD_NO_PAD
        .encode(sha2::Sha256::digest(format!("{expiry}:{secret}:{salt}")))
}

fn datagrams(document: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(document).unwrap();
    document["datagrams"].as_array().unwrap().clone()
}

fn key(description: &Value) -> IntegrityKey {
    match description["short_term"].as_str() {
        Some(password) => IntegrityKey::short_term(password),
        None => {
            let part = |name: &str| description[name].as_str().unwrap();
            IntegrityKey::long_term(part("username"), part("realm"), part("password"))
        }
    }
}

fn hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
