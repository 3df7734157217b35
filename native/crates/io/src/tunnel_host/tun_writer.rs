//! From the engine to the TUN device.

use std::io;
use std::ops::Range;

use wardgate_datapath::TunSink;
use wardgate_packet::offload::{Coalescer, Joins};

use crate::tun::Tun;

/// Joins packets for the TUN device and writes them.
pub struct TunWriter {
    pub device: Option<Tun>,
    /// What said that the device is gone.
    pub lost: Option<io::Error>,
    coalescer: Coalescer,
    /// Where the buffer now being handled lies in the slab.
    pub base: usize,
    pub writes: u64,
    pub packets: u64,
    pub dropped: u64,
}

impl TunWriter {
    pub fn new(device: Option<Tun>) -> Self {
        let joins = device.as_ref().map_or(NO_JOINS, Tun::joins);
        Self {
            device,
            lost: None,
            coalescer: Coalescer::new(joins),
            base: 0,
            writes: 0,
            packets: 0,
            dropped: 0,
        }
    }

    pub fn flush(&mut self, slab: &mut [u8]) {
        if self.coalescer.is_empty() {
            return;
        }
        let mut refused = false;
        self.coalescer.flush(slab, |write| {
            let result = match &self.device {
                Some(device) => device.write(&write),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            match result {
                Ok(()) => {
                    self.writes += 1;
                    self.packets += write.packets as u64;
                }
                Err(error) => {
                    self.dropped += write.packets as u64;
                    refused |= write.packets > 1 && error.raw_os_error() == Some(libc::EINVAL);
                    if is_gone(&error) {
                        self.lost = Some(error);
                    }
                }
            }
        });
        if refused {
            self.coalescer.set_joins(NO_JOINS);
        }
    }
}

const NO_JOINS: Joins = Joins {
    tcp: false,
    udp: false,
};

impl TunSink for TunWriter {
    fn push(&mut self, buffer: &mut [u8], range: Range<usize>) {
        let at = self.base + range.start;
        self.coalescer.push(&buffer[range], at);
    }

    fn push_owned(&mut self, packet: &[u8]) {
        self.coalescer.push_owned(packet);
    }
}

/// The interface was deleted, by hand or with its network namespace.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::ENODEV))
}
