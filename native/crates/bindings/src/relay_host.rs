//! `RelayHost`: the relay on real sockets.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use wardgate_datapath::relay::PeerRules;
use wardgate_io::RelayHostConfig;

use crate::errors::{no_answer, os_error};
use crate::relay_engine::public_addresses;

#[pyclass(frozen, module = "wardgate_native")]
pub struct RelayHost(wardgate_io::RelayHost);

#[pymethods]
impl RelayHost {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    #[pyo3(signature = (
        *, stamp_secret, ipv4, ipv6, port, first_port = 49152, last_port = 65535, deny_private = false,
        max_sockets
    ))]
    fn new(
        stamp_secret: String,
        ipv4: Option<&str>,
        ipv6: Option<&str>,
        port: u16,
        first_port: u16,
        last_port: u16,
        deny_private: bool,
        max_sockets: usize,
    ) -> PyResult<Self> {
        let (ipv4, ipv6) = public_addresses(ipv4, ipv6)?;
        let config = RelayHostConfig {
            stamp_secret,
            ipv4,
            ipv6,
            port,
            allocation_ports: first_port..=last_port,
            peer_rules: PeerRules {
                deny_private,
                ..PeerRules::default()
            },
            max_sockets,
        };
        wardgate_io::RelayHost::start(config)
            .map(Self)
            .map_err(os_error)
    }

    fn local_port(&self) -> u16 {
        self.0.local_port()
    }

    fn drain(&self, python: Python<'_>) -> PyResult<()> {
        python.detach(|| self.0.drain()).map_err(no_answer)
    }

    fn stats(&self, python: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let stats = python.detach(|| self.0.stats()).map_err(no_answer)?;
        Ok(stats.into_iter().collect())
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
