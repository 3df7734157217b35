//! `TunnelHost`: the tunnel engine on real sockets and a TUN device.

use std::collections::BTreeMap;
use std::os::fd::IntoRawFd;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wardgate_datapath::command::{self, Command};
use wardgate_datapath::event;
use wardgate_datapath::tunnel::figures;
use wardgate_io::TunnelHostConfig;

use crate::errors::{no_answer, os_error, refused};
use crate::{parse_key, parse_role};

#[pyclass(frozen, module = "wardgate_native")]
pub struct TunnelHost(wardgate_io::TunnelHost);

#[pymethods]
impl TunnelHost {
    #[new]
    #[pyo3(signature = (*, role, private_key, tun_name, listen_port, firewall_mark = None, tun_device = None))]
    fn new(
        role: &str,
        private_key: &str,
        tun_name: String,
        listen_port: u16,
        firewall_mark: Option<u32>,
        tun_device: Option<i32>,
    ) -> PyResult<Self> {
        let config = TunnelHostConfig {
            role: parse_role(role)?,
            private_key: parse_key(private_key)?.0,
            tun_name,
            tun_device,
            listen_port,
            firewall_mark,
        };
        wardgate_io::TunnelHost::open(config)
            .map(Self)
            .map_err(os_error)
    }

    fn apply(&self, python: Python<'_>, command: &[u8]) -> PyResult<()> {
        let command = Command::parse(command).map_err(refused)?;
        python
            .detach(|| self.0.apply(command))
            .map_err(no_answer)?
            .map_err(refused)
    }

    fn drain_events<'py>(&self, python: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(python, &event::encode(&self.0.drain_events()))
    }

    fn event_fd(&self) -> i32 {
        self.0.event_fd()
    }

    fn clock(&self) -> f64 {
        self.0.clock().seconds()
    }

    fn local_port(&self) -> u16 {
        self.0.local_port()
    }

    fn rebind(&self, python: Python<'_>) -> PyResult<()> {
        python.detach(|| self.0.rebind()).map_err(os_error)
    }

    fn translated_flows<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let flows = python
            .detach(|| self.0.translated_flows())
            .map_err(no_answer)?;
        Ok(PyBytes::new(python, &command::encode_flows(&flows)))
    }

    fn share_tun(&self, python: Python<'_>) -> PyResult<i32> {
        let shared = python.detach(|| self.0.share_tun()).map_err(os_error)?;
        Ok(shared.into_raw_fd())
    }

    fn stats(&self, python: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let stats = python.detach(|| self.0.stats()).map_err(no_answer)?;
        Ok(stats.into_iter().collect())
    }

    fn figures<'py>(
        &self,
        python: Python<'py>,
        peers: Vec<String>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let figures = python.detach(|| self.0.figures(peers)).map_err(no_answer)?;
        Ok(PyBytes::new(python, &figures::encode(&figures)))
    }

    fn news_fd(&self) -> i32 {
        self.0.news_fd()
    }

    fn take_news(&self) -> (Vec<String>, Option<String>) {
        let news = self.0.take_news();
        (news.warnings, news.fault)
    }

    fn check(&self) -> u32 {
        self.0.check()
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }

    fn close(&self, python: Python<'_>) {
        python.detach(|| self.0.close());
    }
}
