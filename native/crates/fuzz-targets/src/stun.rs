//! STUN messages and channel data: decoding ends and stays within the datagram.

use wardgate_stun::{
    ChannelData, Class, Integrity, IntegrityKey, Message, MessageBuilder, channel_header, shape,
};

/// The input is one datagram.
pub fn stun(input: &[u8]) -> bool {
    let _ = shape(input);
    let channel = ChannelData::parse(input);
    if let Some(frame) = ChannelData::parse_exact(input) {
        let header = channel_header(frame.number, frame.payload.len() as u16);
        assert_eq!([&header[..], frame.payload].concat(), input);
    }
    let Ok(message) = Message::parse(input) else {
        return channel.is_some();
    };
    assert!(channel.is_none(), "no datagram is both");
    let _ = message.validate();
    let _ = (
        message.username(),
        message.realm(),
        message.nonce(),
        message.software(),
    );
    let _ = (
        message.error_code(),
        message.channel_number(),
        message.lifetime(),
    );
    let _ = (
        message.requested_transport(),
        message.requested_address_family(),
    );
    let _ = (
        message.additional_address_family(),
        message.has_valid_fingerprint(),
    );
    let _ = (message.xor_mapped_address(), message.xor_peer_address());
    let _ = message.xor_relayed_addresses().count();
    let key = IntegrityKey::short_term("not the corpus's key");
    assert_ne!(
        message.integrity(&key),
        Integrity::Valid,
        "signed with another key"
    );
    write_again(&message, &key);
    true
}

/// What was decoded can be encoded, and then says the same.
fn write_again(message: &Message<'_>, key: &IntegrityKey) {
    let known = |kind: u16| matches!(kind, 0x0008 | 0x001c | 0x8028);
    let attributes = || {
        message
            .attributes()
            .filter(|(kind, _)| !known(kind.0))
            .take(16)
    };
    let mut builder =
        MessageBuilder::new(Class::Request, message.method(), message.transaction_id());
    for (kind, value) in attributes() {
        builder = builder.attribute(kind, value);
    }
    let bytes = builder.sign(key).fingerprint().finish();
    let again = Message::parse(&bytes).expect("our own messages are messages");
    assert_eq!(again.transaction_id(), message.transaction_id());
    assert_eq!(again.integrity(key), Integrity::Valid);
    assert!(again.has_valid_fingerprint());
    for (written, original) in again.attributes().zip(attributes()) {
        assert_eq!(written.0, original.0);
        assert_eq!(
            written.1,
            &original.1[..original.1.len().min(written.1.len())]
        );
    }
}
