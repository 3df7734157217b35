//! What a resource admits: protocols and ports (data-plane §4.1).

use wardgate_packet::{IpPacket, Kind};

use crate::command::{Filter, FilterProtocol};

/// One packet as filters see it; the port is the one on the resource's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Tcp(u16),
    Udp(u16),
    Icmp,
    Other,
}

impl Traffic {
    /// A packet on its way to a resource.
    pub fn toward<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> Self {
        Self::of(packet.kind(), packet.destination_value())
    }

    /// A packet on its way back from a resource.
    pub fn from<B: AsRef<[u8]>>(packet: &IpPacket<B>) -> Self {
        Self::of(packet.kind(), packet.source_value())
    }

    fn of(kind: Kind, port: Option<u16>) -> Self {
        match (kind, port) {
            (Kind::Tcp, Some(port)) => Self::Tcp(port),
            (Kind::Udp, Some(port)) => Self::Udp(port),
            (Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError | Kind::IcmpOther, _) => {
                Self::Icmp
            }
            _ => Self::Other,
        }
    }
}

/// The filters of one resource; none at all admits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSet(Vec<Filter>);

impl FilterSet {
    pub fn new(filters: Vec<Filter>) -> Self {
        Self(filters)
    }

    pub fn permits(&self, traffic: Traffic) -> bool {
        self.0.is_empty() || self.0.iter().any(|filter| admits(filter, traffic))
    }
}

fn admits(filter: &Filter, traffic: Traffic) -> bool {
    let ports = filter.first_port..=filter.last_port;
    match (filter.protocol, traffic) {
        (FilterProtocol::Tcp, Traffic::Tcp(port)) => ports.contains(&port),
        (FilterProtocol::Udp, Traffic::Udp(port)) => ports.contains(&port),
        (FilterProtocol::Icmp, Traffic::Icmp) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(protocol: FilterProtocol, first_port: u16, last_port: u16) -> Filter {
        Filter {
            protocol,
            first_port,
            last_port,
        }
    }

    #[test]
    fn no_filter_admits_every_protocol() {
        let filters = FilterSet::default();
        for traffic in [
            Traffic::Tcp(22),
            Traffic::Udp(53),
            Traffic::Icmp,
            Traffic::Other,
        ] {
            assert!(filters.permits(traffic));
        }
    }

    #[test]
    fn port_ranges_are_inclusive_and_per_protocol() {
        let filters = FilterSet::new(vec![filter(FilterProtocol::Tcp, 80, 81)]);
        assert!(filters.permits(Traffic::Tcp(80)));
        assert!(filters.permits(Traffic::Tcp(81)));
        assert!(!filters.permits(Traffic::Tcp(82)));
        assert!(!filters.permits(Traffic::Udp(80)));
        assert!(!filters.permits(Traffic::Icmp));
    }

    #[test]
    fn other_protocols_pass_only_without_filters() {
        let filters = FilterSet::new(vec![filter(FilterProtocol::Icmp, 0, 65535)]);
        assert!(filters.permits(Traffic::Icmp));
        assert!(!filters.permits(Traffic::Other));
    }
}
