//! IP prefixes: an address and how many of its leading bits count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A network in canonical form: all bits behind `len` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// Host bits of `address` are cleared. `None` when `len` exceeds the family's width.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if len <= 32 => IpAddr::V4(Ipv4Addr::from_bits(
                v4.to_bits() & mask(len.into(), 32) as u32,
            )),
            IpAddr::V6(v6) if len <= 128 => {
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask(len.into(), 128)))
            }
            _ => return None,
        };
        Some(Self { address, len })
    }

    /// The prefix of exactly one address.
    pub fn host(address: IpAddr) -> Self {
        let len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, len }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub fn length(&self) -> u8 {
        self.len
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()) & mask(self.len.into(), 32) as u32 == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()) & mask(self.len.into(), 128) == 0
            }
            _ => false,
        }
    }
}

/// The `len` highest of `width` bits.
fn mask(len: u32, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    all ^ all.checked_shr(len).unwrap_or(0)
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an IP prefix: {0:?}")]
pub struct InvalidPrefix(String);

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    /// `10.0.0.0/8`; a bare address is the prefix of itself alone.
    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let invalid = || InvalidPrefix(text.to_owned());
        let Some((address, len)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| invalid());
        };
        let address = address.parse().map_err(|_| invalid())?;
        let len = len.parse().map_err(|_| invalid())?;
        Self::new(address, len).ok_or_else(invalid)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.len)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared() {
        let prefix: Prefix = "10.1.2.3/8".parse().unwrap();
        assert_eq!(prefix.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn a_bare_address_covers_only_itself() {
        let prefix: Prefix = "2001:db8::1".parse().unwrap();
        assert!(prefix.contains("2001:db8::1".parse().unwrap()));
        assert!(!prefix.contains("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn the_default_prefix_covers_its_family_only() {
        let prefix: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(prefix.contains("255.255.255.255".parse().unwrap()));
        assert!(!prefix.contains("::1".parse().unwrap()));
    }

    #[test]
    fn too_long_lengths_and_nonsense_are_refused() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", ""] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
