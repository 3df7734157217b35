//! The relay on real sockets: a thread that owns the relay engine, the listen sockets and one socket for each allocation
//! and family.
//!
//! An allocation's socket is bound before the engine answers, at its demand; a port that cannot be bound it passes over.
//! Allocations have a share of the process's descriptors ([`RelayHostConfig::max_sockets`]) and never take the rest, with
//! which the process reaches its portal.
//! Each ready socket is read once a round, so that none starves the others. What a blocked socket cannot take waits for it
//! within the outbox's limit and is dropped beyond: a relay has nobody to push back on.

mod sockets;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use wardgate_datapath::relay::{PeerRules, RelayConfig, RelayEngine};

use crate::clock::{BootClock, unix_now};
use crate::io_thread::{IoThread, Patience, answer};
use crate::mailbox::{Asked, NoAnswer};
use crate::notices::{News, Notices};
use crate::sys::{self, BootTimer, Interest};
use crate::udp::{DATAGRAM_ROOM, Received};
use sockets::{RelayIo, await_room};

/// What a relay is started with.
#[derive(Clone, Debug)]
pub struct RelayHostConfig {
    /// 64 hexadecimal digits.
    pub stamp_secret: String,
    /// Public addresses as announced; a family without one is not served.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Listen port; 0 lets the operating system pick one, for both families the same.
    pub port: u16,
    pub allocation_ports: RangeInclusive<u16>,
    pub peer_rules: PeerRules,
    /// Sockets of allocations at one time, one for each and family.
    pub max_sockets: usize,
}

/// The handle of the relay's thread; dropping it closes everything.
pub struct RelayHost {
    thread: IoThread<Question>,
    port: u16,
}

enum Question {
    Drain(SyncSender<()>),
    Stats(SyncSender<Vec<(&'static str, u64)>>),
    Stop,
}

impl RelayHost {
    /// Bind the listen port on the wildcard address of each family that is announced, and start the thread.
    ///
    /// # Errors
    /// `InvalidInput` without a public address; else what the kernel says of the listen sockets.
    pub fn start(config: RelayHostConfig) -> io::Result<Self> {
        let clock = BootClock::new();
        let mut warnings = Vec::new();
        let (io, port) = RelayIo::open(&config, &mut warnings)?;
        let mut peer_rules = config.peer_rules;
        peer_rules
            .denied
            .extend(inner_addresses(config.ipv4, config.ipv6));
        let mut seed = [0; 32];
        sys::fill_random(&mut seed)?;
        let engine = RelayEngine::new(RelayConfig {
            stamp_secret: config.stamp_secret,
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            port,
            allocation_ports: config.allocation_ports,
            peer_rules,
            seed,
            epoch: clock.zero(),
            unix_at_epoch: clock.unix_at_zero(),
        });
        let work = |asked, notices| {
            let worker = Worker::new(engine, io, clock, asked, notices)?;
            Ok(move || worker.run())
        };
        let thread = IoThread::start(
            "wardgate-relay",
            Question::Stop,
            warnings,
            Patience::default(),
            work,
            || (),
        )?;
        Ok(Self { thread, port })
    }

    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Refuse new allocations from now on.
    pub fn drain(&self) -> Result<(), NoAnswer> {
        self.thread.ask(Question::Drain)
    }

    /// Counters of the engine and of the sockets.
    pub fn stats(&self) -> Result<Vec<(&'static str, u64)>, NoAnswer> {
        self.thread.ask(Question::Stats)
    }

    /// Look whether the thread goes on ([`IoThread::check`]).
    pub fn check(&self) -> u32 {
        self.thread.check()
    }

    /// What an operator should know, since the start.
    pub fn warnings(&self) -> Vec<String> {
        self.thread.warnings()
    }

    /// Warnings since the last call, and why the thread has ended, if it has by itself.
    pub fn take_news(&self) -> News {
        self.thread.take_news()
    }

    /// Readable while [`RelayHost::take_news`] has something.
    pub fn news_fd(&self) -> RawFd {
        self.thread.news_fd()
    }

    /// Stop the thread and close everything; idempotent.
    pub fn close(&self) {
        self.thread.close();
    }
}

/// Receive buffers filled by one call.
const BUFFERS: usize = 4;
const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// How often the engine is told what the wall clock shows, which may have been set.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(10);

/// Addresses of this machine that are not announced: nobody outside has business there (relay §11). A relay that announces a
/// loopback address serves this machine alone, and its peers may have any of them.
fn inner_addresses(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Vec<IpAddr> {
    let announced = [ipv4.map(IpAddr::from), ipv6.map(IpAddr::from)];
    if announced.iter().flatten().any(IpAddr::is_loopback) {
        return Vec::new();
    }
    let mut addresses = sys::interface_addresses().unwrap_or_default();
    addresses.retain(|address| !announced.contains(&Some(*address)));
    addresses
}

/// The thread's own half.
struct Worker {
    engine: RelayEngine,
    io: RelayIo,
    clock: BootClock,
    asked: Asked<Question>,
    notices: Arc<Notices>,
    timer: BootTimer,
    /// When the timer will fire; it may be earlier than needed, never later.
    timer_at: Option<Instant>,
    wall_clock_told_at: Instant,
    slab: Vec<u8>,
    received: Vec<Received>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    received_datagrams: u64,
    received_bytes: u64,
    receive_errors: u64,
}

impl Worker {
    fn new(
        engine: RelayEngine,
        io: RelayIo,
        clock: BootClock,
        asked: Asked<Question>,
        notices: Arc<Notices>,
    ) -> io::Result<Self> {
        let timer = BootTimer::new()?;
        io.poller.add(asked.wake(), WAKE, Interest::READABLE)?;
        io.poller.add(&timer, TIMER, Interest::READABLE)?;
        Ok(Self {
            engine,
            io,
            clock,
            asked,
            notices,
            timer,
            timer_at: None,
            wall_clock_told_at: clock.now(),
            slab: vec![0; BUFFERS * DATAGRAM_ROOM],
            received: Vec::with_capacity(BUFFERS),
            counters: Counters::default(),
        })
    }

    fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            self.run_timers();
            self.io.flush();
            self.arm();
            ready.clear();
            self.notices.rest();
            let waited = self.io.poller.wait(&mut ready, true);
            self.notices.resume();
            if let Err(error) = waited {
                self.notices
                    .fail(format!("it cannot wait for packets: {error}"));
                return;
            }
            for event in &ready {
                match event.token {
                    WAKE => {
                        self.asked.wake().clear();
                        if self.answer().is_break() {
                            return;
                        }
                    }
                    TIMER => {
                        self.timer.clear();
                        self.timer_at = None;
                    }
                    index => self.read(index as usize),
                }
                self.io.flush();
            }
            self.tell_of_refusal();
        }
    }

    /// One warning for each cause; how often is counted.
    fn tell_of_refusal(&mut self) {
        if let Some(error) = self.io.refusal.take() {
            self.notices.warn(format!(
                "no socket for a further allocation: {error}; raise the limit of open files (LimitNOFILE=, ulimit -n)"
            ));
        }
    }

    fn run_timers(&mut self) {
        let now = self.clock.now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now, &mut self.io);
        }
        if now.duration_since(self.wall_clock_told_at) >= WALL_CLOCK_INTERVAL {
            self.wall_clock_told_at = now;
            self.engine.set_wall_clock(unix_now(), now);
        }
    }

    fn arm(&mut self) {
        if let Some(at) = self.engine.poll_timeout()
            && self.timer_at.is_none_or(|armed| at < armed)
        {
            self.timer.set(self.clock.boot_time_at(at));
            self.timer_at = Some(at);
        }
    }

    fn read(&mut self, index: usize) {
        // The socket may have been closed since it was reported.
        let Some(socket) = self.io.sockets.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let local = socket.local();
        let public = if local.is_ipv6() {
            self.io.ipv6
        } else {
            self.io.ipv4
        };
        let Some(public) = public else {
            return;
        };
        let to = SocketAddr::new(public.ip, local.port());
        if socket.is_blocked() {
            socket.unblock();
            await_room(&self.io.poller, socket, index, false);
            self.io.outbox.retry(Some(to));
        }
        self.received.clear();
        let mut rooms = self.slab.chunks_exact_mut(DATAGRAM_ROOM);
        let mut buffers: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        if let Err(error) = socket.receive(&mut buffers, &mut self.received) {
            if error.kind() != io::ErrorKind::WouldBlock {
                self.counters.receive_errors += 1;
            }
            return;
        }
        let now = self.clock.now();
        for (received, room) in self
            .received
            .iter()
            .zip(self.slab.chunks_exact(DATAGRAM_ROOM))
        {
            self.counters.received_datagrams += received.len.div_ceil(received.stride) as u64;
            self.counters.received_bytes += received.len as u64;
            self.engine.handle_network(
                received.from,
                to,
                received.ecn,
                received.stride,
                &room[..received.len],
                now,
                &mut self.io,
            );
        }
    }

    fn answer(&mut self) -> std::ops::ControlFlow<()> {
        while let Some(question) = self.asked.next() {
            match question {
                Question::Drain(reply) => {
                    self.engine.drain();
                    answer(&reply, ());
                }
                Question::Stats(reply) => {
                    answer(&reply, self.stats());
                }
                Question::Stop => return std::ops::ControlFlow::Break(()),
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        let udp = self.io.counters();
        let own = &self.counters;
        let mut stats = self.engine.stats().entries().to_vec();
        stats.extend([
            ("io_turns", self.notices.turns()),
            ("udp_received_datagrams", own.received_datagrams),
            ("udp_received_bytes", own.received_bytes),
            ("udp_receive_errors", own.receive_errors),
            ("udp_receive_dropped", udp.receive_drops),
            ("udp_sent_datagrams", udp.sent_datagrams),
            ("udp_sent_bytes", udp.sent_bytes),
            ("udp_send_errors", udp.send_errors),
            ("udp_send_dropped", self.io.outbox.dropped()),
            ("sockets", self.io.open_sockets as u64),
            ("sockets_most", self.io.max_sockets as u64),
            ("sockets_refused", self.io.refused_sockets),
            ("refused_ports", self.io.refused_ports),
        ]);
        stats
    }
}

#[cfg(test)]
mod tests;
