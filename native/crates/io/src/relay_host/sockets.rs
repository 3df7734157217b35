//! The relay's sockets: those it listens on, and one for each allocation and family.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use wardgate_datapath::Outbox;
use wardgate_datapath::relay::RelayPorts;

use super::RelayHostConfig;
use crate::outbox::{GsoOutbox, Outcome};
use crate::sys::{Interest, Poller};
use crate::udp::{RECEIVE_BUFFER, SEND_BUFFER, UdpCounters, UdpOptions, UdpSocket, wildcard};

/// An allocation carries one peer's traffic, 10 Gbit/s for 1 ms and some.
const ALLOCATION_RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets by index, which is their token too.
pub struct RelayIo {
    pub ipv4: Option<PublicAddress>,
    pub ipv6: Option<PublicAddress>,
    pub outbox: GsoOutbox,
    pub sockets: Vec<Option<UdpSocket>>,
    vacant: Vec<usize>,
    by_port: HashMap<(bool, u16), usize>,
    pub poller: Poller,
    /// Of sockets that are closed.
    former: UdpCounters,
    pub max_sockets: usize,
    /// Sockets of allocations.
    pub open_sockets: usize,
    pub refused_ports: u64,
    /// Of these, for want of a descriptor or of memory for the socket.
    pub refused_sockets: u64,
    /// Why, the last time.
    pub refusal: Option<io::Error>,
}

#[derive(Clone, Copy, Debug)]
pub struct PublicAddress {
    pub ip: IpAddr,
    /// Whether the address is one of this machine's, or that of a NAT in front of it.
    is_local: bool,
}

impl PublicAddress {
    fn new(ip: IpAddr) -> Self {
        let is_local = std::net::UdpSocket::bind((ip, 0)).is_ok();
        Self { ip, is_local }
    }
}

impl RelayIo {
    pub fn open(config: &RelayHostConfig, warnings: &mut Vec<String>) -> io::Result<(Self, u16)> {
        let mut relay_io = Self {
            ipv4: config.ipv4.map(|ip| PublicAddress::new(ip.into())),
            ipv6: config.ipv6.map(|ip| PublicAddress::new(ip.into())),
            outbox: GsoOutbox::new(),
            sockets: Vec::new(),
            vacant: Vec::new(),
            by_port: HashMap::new(),
            poller: Poller::new()?,
            former: UdpCounters::default(),
            max_sockets: config.max_sockets,
            open_sockets: 0,
            refused_ports: 0,
            refused_sockets: 0,
            refusal: None,
        };
        let mut port = config.port;
        for (ipv6, public) in [(false, relay_io.ipv4), (true, relay_io.ipv6)] {
            if public.is_none() {
                continue;
            }
            let options = UdpOptions {
                address: wildcard(ipv6, port),
                firewall_mark: None,
                send_buffer: SEND_BUFFER,
                receive_buffer: RECEIVE_BUFFER,
            };
            let socket = UdpSocket::open(&options, warnings)?;
            port = socket.local().port();
            relay_io.add(socket)?;
        }
        if relay_io.by_port.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a relay needs a public IPv4 or IPv6 address",
            ));
        }
        Ok((relay_io, port))
    }

    fn add(&mut self, socket: UdpSocket) -> io::Result<()> {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        if let Err(error) = self.poller.add(&socket, index as u64, Interest::READABLE) {
            self.vacant.push(index);
            return Err(error);
        }
        self.by_port.insert(key(socket.local()), index);
        self.sockets[index] = Some(socket);
        Ok(())
    }

    pub fn flush(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let (ipv4, ipv6) = (self.ipv4, self.ipv6);
        let (sockets, by_port) = (&mut self.sockets, &self.by_port);
        let mut nowhere = 0;
        self.outbox.flush(|batch| {
            let index = batch
                .local
                .and_then(|local| by_port.get(&key(local)).copied());
            let socket =
                index.and_then(|index| sockets[index].as_mut().map(|found| (index, found)));
            let Some((index, socket)) = socket else {
                nowhere += batch.datagrams() as u64;
                return Outcome::Done;
            };
            let public = if batch.remote.is_ipv6() { ipv6 } else { ipv4 };
            let source = public
                // Whoever reaches us over loopback expects the answer from there.
                .filter(|public| public.is_local && !batch.remote.ip().is_loopback())
                .map(|public| public.ip);
            let outcome = socket.send(batch, source);
            if outcome == Outcome::Blocked {
                await_room(&self.poller, socket, index, true);
            }
            outcome
        });
        self.former.send_errors += nowhere;
    }

    pub fn counters(&self) -> UdpCounters {
        let mut sum = self.former;
        for socket in self.sockets.iter().flatten() {
            sum.add(socket.counters());
        }
        sum
    }
}

impl Outbox for RelayIo {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        self.outbox.reserve(local, remote, ecn, len)
    }

    fn rollback(&mut self) {
        self.outbox.rollback();
    }
}

impl RelayPorts for RelayIo {
    fn open(&mut self, address: SocketAddr) -> bool {
        let options = UdpOptions {
            address: wildcard(address.is_ipv6(), address.port()),
            firewall_mark: None,
            send_buffer: SEND_BUFFER,
            receive_buffer: ALLOCATION_RECEIVE_BUFFER,
        };
        let opened = if self.open_sockets < self.max_sockets {
            // The listen sockets have warned of the same buffer limits.
            UdpSocket::open(&options, &mut Vec::new()).and_then(|socket| self.add(socket))
        } else {
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        };
        match opened {
            Ok(()) => {
                self.open_sockets += 1;
                true
            }
            Err(error) => {
                self.refused_ports += 1;
                if is_shortage(&error) {
                    self.refused_sockets += 1;
                    self.refusal = Some(error);
                }
                false
            }
        }
    }

    fn close(&mut self, address: SocketAddr) {
        let Some(index) = self.by_port.remove(&key(address)) else {
            return;
        };
        if let Some(socket) = self.sockets[index].take() {
            self.former.add(socket.counters());
            self.open_sockets -= 1;
            self.vacant.push(index);
            // What waited for it goes to nobody.
            self.outbox.retry(Some(address));
        }
    }
}

/// Another port would be refused as well.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC)
    )
}

/// Wait, or wait no longer, for room in a socket that is open and added.
pub fn await_room(poller: &Poller, socket: &UdpSocket, index: usize, writable: bool) {
    let interest = Interest {
        readable: true,
        writable,
    };
    // Nothing about an open and added descriptor can be refused.
    let _ = poller.modify(socket, index as u64, interest);
}

fn key(address: SocketAddr) -> (bool, u16) {
    (address.is_ipv6(), address.port())
}
