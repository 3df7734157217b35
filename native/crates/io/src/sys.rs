//! The system calls that neither `std` nor `socket2` wraps, each behind a safe function.
//!
//! All `unsafe` code of the project is in this file. What it gives out owns its descriptor and takes slices, so that
//! callers cannot break memory safety whatever they pass.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Time since boot, suspension included.
pub fn boot_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes. The clock exists since Linux 2.6.39, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Fill `bytes` from the operating system's generator.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is valid for writes of its length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match check(got as libc::c_int) {
            Ok(got) => filled += got as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An event counter (eventfd), non-blocking.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        Ok(Self(File::from(own(fd))))
    }

    /// Make it readable.
    pub fn raise(&self) {
        use io::Write as _;
        // The one possible failure is a counter about to overflow: then it is readable already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Make it unreadable until the next [`EventFd::raise`].
    pub fn clear(&self) {
        use io::Read as _;
        let _ = (&self.0).read(&mut [0; 8]);
    }

    pub fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A one-shot timer on the boot clock: it also fires on waking from suspension.
#[derive(Debug)]
pub struct BootTimer(File);

impl BootTimer {
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, flags) })?;
        Ok(Self(File::from(own(fd))))
    }

    /// Fire at `at` ([`boot_time`]), instead of whatever was set.
    pub fn set(&self, at: Duration) {
        let value = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: at.as_secs() as libc::time_t,
                // All zero would disarm the timer.
                tv_nsec: at.subsec_nanos().max(1).into(),
            },
        };
        // SAFETY: `value` is valid for reads, the old value is not asked for; a valid descriptor and a valid time cannot fail.
        unsafe {
            libc::timerfd_settime(
                self.0.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const value,
                std::ptr::null_mut(),
            )
        };
    }

    /// Make it unreadable after it has fired.
    pub fn clear(&self) {
        use io::Read as _;
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for BootTimer {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Readiness of many descriptors (epoll, level-triggered).
#[derive(Debug)]
pub struct Poller(OwnedFd);

/// What to wait for. With neither, only errors and hang-ups are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    pub readable: bool,
    pub writable: bool,
}

impl Interest {
    pub const READABLE: Self = Self {
        readable: true,
        writable: false,
    };
}

/// One ready descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: u64,
    /// The descriptor is broken or gone.
    pub failed: bool,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self(own(fd)))
    }

    pub fn add(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn modify(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Wait until something is ready and append it to `ready`; `block` false only looks.
    pub fn wait(&self, ready: &mut Vec<Ready>, block: bool) -> io::Result<()> {
        const AT_ONCE: usize = 256;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        let timeout = if block { -1 } else { 0 };
        // SAFETY: `events` is valid for writes of `AT_ONCE` entries.
        let count = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                AT_ONCE as libc::c_int,
                timeout,
            )
        };
        let count = match check(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        ready.extend(events[..count].iter().map(|event| Ready {
            token: event.u64,
            failed: event.events & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0,
        }));
        Ok(())
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: &impl AsFd,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut events = 0;
        if interest.readable {
            events |= libc::EPOLLIN as u32;
        }
        if interest.writable {
            events |= libc::EPOLLOUT as u32;
        }
        let mut event = libc::epoll_event { events, u64: token };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: `event` is valid for reads, both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }
}

/// Longest name of a network interface, without the final zero.
pub const MAX_INTERFACE_NAME: usize = libc::IFNAMSIZ - 1;

/// Attach a descriptor of /dev/net/tun to the interface `name`, with virtio-net headers and without packet information.
///
/// # Errors
/// `InvalidInput` for a name that is empty or too long, else what the kernel says (EBUSY: somebody else has it open).
pub fn attach_tun(device: &File, name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() > MAX_INTERFACE_NAME || name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an interface name has 1 to {MAX_INTERFACE_NAME} bytes: {name:?}"),
        ));
    }
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(())
}

/// Take the TUN device of the interface `name` by its descriptor's number, which nobody else closes from now on.
///
/// # Errors
/// EBADF: it is not open, or no TUN device; `InvalidInput`: of another interface.
pub fn inherit_tun(number: RawFd, name: &str) -> io::Result<File> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq`, and fails for a number that is no open TUN device.
    check(unsafe { libc::ioctl(number, libc::TUNGETIFF, &raw mut request) })?;
    let found = request.ifr_name.map(|byte| byte as u8);
    let length = found.iter().position(|byte| *byte == 0);
    if found[..length.unwrap_or(found.len())] != *name.as_bytes() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the descriptor is open, and the caller gives it away.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Tell the TUN device which offloads we understand (`TUN_F_*`).
pub fn set_tun_offloads(device: &File, offloads: u32) -> io::Result<()> {
    // SAFETY: the argument is a number, not a pointer.
    check(unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(offloads),
        )
    })?;
    Ok(())
}

/// Make the character device node `path`, mode 0600.
pub fn make_character_device(path: &Path, major: u32, minor: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends in a zero byte.
    check(unsafe {
        libc::mknod(
            path.as_ptr(),
            libc::S_IFCHR | 0o600,
            libc::makedev(major, minor),
        )
    })?;
    Ok(())
}

/// Addresses of all network interfaces.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: `first` is valid for writes.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: the list is valid until `freeifaddrs`, each entry's address is null or of the size that its family tells.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: as above.
        let family = unsafe { entry.ifa_addr.as_ref() }.map(|address| address.sa_family.into());
        match family {
            Some(libc::AF_INET) => {
                // SAFETY: as above; the cast may not assume alignment.
                let address =
                    unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                let bytes = address.sin_addr.s_addr.to_ne_bytes();
                addresses.push(IpAddr::from(bytes));
            }
            Some(libc::AF_INET6) => {
                // SAFETY: as above.
                let address =
                    unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                addresses.push(IpAddr::from(address.sin6_addr.s6_addr));
            }
            _ => {}
        }
    }
    // SAFETY: `first` came from `getifaddrs`, and nothing borrowed from the list is left.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// Set an integer socket option that `socket2` does not know.
pub fn set_socket_option(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: `value` is valid for reads of its size.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Datagrams that the kernel dropped because the socket's receive buffer was full.
pub fn receive_drops(socket: &impl AsFd) -> io::Result<u64> {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut values = [0_u32; DROPS + 1];
    let mut len = mem::size_of_val(&values) as libc::socklen_t;
    // SAFETY: `values` is valid for writes of `len` bytes, `len` for reads and writes.
    check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(values[DROPS].into())
}

/// Move the calling thread, and those that it starts, to a new and empty network namespace.
#[cfg(test)]
pub fn leave_network_namespace() -> io::Result<()> {
    // SAFETY: takes no pointers; only the calling thread changes.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: called with a descriptor that the kernel has just returned to us and that nobody else knows.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_among_those_of_the_interfaces() {
        let addresses = interface_addresses().unwrap();
        assert!(
            addresses.contains(&IpAddr::from([127, 0, 0, 1])),
            "{addresses:?}"
        );
    }

    #[test]
    fn random_bytes_differ() {
        let mut draws = [[0; 32]; 2];
        for draw in &mut draws {
            fill_random(draw).unwrap();
        }
        assert_ne!(draws[0], draws[1]);
    }
}
