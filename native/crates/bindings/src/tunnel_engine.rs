//! `TunnelEngine`: the sans-IO engine on virtual time.

use std::collections::BTreeMap;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wardgate_datapath::TunRead;
use wardgate_datapath::command::Command;
use wardgate_datapath::tunnel::figures;
use wardgate_datapath::{event, tunnel};

use crate::clock::{VirtualClock, unix_time};
use crate::errors::refused;
use crate::recorder::{Datagram, Datagrams, Packets, parse_address};
use crate::{parse_key, parse_role};

#[pyclass(module = "wardgate_native")]
pub struct TunnelEngine {
    engine: tunnel::TunnelEngine,
    clock: VirtualClock,
    listen_port: u16,
    out: Datagrams,
    tun: Packets,
}

#[pymethods]
impl TunnelEngine {
    #[new]
    #[pyo3(signature = (*, role, private_key, seed, listen_port, unix_at_zero))]
    fn new(
        role: &str,
        private_key: &str,
        seed: [u8; 32],
        listen_port: u16,
        unix_at_zero: f64,
    ) -> PyResult<Self> {
        let clock = VirtualClock::new();
        Ok(Self {
            engine: tunnel::TunnelEngine::new(
                parse_role(role)?,
                tunnel::EngineConfig {
                    private_key: parse_key(private_key)?.0,
                    seed,
                    epoch: clock.zero(),
                    unix_at_epoch: unix_time(unix_at_zero)?,
                },
            ),
            clock,
            listen_port,
            out: Datagrams::default(),
            tun: Packets::default(),
        })
    }

    #[pyo3(signature = (command, *, now))]
    fn apply(&mut self, command: &[u8], now: f64) -> PyResult<()> {
        let now = self.clock.instant(now)?;
        let command = Command::parse(command).map_err(refused)?;
        let (engine, mut io) = self.at(now);
        engine.apply(command, &mut io).map_err(refused)
    }

    #[pyo3(signature = (batch, *, now))]
    fn handle_network(&mut self, batch: Vec<Datagram>, now: f64) -> PyResult<()> {
        let now = self.clock.instant(now)?;
        for (source, destination, mut payload) in batch {
            let arrival = tunnel::Arrival {
                from: parse_address(&source)?,
                local: parse_address(&destination)?,
                ecn: 0,
                stride: payload.len(),
            };
            let (engine, mut io) = self.at(now);
            engine.handle_network(&arrival, &mut payload, &mut io);
        }
        Ok(())
    }

    #[pyo3(signature = (batch, *, now))]
    fn handle_tun(&mut self, batch: Vec<Vec<u8>>, now: f64) -> PyResult<()> {
        let now = self.clock.instant(now)?;
        for packet in batch {
            let (engine, mut io) = self.at(now);
            engine.handle_tun(&TunRead::whole(&packet), &mut io);
        }
        Ok(())
    }

    #[pyo3(signature = (*, now))]
    fn handle_timeout(&mut self, now: f64) -> PyResult<()> {
        let now = self.clock.instant(now)?;
        let (engine, mut io) = self.at(now);
        engine.handle_timeout(&mut io);
        Ok(())
    }

    fn poll_transmit<'py>(
        &mut self,
        python: Python<'py>,
    ) -> Vec<(String, String, Bound<'py, PyBytes>)> {
        self.out.drain(python, self.listen_port)
    }

    fn poll_tun<'py>(&mut self, python: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.tun.drain(python)
    }

    fn poll_events<'py>(&mut self, python: Python<'py>) -> Bound<'py, PyBytes> {
        let events: Vec<_> = std::iter::from_fn(|| self.engine.poll_event()).collect();
        PyBytes::new(python, &event::encode(&events))
    }

    fn poll_timeout(&self) -> Option<f64> {
        self.engine.poll_timeout().map(|at| self.clock.seconds(at))
    }

    #[pyo3(signature = (peers, *, now))]
    fn figures<'py>(
        &mut self,
        python: Python<'py>,
        peers: Vec<String>,
        now: f64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let now = self.clock.instant(now)?;
        let figures = self.engine.figures(&peers, now);
        Ok(PyBytes::new(python, &figures::encode(&figures)))
    }

    fn stats(&mut self) -> BTreeMap<&'static str, u64> {
        self.engine.stats().into_iter().collect()
    }
}

impl TunnelEngine {
    /// The engine, and what a call of it works with.
    fn at(
        &mut self,
        now: Instant,
    ) -> (
        &mut tunnel::TunnelEngine,
        tunnel::Io<'_, Packets, Datagrams>,
    ) {
        let io = tunnel::Io {
            now,
            tun: &mut self.tun,
            out: &mut self.out,
        };
        (&mut self.engine, io)
    }
}
