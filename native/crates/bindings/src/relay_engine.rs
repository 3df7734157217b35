//! `RelayEngine`: the sans-IO relay on virtual time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wardgate_datapath::relay::{self, PeerRules, RelayConfig};

use crate::clock::{VirtualClock, unix_time};
use crate::recorder::{Datagram, Datagrams, parse_address};

#[pyclass(module = "wardgate_native")]
pub struct RelayEngine {
    engine: relay::RelayEngine,
    clock: VirtualClock,
    port: u16,
    io: Datagrams,
}

#[pymethods]
impl RelayEngine {
    #[new]
    #[pyo3(signature = (*, stamp_secret, ipv4, ipv6, port, first_port, last_port, seed, unix_at_zero))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        stamp_secret: String,
        ipv4: Option<&str>,
        ipv6: Option<&str>,
        port: u16,
        first_port: u16,
        last_port: u16,
        seed: [u8; 32],
        unix_at_zero: f64,
    ) -> PyResult<Self> {
        let clock = VirtualClock::new();
        let (ipv4, ipv6) = public_addresses(ipv4, ipv6)?;
        Ok(Self {
            engine: relay::RelayEngine::new(RelayConfig {
                stamp_secret,
                ipv4,
                ipv6,
                port,
                allocation_ports: first_port..=last_port,
                peer_rules: PeerRules::default(),
                seed,
                epoch: clock.zero(),
                unix_at_epoch: unix_time(unix_at_zero)?,
            }),
            clock,
            port,
            io: Datagrams::default(),
        })
    }

    #[pyo3(signature = (batch, *, now))]
    fn handle_network(&mut self, batch: Vec<Datagram>, now: f64) -> PyResult<()> {
        let now = self.clock.instant(now)?;
        for (source, destination, payload) in batch {
            let from = parse_address(&source)?;
            let to = parse_address(&destination)?;
            self.engine
                .handle_network(from, to, 0, payload.len(), &payload, now, &mut self.io);
        }
        Ok(())
    }

    #[pyo3(signature = (*, now))]
    fn handle_timeout(&mut self, now: f64) -> PyResult<()> {
        let now = self.clock.instant(now)?;
        self.engine.handle_timeout(now, &mut self.io);
        Ok(())
    }

    fn poll_transmit<'py>(
        &mut self,
        python: Python<'py>,
    ) -> Vec<(String, String, Bound<'py, PyBytes>)> {
        self.io.drain(python, self.port)
    }

    fn poll_timeout(&self) -> Option<f64> {
        self.engine.poll_timeout().map(|at| self.clock.seconds(at))
    }

    fn drain(&mut self) {
        self.engine.drain();
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        self.engine.stats().entries().into_iter().collect()
    }
}

pub fn public_addresses(
    ipv4: Option<&str>,
    ipv6: Option<&str>,
) -> PyResult<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let invalid = |text: &str| PyValueError::new_err(format!("not an IP address: {text:?}"));
    let ipv4 = ipv4
        .map(|text| text.parse().map_err(|_| invalid(text)))
        .transpose()?;
    let ipv6 = ipv6
        .map(|text| text.parse().map_err(|_| invalid(text)))
        .transpose()?;
    if ipv4.is_none() && ipv6.is_none() {
        return Err(PyValueError::new_err(
            "a relay needs a public address of at least one family",
        ));
    }
    Ok((ipv4, ipv6))
}
