//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are unfolded one's-complement sums of big-endian 16-bit words; [`fold`] reduces them. Adding partial sums is
//! legal when every part but the last has an even number of bytes.

use std::net::IpAddr;

/// Sum of `bytes` as big-endian 16-bit words, an odd last byte padded with zero.
pub fn sum(bytes: &[u8]) -> u64 {
    // One's-complement sums may be taken in any word width that 16 divides; 32-bit words halve the additions, and
    // a u64 cannot overflow before 2^32 of them.
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 = 0;
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let tail = words.remainder();
    let mut last = [0u8; 4];
    last[..tail.len()].copy_from_slice(tail);
    total + u64::from(u32::from_be_bytes(last))
}

/// Reduce an unfolded sum to 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum of the pseudo-header of TCP, UDP and ICMPv6; `length` is that of the upper layer in bytes (RFC 8200 §8.1).
///
/// The two addresses are of one family.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    address(source) + address(destination) + u64::from(protocol) + length as u64
}

/// Checksum field value for data whose unfolded sum (field taken as zero) is `sum`.
pub fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// New value of a checksum field after `old` bytes, at an even offset, became `new` (same even length): RFC 1624 eq. 3.
pub fn adjust(field: u16, old: &[u8], new: &[u8]) -> u16 {
    debug_assert!(old.len() == new.len() && old.len().is_multiple_of(2));
    let removed: u64 = old
        .chunks_exact(2)
        .map(|word| u64::from(!u16::from_be_bytes([word[0], word[1]])))
        .sum();
    finish(u64::from(!field) + removed + sum(new))
}

fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        assert_eq!(
            fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])),
            0xddf2
        );
    }

    #[test]
    fn an_adjusted_field_is_the_one_of_rfc_1624_section_4() {
        // The case that RFC 1141's formula gets wrong: 0x0000, not 0xFFFF.
        assert_eq!(adjust(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]), 0x0000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn adjusting_equals_summing_again(
            mut data in proptest::collection::vec(any::<u8>(), 8..64), word: [u8; 2], at in 0usize..3,
        ) {
            let before = finish(sum(&data));
            let old = [data[at * 2], data[at * 2 + 1]];
            data[at * 2..at * 2 + 2].copy_from_slice(&word);
            let adjusted = adjust(before, &old, &word);
            prop_assert_eq!(fold(sum(&data) + u64::from(adjusted)), 0xffff);
        }
    }
}
