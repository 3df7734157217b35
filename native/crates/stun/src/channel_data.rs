//! Channel data over UDP: `u16 number | u16 length | payload`, big endian, never padded (relay §8).

/// Bytes before the payload.
pub const CHANNEL_HEADER: usize = 4;

/// First channel number that may be bound (RFC 8656 §12).
pub const FIRST_CHANNEL: u16 = 0x4000;

/// Last channel number that may be bound.
pub const LAST_CHANNEL: u16 = 0x4fff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    pub number: u16,
    pub payload: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// As a server parses: bytes behind the declared length are dropped (RFC 8656 §12.6).
    pub fn parse(datagram: &'a [u8]) -> Option<ChannelData<'a>> {
        let [number_high, number_low, length_high, length_low, rest @ ..] = datagram else {
            return None;
        };
        let number = u16::from_be_bytes([*number_high, *number_low]);
        if !(FIRST_CHANNEL..=LAST_CHANNEL).contains(&number) {
            return None;
        }
        let payload = rest.get(..usize::from(u16::from_be_bytes([*length_high, *length_low])))?;
        Some(ChannelData { number, payload })
    }

    /// As a peer parses: the declared length must be that of the datagram (data-plane §1.4).
    pub fn parse_exact(datagram: &'a [u8]) -> Option<ChannelData<'a>> {
        Self::parse(datagram).filter(|frame| frame.payload.len() + CHANNEL_HEADER == datagram.len())
    }
}

/// The header before `length` bytes of payload.
pub fn channel_header(number: u16, length: u16) -> [u8; CHANNEL_HEADER] {
    let [number_high, number_low] = number.to_be_bytes();
    let [length_high, length_low] = length.to_be_bytes();
    [number_high, number_low, length_high, length_low]
}
