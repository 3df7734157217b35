//! What a sans-IO engine emits, kept until Python asks for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wardgate_datapath::relay::RelayPorts;
use wardgate_datapath::{Outbox, TunSink};

/// Source, destination and payload, as Python writes them.
pub type Datagram = (String, String, Vec<u8>);

#[derive(Default)]
pub struct Datagrams {
    waiting: Vec<(Option<SocketAddr>, SocketAddr, Vec<u8>)>,
}

impl Outbox for Datagrams {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        _ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        self.waiting.push((local, remote, vec![0; len]));
        match self.waiting.last_mut() {
            Some((_, _, payload)) => payload,
            None => unreachable!("it was just pushed"),
        }
    }

    fn rollback(&mut self) {
        self.waiting.pop();
    }
}

/// In a simulated network every address of the relay exists.
impl RelayPorts for Datagrams {
    fn open(&mut self, _address: SocketAddr) -> bool {
        true
    }

    fn close(&mut self, _address: SocketAddr) {}
}

impl Datagrams {
    /// All that wait. Where the engine leaves the source to the socket, it is the wildcard address and `listen_port`.
    pub fn drain<'py>(
        &mut self,
        python: Python<'py>,
        listen_port: u16,
    ) -> Vec<(String, String, Bound<'py, PyBytes>)> {
        self.waiting
            .drain(..)
            .map(|(local, remote, payload)| {
                let local = local.unwrap_or_else(|| wildcard(remote, listen_port));
                let payload = PyBytes::new(python, &payload);
                (local.to_string(), remote.to_string(), payload)
            })
            .collect()
    }
}

#[derive(Default)]
pub struct Packets {
    waiting: Vec<Vec<u8>>,
}

impl TunSink for Packets {
    fn push(&mut self, buffer: &mut [u8], range: Range<usize>) {
        self.waiting.push(buffer[range].to_vec());
    }

    fn push_owned(&mut self, packet: &[u8]) {
        self.waiting.push(packet.to_vec());
    }
}

impl Packets {
    pub fn drain<'py>(&mut self, python: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.waiting
            .drain(..)
            .map(|packet| PyBytes::new(python, &packet))
            .collect()
    }
}

pub fn parse_address(text: &str) -> PyResult<SocketAddr> {
    text.parse()
        .map_err(|_| PyValueError::new_err(format!("not a socket address: {text:?}")))
}

fn wildcard(remote: SocketAddr, port: u16) -> SocketAddr {
    let address = match remote.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, port)
}
