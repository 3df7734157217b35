//! Whatever arrives, decoding ends, stays within the datagram, and tells silence from an error.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use wardgate_stun::{
    AttributeType, ChannelData, Class, Integrity, IntegrityKey, Malformed, Message, MessageBuilder,
    Method, TransactionId,
};

fn exercise(datagram: &[u8]) {
    let _ = ChannelData::parse(datagram);
    let _ = ChannelData::parse_exact(datagram);
    let Ok(message) = Message::parse(datagram) else {
        return;
    };
    let _ = (
        message.class(),
        message.method(),
        message.validate(),
        message.username(),
        message.realm(),
    );
    let _ = (
        message.nonce(),
        message.software(),
        message.error_code(),
        message.channel_number(),
        message.lifetime(),
    );
    let _ = (
        message.requested_transport(),
        message.requested_address_family(),
        message.additional_address_family(),
    );
    let _ = (
        message.xor_mapped_address(),
        message.xor_peer_address(),
        message.xor_relayed_addresses().count(),
    );
    let _ = (
        message.integrity(&IntegrityKey::short_term("key")),
        message.has_valid_fingerprint(),
    );
}

fn with_header(mut body: Vec<u8>) -> Vec<u8> {
    body.truncate(body.len() / 4 * 4);
    let mut datagram = vec![0, 3];
    datagram.extend_from_slice(&(body.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    datagram.extend_from_slice(&[7; 12]);
    datagram.extend_from_slice(&body);
    datagram
}

proptest! {
    #[test]
    fn arbitrary_datagrams_are_survived(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&datagram);
        exercise(&with_header(datagram));
    }

    #[test]
    fn arbitrary_values_of_known_attributes_are_survived(
        attributes in proptest::collection::vec(
            (prop_oneof![Just(6u16), Just(8), Just(9), Just(12), Just(13), Just(18), Just(20), Just(21), Just(22),
                Just(23), Just(25), Just(32), Just(0x8000), Just(0x8022), Just(0x8028)],
             proptest::collection::vec(any::<u8>(), 0..24)), 0..6),
    ) {
        let mut builder = MessageBuilder::new(Class::Request, Method::ALLOCATE, TransactionId([1; 12]));
        for (kind, value) in &attributes {
            builder = builder.attribute(AttributeType(*kind), value);
        }
        exercise(&builder.finish());
    }

    #[test]
    fn a_signed_message_verifies_until_any_covered_bit_flips(
        username in "[a-z0-9:]{1,40}", at in 0usize..400, bit in 0u8..8,
    ) {
        let key = IntegrityKey::short_term("secret");
        let mut datagram = MessageBuilder::new(Class::Request, Method::REFRESH, TransactionId([9; 12]))
            .username(&username).lifetime(600).sign(&key).finish();
        prop_assert_eq!(Message::parse(&datagram).unwrap().integrity(&key), Integrity::Valid);
        let at = at % datagram.len();
        datagram[at] ^= 1 << bit;
        if let Ok(message) = Message::parse(&datagram) {
            prop_assert_ne!(message.integrity(&key), Integrity::Valid);
        }
    }

    #[test]
    fn addresses_survive_encoding(address: std::net::IpAddr, port: u16, id: [u8; 12]) {
        let address = std::net::SocketAddr::new(address, port);
        let bytes = MessageBuilder::new(Class::Success, Method::ALLOCATE, TransactionId(id))
            .xor_relayed_address(address).xor_mapped_address(address).finish();
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.xor_mapped_address(), Some(address));
        prop_assert_eq!(message.xor_relayed_addresses().collect::<Vec<_>>(), vec![address]);
    }

    #[test]
    fn every_class_and_method_survives_encoding(method in 0u16..0x1000, class in 0usize..4) {
        let class = [Class::Request, Class::Indication, Class::Success, Class::Error][class];
        let bytes = MessageBuilder::new(class, Method(method), TransactionId([0; 12])).finish();
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!((message.class(), message.method()), (class, Method(method)));
    }
}

#[test]
fn a_datagram_cut_short_is_no_stun_message() {
    let bytes = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([0; 12]))
        .software("x")
        .finish();
    for length in 0..bytes.len() {
        assert!(Message::parse(&bytes[..length]).is_err());
    }
}

#[test]
fn an_attribute_that_exceeds_the_message_is_malformed() {
    let datagram = with_header(vec![0x00, 0x06, 0x00, 0x05, b'a', b'b', b'c', b'd']);
    let message = Message::parse(&datagram).unwrap();
    assert_eq!(message.validate(), Err(Malformed::Framing));
    assert_eq!(message.username(), None);
}

#[test]
fn a_channel_number_outside_the_range_is_malformed() {
    let build = |number| {
        MessageBuilder::new(Class::Request, Method::CHANNEL_BIND, TransactionId([0; 12]))
            .channel_number(number)
            .finish()
    };
    for number in [0x3fff, 0x5000] {
        assert_eq!(
            Message::parse(&build(number)).unwrap().validate(),
            Err(Malformed::Value(0x000c))
        );
    }
    for number in [0x4000, 0x4fff] {
        assert_eq!(
            Message::parse(&build(number)).unwrap().channel_number(),
            Some(number)
        );
    }
}

#[test]
fn the_first_of_repeated_attributes_counts() {
    let bytes = MessageBuilder::new(Class::Request, Method::REFRESH, TransactionId([0; 12]))
        .lifetime(1)
        .lifetime(2)
        .finish();
    assert_eq!(Message::parse(&bytes).unwrap().lifetime(), Some(1));
}

#[test]
fn what_follows_the_signature_is_not_believed() {
    let key = IntegrityKey::short_term("secret");
    let bytes = MessageBuilder::new(Class::Success, Method::REFRESH, TransactionId([0; 12]))
        .sign(&key)
        .lifetime(0)
        .fingerprint()
        .finish();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.integrity(&key), Integrity::Valid);
    assert_eq!(message.lifetime(), None);
    assert!(message.has_valid_fingerprint());
}

#[test]
fn channel_data_with_surplus_bytes_is_for_servers_only() {
    let datagram = [0x40, 0x01, 0, 2, b'h', b'i', 0, 0];
    assert_eq!(
        ChannelData::parse(&datagram),
        Some(ChannelData {
            number: 0x4001,
            payload: b"hi"
        })
    );
    assert_eq!(ChannelData::parse_exact(&datagram), None);
    assert_eq!(ChannelData::parse(&[0x40, 0x01, 0, 2, b'h']), None);
    assert_eq!(ChannelData::parse(&[0x50, 0x00, 0, 0]), None);
}
