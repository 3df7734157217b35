//! The two UDP sockets of a tunnel's end.

use std::io;
use std::net::SocketAddr;

use super::{IPV4, IPV6};
use crate::udp::{RECEIVE_BUFFER, SEND_BUFFER, UdpCounters, UdpOptions, UdpSocket, wildcard};

/// One UDP socket for each family that can be bound, both on one port.
#[derive(Debug)]
pub struct TunnelSockets {
    pub(super) ipv4: Option<UdpSocket>,
    pub(super) ipv6: Option<UdpSocket>,
    port: u16,
    preferred_port: u16,
    firewall_mark: Option<u32>,
}

impl TunnelSockets {
    /// Bind `preferred_port`, or one that the operating system picks if it is taken.
    ///
    /// # Errors
    /// The error of IPv4 when neither family can be bound.
    pub fn open(
        preferred_port: u16,
        firewall_mark: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> io::Result<Self> {
        Self::bind(preferred_port, firewall_mark, warnings)
            .or_else(|_| Self::bind(0, firewall_mark, warnings))
            .map(|sockets| Self {
                preferred_port,
                ..sockets
            })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// New sockets on another port than now.
    pub(super) fn reopen(&self, warnings: &mut Vec<String>) -> io::Result<Self> {
        if self.port == self.preferred_port {
            Self::bind(0, self.firewall_mark, warnings).map(|sockets| Self {
                preferred_port: self.preferred_port,
                ..sockets
            })
        } else {
            Self::open(self.preferred_port, self.firewall_mark, warnings)
        }
    }

    pub(super) fn bind(
        port: u16,
        firewall_mark: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> io::Result<Self> {
        /// A port that is free in one family may be taken in the other.
        const ATTEMPTS: usize = 8;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut open = |ipv6, port| {
                UdpSocket::open(
                    &UdpOptions {
                        address: wildcard(ipv6, port),
                        firewall_mark,
                        send_buffer: SEND_BUFFER,
                        receive_buffer: RECEIVE_BUFFER,
                    },
                    warnings,
                )
            };
            let ipv4 = open(false, port);
            let chosen = ipv4.as_ref().map_or(port, |socket| socket.local().port());
            let ipv6 = open(true, chosen);
            let taken = [&ipv4, &ipv6].into_iter().any(
                |socket| matches!(socket, Err(error) if error.kind() == io::ErrorKind::AddrInUse),
            );
            if taken && port == 0 && attempt < ATTEMPTS {
                continue;
            }
            return match (ipv4, ipv6) {
                (Err(error), _) | (_, Err(error)) if taken => Err(error),
                (Err(error), Err(_)) => Err(error),
                (ipv4, ipv6) => {
                    let port = ipv4
                        .as_ref()
                        .or(ipv6.as_ref())
                        .map_or(chosen, |socket| socket.local().port());
                    for (family, socket) in [("IPv4", &ipv4), ("IPv6", &ipv6)] {
                        if let Err(error) = socket {
                            warnings.push(format!("{family} is not used: {error}"));
                        }
                    }
                    Ok(Self {
                        ipv4: ipv4.ok(),
                        ipv6: ipv6.ok(),
                        port,
                        preferred_port: port,
                        firewall_mark,
                    })
                }
            };
        }
    }

    pub(super) fn of(&mut self, remote: SocketAddr) -> Option<&mut UdpSocket> {
        if remote.is_ipv6() {
            self.ipv6.as_mut()
        } else {
            self.ipv4.as_mut()
        }
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (u64, &UdpSocket)> {
        let ipv4 = self.ipv4.as_ref().map(|socket| (IPV4, socket));
        ipv4.into_iter()
            .chain(self.ipv6.as_ref().map(|socket| (IPV6, socket)))
    }

    pub(super) fn counters(&self) -> UdpCounters {
        let mut sum = UdpCounters::default();
        for (_, socket) in self.each() {
            sum.add(socket.counters());
        }
        sum
    }
}
