//! Which peers a client may bind a channel to (relay §11).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Cloud metadata over IPv6; its IPv4 counterpart is link-local.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);

/// Ports below are services of the relay's own host.
const FIRST_USER_PORT: u16 = 1024;

/// Operator's part of the rules; the rest is fixed.
#[derive(Clone, Debug, Default)]
pub struct PeerRules {
    /// Refuse peers in private ranges. Off by default: a self-hosted network has such peers.
    pub deny_private: bool,
    /// Further addresses to refuse, as the host's own interface addresses.
    pub denied: Vec<IpAddr>,
}

impl PeerRules {
    /// Whether a relay that announces `own` addresses and listens on `port` sends to `peer`.
    ///
    /// Its own addresses stay allowed: two peers may meet on one relay.
    pub(super) fn allow(&self, peer: SocketAddr, own: &[IpAddr], port: u16) -> bool {
        let address = peer.ip();
        if peer.port() == 0 {
            return false;
        }
        if own.contains(&address) {
            return peer.port() != port && peer.port() >= FIRST_USER_PORT;
        }
        // A relay that announces a loopback address serves one machine, whose peers have no other address.
        let one_machine = own.iter().any(IpAddr::is_loopback);
        let never = match address {
            IpAddr::V4(v4) => is_never_a_peer_v4(v4),
            IpAddr::V6(v6) => is_never_a_peer_v6(v6),
        };
        !(never
            || address.is_unspecified()
            || address.is_multicast()
            || (address.is_loopback() && !one_machine)
            || (self.deny_private && is_private(address))
            || self.denied.contains(&address))
    }
}

fn is_never_a_peer_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || address.is_broadcast() || address.octets()[0] == 0
}

fn is_never_a_peer_v6(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local() || address == METADATA_V6 || address.to_ipv4_mapped().is_some()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 101))];

    #[test]
    fn special_addresses_and_the_listen_port_are_refused() {
        let rules = PeerRules {
            deny_private: false,
            denied: vec![IpAddr::from([198, 51, 100, 9])],
        };
        for refused in [
            "0.0.0.0:1",
            "0.1.2.3:1",
            "127.0.0.1:5000",
            "169.254.169.254:80",
            "224.0.0.1:5353",
            "255.255.255.255:67",
            "192.0.2.1:0",
            "198.51.100.9:4000",
            "203.0.113.101:3478",
            "203.0.113.101:53",
            "[::]:1",
            "[::1]:5000",
            "[fe80::1]:5000",
            "[ff02::1]:5000",
            "[fd00:ec2::254]:80",
            "[::ffff:127.0.0.1]:5000",
        ] {
            assert!(
                !rules.allow(refused.parse().unwrap(), &OWN, 3478),
                "{refused}"
            );
        }
        for allowed in [
            "192.0.2.1:1",
            "10.0.0.1:52625",
            "[2001:db8::1]:4",
            "[fd00::1]:4",
            "203.0.113.101:50000",
        ] {
            assert!(
                rules.allow(allowed.parse().unwrap(), &OWN, 3478),
                "{allowed}"
            );
        }
    }

    #[test]
    fn private_ranges_are_refused_when_the_operator_says_so() {
        let rules = PeerRules {
            deny_private: true,
            denied: Vec::new(),
        };
        for refused in ["10.0.0.1:1", "100.64.0.1:1", "192.168.1.1:1", "[fd00::1]:1"] {
            assert!(
                !rules.allow(refused.parse().unwrap(), &OWN, 3478),
                "{refused}"
            );
        }
        assert!(rules.allow("192.0.2.1:1".parse().unwrap(), &OWN, 3478));
    }

    #[test]
    fn a_relay_on_loopback_serves_peers_on_loopback() {
        let own = [IpAddr::from([127, 0, 0, 1])];
        assert!(PeerRules::default().allow("127.0.0.1:52625".parse().unwrap(), &own, 3478));
        assert!(PeerRules::default().allow("127.0.0.2:52625".parse().unwrap(), &own, 3478));
    }
}
