//! The ranges that both ends agree on by constants (data-plane §3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Tunnel addresses of clients and gateways: 100.64.0.0/11 and fd00:2021:1111::/107.
pub fn is_tunnel_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits() >> 21 == Ipv4Addr::new(100, 64, 0, 0).to_bits() >> 21,
        IpAddr::V6(v6) => v6.to_bits() >> 21 == TUNNEL_V6.to_bits() >> 21,
    }
}

/// Stand-ins for the addresses of names: 100.96.0.0/11 and fd00:2021:1111:8000::/107.
pub fn is_proxy_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits() >> 21 == Ipv4Addr::new(100, 96, 0, 0).to_bits() >> 21,
        IpAddr::V6(v6) => v6.to_bits() >> 21 == PROXY_V6.to_bits() >> 21,
    }
}

/// Stub resolvers: 100.100.111.0/24 and fd00:2021:1111:8000:100:100:111:0/120.
pub fn is_sentinel(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits() >> 8 == Ipv4Addr::new(100, 100, 111, 0).to_bits() >> 8,
        IpAddr::V6(v6) => v6.to_bits() >> 8 == SENTINEL_V6.to_bits() >> 8,
    }
}

/// Whether the Internet resource may lead there (data-plane §5.3): no private, local or special address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared = v4.to_bits() >> 22 == Ipv4Addr::new(100, 64, 0, 0).to_bits() >> 22;
            let is_reserved = v4.octets()[0] >= 240;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_unspecified()
                || is_shared
                || is_reserved)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.to_ipv4_mapped().is_some()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

/// Whether a name may stand for it: an address that a gateway could forward to, and not one of the tunnels' own.
pub fn is_translatable(address: IpAddr) -> bool {
    let is_special = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_link_local() || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(is_special
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || is_tunnel_address(address)
        || is_proxy_address(address))
}

const TUNNEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0, 0, 0, 0, 0);
const PROXY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0x8000, 0, 0, 0, 0);
const SENTINEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0x8000, 0x100, 0x100, 0x111, 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_begin_and_end_where_the_plan_says() {
        for (inside, first, last, outside) in [
            (
                is_tunnel_address as fn(IpAddr) -> bool,
                "100.64.0.0",
                "100.95.255.255",
                "100.96.0.0",
            ),
            (
                is_tunnel_address,
                "fd00:2021:1111::",
                "fd00:2021:1111::1f:ffff",
                "fd00:2021:1111::20:0",
            ),
            (
                is_proxy_address,
                "100.96.0.0",
                "100.127.255.255",
                "100.128.0.0",
            ),
            (
                is_proxy_address,
                "fd00:2021:1111:8000::",
                "fd00:2021:1111:8000::1f:ffff",
                "fd00:2021:1111:8000::20:0",
            ),
            (
                is_sentinel,
                "100.100.111.0",
                "100.100.111.255",
                "100.100.112.0",
            ),
            (
                is_sentinel,
                "fd00:2021:1111:8000:100:100:111:0",
                "fd00:2021:1111:8000:100:100:111:ff",
                "fd00:2021:1111:8000:100:100:111:100",
            ),
        ] {
            assert!(inside(ip(first)) && inside(ip(last)), "{first}");
            assert!(!inside(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn names_stand_for_what_can_be_forwarded_to() {
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "100.64.0.1",
            "100.96.0.1",
            "100.100.111.1",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "ff02::1",
            "fd00:2021:1111::1",
            "fd00:2021:1111:8000::1",
        ] {
            assert!(!is_translatable(ip(special)), "{special}");
        }
        for real in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "8.8.8.8",
            "100.128.0.1",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(is_translatable(ip(real)), "{real}");
        }
    }

    #[test]
    fn the_internet_excludes_every_special_class() {
        for special in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.127.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "::ffff:8.8.8.8",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
        for public in ["8.8.8.8", "100.128.0.1", "2001:db8::1"] {
            assert!(is_public(ip(public)), "{public}");
        }
    }
}
