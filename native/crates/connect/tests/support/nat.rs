//! Network address translators of RFC 4787 §4, as far as they matter to hole punching.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// One outer port per inner socket: "cone".
    EndpointIndependent,
    /// One outer port per destination: "symmetric".
    AddressAndPortDependent,
}

/// Lets in only what answers to an address and port that was sent to before.
#[derive(Debug)]
pub struct Nat {
    pub outer: IpAddr,
    mapping: Mapping,
    ports: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    allowed: BTreeSet<(u16, SocketAddr)>,
    next_port: u16,
}

impl Nat {
    pub fn new(outer: &str, mapping: Mapping) -> Self {
        Self {
            outer: outer.parse().unwrap(),
            mapping,
            ports: BTreeMap::new(),
            allowed: BTreeSet::new(),
            next_port: 20_000,
        }
    }

    pub fn outward(&mut self, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (
            inner,
            (self.mapping == Mapping::AddressAndPortDependent).then_some(to),
        );
        let next = &mut self.next_port;
        let port = *self.ports.entry(key).or_insert_with(|| {
            *next += 1;
            *next
        });
        self.allowed.insert((port, to));
        SocketAddr::new(self.outer, port)
    }

    pub fn inward(&self, outer: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        if !self.allowed.contains(&(outer.port(), from)) {
            return None;
        }
        self.ports
            .iter()
            .find(|(_, port)| **port == outer.port())
            .map(|((inner, _), _)| *inner)
    }

    /// Forget all mappings, as a router does that restarts; new ones get other ports.
    pub fn flush(&mut self) {
        self.ports.clear();
        self.allowed.clear();
    }
}
