//! The TUN device of one tunnel end (data-plane §6.1).
//!
//! One queue: a second one would reorder flows. Addresses, routes, MTU and the interface's state are not set here; whoever
//! owns the network configuration does that by the interface's name once the device is open. `IFF_NAPI` stays off, it
//! costs a sixth of the throughput.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use wardgate_packet::offload::{Joins, TunWrite};

use crate::sys;

const NODE: &str = "/dev/net/tun";
/// Character device 10, 200 (Linux Documentation/admin-guide/devices.txt).
const NODE_NUMBERS: (u32, u32) = (10, 200);

/// `TUN_F_*` of linux/if_tun.h.
const CHECKSUM: u32 = 0x01;
const TSO4: u32 = 0x02;
const TSO6: u32 = 0x04;
const TSO_ECN: u32 = 0x08;
const USO4: u32 = 0x20;
const USO6: u32 = 0x40;
const TCP_OFFLOADS: u32 = CHECKSUM | TSO4 | TSO6 | TSO_ECN;
const ALL_OFFLOADS: u32 = TCP_OFFLOADS | USO4 | USO6;

/// An open TUN device, non-blocking; the interface goes when it is dropped.
#[derive(Debug)]
pub struct Tun {
    device: File,
    joins: Joins,
}

impl Tun {
    /// Open the device and create or adopt the interface `name`.
    ///
    /// # Errors
    /// Needs CAP_NET_ADMIN (EPERM); EBUSY when the interface is in use.
    pub fn open(name: &str) -> io::Result<Self> {
        let device = match open_node() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_node()?;
                open_node()?
            }
            other => other?,
        };
        sys::attach_tun(&device, name)?;
        Ok(Self::on(device))
    }

    /// Take over the open device of the interface `name` as descriptor number `device`, which is ours from now on.
    /// Packets that came while nobody read it have waited.
    ///
    /// # Errors
    /// EBADF: it is no TUN device; `InvalidInput`: it is another interface's.
    pub fn inherit(device: RawFd, name: &str) -> io::Result<Self> {
        Ok(Self::on(sys::inherit_tun(device, name)?))
    }

    /// Another descriptor of the same device: while it is open, the interface stays, and packets wait in it.
    ///
    /// # Errors
    /// EMFILE: there are too many.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.device.as_fd().try_clone_to_owned()
    }

    fn on(device: File) -> Self {
        let joins = if sys::set_tun_offloads(&device, ALL_OFFLOADS).is_ok() {
            Joins {
                tcp: true,
                udp: true,
            }
        } else if sys::set_tun_offloads(&device, TCP_OFFLOADS).is_ok() {
            Joins {
                tcp: true,
                udp: false,
            }
        } else {
            Joins {
                tcp: false,
                udp: false,
            }
        };
        Self { device, joins }
    }

    /// Which joined packets the device takes: TCP and UDP since Linux 6.2, TCP only before.
    pub fn joins(&self) -> Joins {
        self.joins
    }

    /// Read one packet behind its virtio-net header; a `buffer` too small cuts it silently.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; EBADFD when the interface is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.device).read(buffer)
    }

    /// Write one packet.
    ///
    /// # Errors
    /// EIO while the interface is down; EINVAL when the kernel refuses the join; EBADFD when the interface is gone.
    pub fn write(&self, packet: &TunWrite<'_, '_>) -> io::Result<()> {
        (&self.device).write_vectored(packet.slices).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn open_node() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(NODE)
}

/// Containers often lack the node.
fn make_node() -> io::Result<()> {
    let node = Path::new(NODE);
    if let Some(directory) = node.parent()
        && !directory.exists()
    {
        fs::DirBuilder::new().mode(0o751).create(directory)?;
    }
    sys::make_character_device(node, NODE_NUMBERS.0, NODE_NUMBERS.1)
}
