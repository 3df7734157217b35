//! One end of the tunnel on real sockets: a thread that owns a packet engine, the TUN device and two UDP sockets.
//!
//! The thread runs each batch to completion: what one read brought in is sealed or opened and written out before the next
//! read, so that nothing is queued between and order within a flow is kept. While a UDP socket takes nothing the TUN device
//! is not read, which pushes back on the senders. Timers fire on the boot clock. Commands are applied between batches and
//! answered when they have been. When the TUN device is gone the thread ends and says so: an end of the tunnel that takes
//! no packets must not look alive.
//!
//! The loop is written against [`PacketEngine`], so that it can be tested, and measured, without all that
//! [`TunnelEngine`] decides.

mod sockets;
mod tun_writer;

use std::io::{self, IoSliceMut};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use wardgate_datapath::command::{Command, Refused, TranslatedFlow};
use wardgate_datapath::event::Event;
use wardgate_datapath::tunnel::figures::ConnectionFigures;
use wardgate_datapath::tunnel::{Arrival, EngineConfig, Io, Role, TunnelEngine};
use wardgate_datapath::{Outbox, TunSink};
use wardgate_packet::offload::{MAX_SUPER_PACKET, TunRead, VNET_HEADER_LEN};

use crate::clock::BootClock;
use crate::io_thread::{IoThread, Patience, answer};
use crate::mailbox::{Asked, EventQueue, NoAnswer};
use crate::notices::{News, Notices};
use crate::outbox::{GsoOutbox, Outcome};
use crate::sys::{self, BootTimer, Interest, Poller, Ready};
use crate::tun::Tun;
use crate::udp::{DATAGRAM_ROOM, Received, UdpCounters};
pub use sockets::TunnelSockets;
use tun_writer::{TunWriter, is_gone};

/// While so many events wait for Python, reports of flows stay in the engine, which knows how to bound them.
const MAX_WAITING_BATCHES: usize = 64;

/// The machine that a [`Host`] drives; `TunnelEngine` in production.
pub trait PacketEngine: Send + 'static {
    type Command: Send + 'static;
    type Refusal: Send + 'static;
    type Event: Send + 'static;

    /// Datagrams of `received.stride` bytes in `buffer`.
    fn handle_network(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    );
    fn handle_tun(&mut self, read: &TunRead<'_>, io: &mut Io<'_, impl TunSink, impl Outbox>);
    fn apply(
        &mut self,
        command: Self::Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Self::Refusal>;
    fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>);
    fn poll_timeout(&mut self) -> Option<Instant>;
    /// The next event for a queue in which so many wait.
    fn poll_event(&mut self, waiting: usize) -> Option<Self::Event>;
    fn stats(&mut self) -> Vec<(&'static str, u64)>;
    /// Flows that are translated, for a process that takes this one's place.
    fn translated_flows(&self, _now: Instant) -> Vec<TranslatedFlow> {
        Vec::new()
    }
    /// Figures of those of the named peers that have a connection.
    fn figures(&self, _peers: &[String], _now: Instant) -> Vec<ConnectionFigures> {
        Vec::new()
    }
}

/// A client's or a gateway's end of the tunnel.
pub type TunnelHost = Host<TunnelEngine>;

/// What a tunnel's end is started with.
#[derive(Clone, Debug)]
pub struct TunnelHostConfig {
    pub role: Role,
    pub private_key: [u8; 32],
    /// The interface, created if it does not exist.
    pub tun_name: String,
    /// The open device of that interface, inherited from a process that this one succeeds ([`Tun::inherit`]).
    pub tun_device: Option<RawFd>,
    pub listen_port: u16,
    /// SO_MARK on everything sent, so that policy routing keeps it out of the tunnel.
    pub firewall_mark: Option<u32>,
}

impl TunnelHost {
    /// Open the TUN device and a UDP socket for each family and start the thread. A busy port gives way to another.
    ///
    /// # Errors
    /// What the kernel said when the TUN device, or both sockets, could not be opened.
    pub fn open(config: TunnelHostConfig) -> io::Result<Self> {
        let mut warnings = Vec::new();
        let tun = match config.tun_device {
            Some(device) => Tun::inherit(device, &config.tun_name)?,
            None => Tun::open(&config.tun_name)?,
        };
        if !tun.joins().udp {
            warnings.push(
                "the kernel segments no UDP on TUN devices (before Linux 6.2): throughput suffers"
                    .to_owned(),
            );
        }
        let sockets = TunnelSockets::open(config.listen_port, config.firewall_mark, &mut warnings)?;
        let clock = BootClock::new();
        let mut seed = [0; 32];
        sys::fill_random(&mut seed)?;
        let engine = TunnelEngine::new(
            config.role,
            EngineConfig {
                private_key: config.private_key,
                seed,
                epoch: clock.zero(),
                unix_at_epoch: clock.unix_at_zero(),
            },
        );
        Self::start(Some(tun), sockets, clock, engine, warnings)
    }
}

impl PacketEngine for TunnelEngine {
    type Command = Command;
    type Refusal = Refused;
    type Event = Event;

    fn handle_network(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let arrival = Arrival {
            from: received.from,
            local: received.local,
            ecn: received.ecn,
            stride: received.stride,
        };
        self.handle_network(&arrival, buffer, io);
    }

    fn handle_tun(&mut self, read: &TunRead<'_>, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        self.handle_tun(read, io);
    }

    fn apply(
        &mut self,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        self.apply(command, io)
    }

    fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        self.handle_timeout(io);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        TunnelEngine::poll_timeout(self)
    }

    fn poll_event(&mut self, waiting: usize) -> Option<Event> {
        if waiting < MAX_WAITING_BATCHES {
            self.poll_event()
        } else {
            self.poll_urgent_event()
        }
    }

    fn stats(&mut self) -> Vec<(&'static str, u64)> {
        self.stats()
    }

    fn translated_flows(&self, now: Instant) -> Vec<TranslatedFlow> {
        self.translated_flows(now)
    }

    fn figures(&self, peers: &[String], now: Instant) -> Vec<ConnectionFigures> {
        self.figures(peers, now)
    }
}

/// The handle of the thread; it may be used from any thread, dropping it closes everything.
pub struct Host<E: PacketEngine> {
    thread: IoThread<Question<E>>,
    events: Arc<EventQueue<E::Event>>,
    local_port: Arc<AtomicU16>,
    clock: BootClock,
}

enum Question<E: PacketEngine> {
    Apply(E::Command, SyncSender<Result<(), E::Refusal>>),
    Rebind(SyncSender<io::Result<()>>),
    Stats(SyncSender<Vec<(&'static str, u64)>>),
    Figures(Vec<String>, SyncSender<Vec<ConnectionFigures>>),
    ShareTun(SyncSender<io::Result<OwnedFd>>),
    TranslatedFlows(SyncSender<Vec<TranslatedFlow>>),
    Stop,
}

impl<E: PacketEngine> Host<E> {
    /// Start the thread. Without a TUN device packets for it are dropped and counted.
    pub fn start(
        tun: Option<Tun>,
        sockets: TunnelSockets,
        clock: BootClock,
        engine: E,
        warnings: Vec<String>,
    ) -> io::Result<Self> {
        let events = Arc::new(EventQueue::new()?);
        let local_port = Arc::new(AtomicU16::new(sockets.port()));
        let work = |asked, notices| {
            let shared = Shared {
                events: events.clone(),
                notices,
                local_port: local_port.clone(),
            };
            let worker = Worker::new(tun, sockets, clock, engine, asked, shared)?;
            Ok(move || worker.run())
        };
        // Listeners of events wake, too, and see that nobody answers any more.
        let listened = events.clone();
        let at_end = move || listened.raise();
        let thread = IoThread::start(
            "wardgate-tunnel",
            Question::Stop,
            warnings,
            Patience::default(),
            work,
            at_end,
        )?;
        Ok(Self {
            thread,
            events,
            local_port,
            clock,
        })
    }

    /// Apply one command and return when the engine has.
    pub fn apply(&self, command: E::Command) -> Result<Result<(), E::Refusal>, NoAnswer> {
        self.thread.ask(|reply| Question::Apply(command, reply))
    }

    pub fn drain_events(&self) -> Vec<E::Event> {
        let (events, full) = self.events.drain();
        if full {
            self.thread.wake();
        }
        events
    }

    /// Readable when events wait, and when the thread has ended.
    pub fn event_fd(&self) -> RawFd {
        self.events.readable().as_raw_fd()
    }

    pub fn clock(&self) -> &BootClock {
        &self.clock
    }

    pub fn local_port(&self) -> u16 {
        self.local_port.load(Ordering::Relaxed)
    }

    /// Replace both UDP sockets, on another port: a relay would refuse an allocation from the old one.
    ///
    /// # Errors
    /// [`NoAnswer`], or what the kernel said; then the old sockets are still in use.
    pub fn rebind(&self) -> io::Result<()> {
        self.thread
            .ask(Question::Rebind)
            .unwrap_or_else(|no_answer| Err(io::Error::other(no_answer)))
    }

    /// The flows that a gateway translates, for a process that succeeds this one.
    pub fn translated_flows(&self) -> Result<Vec<TranslatedFlow>, NoAnswer> {
        self.thread.ask(Question::TranslatedFlows)
    }

    /// Another descriptor of the TUN device, for a process that succeeds this one ([`Tun::share`]).
    ///
    /// # Errors
    /// [`NoAnswer`], that there is no device, or what the kernel said.
    pub fn share_tun(&self) -> io::Result<OwnedFd> {
        self.thread
            .ask(Question::ShareTun)
            .unwrap_or_else(|no_answer| Err(io::Error::other(no_answer)))
    }

    /// Counters of the engine and of the sockets.
    pub fn stats(&self) -> Result<Vec<(&'static str, u64)>, NoAnswer> {
        self.thread.ask(Question::Stats)
    }

    /// Figures of single connections. Packets wait while they are collected: name some dozens of peers at a time.
    pub fn figures(&self, peers: Vec<String>) -> Result<Vec<ConnectionFigures>, NoAnswer> {
        self.thread.ask(|reply| Question::Figures(peers, reply))
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

    /// Readable while [`Host::take_news`] has something.
    pub fn news_fd(&self) -> RawFd {
        self.thread.news_fd()
    }

    /// Stop the thread and close everything; idempotent.
    pub fn close(&self) {
        self.thread.close();
    }
}

/// Receive buffers filled by one call. More than one helps when many peers send, or packets are small.
const BUFFERS: usize = 4;
/// Reads from the TUN device before what they made is sent.
const TUN_READS: usize = 64;
/// Bytes that make it worth sending before reading on: what one segmented send carries.
const ENOUGH_TO_SEND: usize = 48 * 1_312;

const WAKE: u64 = 0;
const TIMER: u64 = 1;
const TUN: u64 = 2;
const IPV4: u64 = 3;
const IPV6: u64 = 4;

struct Shared<E: PacketEngine> {
    events: Arc<EventQueue<E::Event>>,
    notices: Arc<Notices>,
    local_port: Arc<AtomicU16>,
}

/// The thread's own half.
struct Worker<E: PacketEngine> {
    engine: E,
    tun: TunWriter,
    sockets: TunnelSockets,
    outbox: GsoOutbox,
    clock: BootClock,
    asked: Asked<Question<E>>,
    shared: Shared<E>,
    poller: Poller,
    timer: BootTimer,
    /// When the timer will fire; it may be earlier than needed, never later.
    timer_at: Option<Instant>,
    /// Whether readiness to send is being waited for, and the TUN device not read.
    held_back: bool,
    slab: Vec<u8>,
    tun_buffer: Vec<u8>,
    received: Vec<Received>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    received_datagrams: u64,
    received_bytes: u64,
    receive_errors: u64,
    tun_reads: u64,
    tun_read_errors: u64,
    unusable_tun_reads: u64,
    /// Of sockets that have been replaced.
    former: UdpCounters,
}

impl<E: PacketEngine> Worker<E> {
    fn new(
        tun: Option<Tun>,
        sockets: TunnelSockets,
        clock: BootClock,
        engine: E,
        asked: Asked<Question<E>>,
        shared: Shared<E>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let timer = BootTimer::new()?;
        poller.add(asked.wake(), WAKE, Interest::READABLE)?;
        poller.add(&timer, TIMER, Interest::READABLE)?;
        if let Some(tun) = &tun {
            poller.add(tun, TUN, Interest::READABLE)?;
        }
        for (token, socket) in sockets.each() {
            poller.add(socket, token, Interest::READABLE)?;
        }
        Ok(Self {
            engine,
            tun: TunWriter::new(tun),
            sockets,
            outbox: GsoOutbox::new(),
            clock,
            asked,
            shared,
            poller,
            timer,
            timer_at: None,
            held_back: false,
            slab: vec![0; BUFFERS * DATAGRAM_ROOM],
            tun_buffer: vec![0; VNET_HEADER_LEN + MAX_SUPER_PACKET],
            received: Vec::with_capacity(BUFFERS),
            counters: Counters::default(),
        })
    }

    fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            self.run_timers();
            self.settle();
            if self.is_cut_off() {
                return;
            }
            ready.clear();
            self.shared.notices.rest();
            let waited = self.poller.wait(&mut ready, true);
            self.shared.notices.resume();
            if let Err(error) = waited {
                self.shared
                    .notices
                    .fail(format!("it cannot wait for packets: {error}"));
                return;
            }
            for &event in &ready {
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
                    TUN => self.read_tun(event),
                    token => self.read_udp(token),
                }
                self.flush();
            }
        }
    }

    fn run_timers(&mut self) {
        let Some(at) = self.engine.poll_timeout() else {
            return;
        };
        let now = self.clock.now();
        if at <= now {
            self.engine.handle_timeout(&mut Io {
                now,
                tun: &mut self.tun,
                out: &mut self.outbox,
            });
        }
    }

    /// Everything out that the last step made, then arm what will wake us.
    fn settle(&mut self) {
        self.flush();
        self.publish();
        if let Some(at) = self.engine.poll_timeout()
            && self.timer_at.is_none_or(|armed| at < armed)
        {
            self.timer.set(self.clock.boot_time_at(at));
            self.timer_at = Some(at);
        }
    }

    fn publish(&mut self) {
        let engine = &mut self.engine;
        self.shared
            .events
            .fill(|waiting| engine.poll_event(waiting));
    }

    fn flush(&mut self) {
        self.tun.flush(&mut self.slab);
        self.send();
        if self.outbox.is_blocked() != self.held_back {
            self.held_back = self.outbox.is_blocked();
            self.update_interest();
        }
    }

    fn send(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let sockets = &mut self.sockets;
        let mut nowhere = 0;
        self.outbox.flush(|batch| match sockets.of(batch.remote) {
            Some(socket) => {
                let source = batch.local.map(|local| local.ip());
                socket.send(batch, source)
            }
            None => {
                nowhere += batch.datagrams() as u64;
                Outcome::Done
            }
        });
        self.counters.former.send_errors += nowhere;
    }

    /// Wait for room in the blocked sockets and leave the TUN device alone, or the other way round.
    fn update_interest(&mut self) {
        if let Some(tun) = &self.tun.device {
            let interest = Interest {
                readable: !self.held_back,
                writable: false,
            };
            // Of these descriptors, both known to be open and added, nothing can be refused.
            let _ = self.poller.modify(tun, TUN, interest);
        }
        for (token, socket) in self.sockets.each() {
            let interest = Interest {
                readable: true,
                writable: socket.is_blocked(),
            };
            let _ = self.poller.modify(socket, token, interest);
        }
    }

    fn read_tun(&mut self, event: Ready) {
        let now = self.clock.now();
        for _ in 0..TUN_READS {
            let Some(device) = &self.tun.device else {
                return;
            };
            let len = match device.read(&mut self.tun_buffer) {
                Ok(len) => len,
                Err(error) => {
                    if is_gone(&error) || event.failed {
                        self.tun.lost = Some(error);
                    } else if error.kind() != io::ErrorKind::WouldBlock {
                        self.counters.tun_read_errors += 1;
                    }
                    return;
                }
            };
            self.counters.tun_reads += 1;
            match TunRead::parse(&self.tun_buffer[..len]) {
                Ok(read) => {
                    let mut io = Io {
                        now,
                        tun: &mut self.tun,
                        out: &mut self.outbox,
                    };
                    self.engine.handle_tun(&read, &mut io);
                }
                Err(_) => self.counters.unusable_tun_reads += 1,
            }
            if self.outbox.waiting() >= ENOUGH_TO_SEND {
                return;
            }
        }
    }

    fn read_udp(&mut self, token: u64) {
        let socket = match token {
            IPV4 => self.sockets.ipv4.as_mut(),
            _ => self.sockets.ipv6.as_mut(),
        };
        let Some(socket) = socket else {
            return;
        };
        // Whatever woke us, a blocked socket is worth another try.
        if socket.is_blocked() {
            socket.unblock();
            self.outbox.retry_all();
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
        for (index, received) in self.received.iter().enumerate() {
            self.counters.received_datagrams += received.len.div_ceil(received.stride) as u64;
            self.counters.received_bytes += received.len as u64;
            let base = index * DATAGRAM_ROOM;
            self.tun.base = base;
            let mut io = Io {
                now,
                tun: &mut self.tun,
                out: &mut self.outbox,
            };
            let buffer = &mut self.slab[base..base + received.len];
            self.engine.handle_network(received, buffer, &mut io);
        }
    }

    fn answer(&mut self) -> std::ops::ControlFlow<()> {
        while let Some(question) = self.asked.next() {
            match question {
                Question::Apply(command, reply) => {
                    let mut io = Io {
                        now: self.clock.now(),
                        tun: &mut self.tun,
                        out: &mut self.outbox,
                    };
                    let result = self.engine.apply(command, &mut io);
                    self.flush();
                    self.publish();
                    answer(&reply, result);
                }
                Question::Rebind(reply) => {
                    let result = self.rebind();
                    self.publish();
                    answer(&reply, result);
                }
                Question::Stats(reply) => {
                    let stats = self.stats();
                    answer(&reply, stats);
                }
                Question::Figures(peers, reply) => {
                    let figures = self.engine.figures(&peers, self.clock.now());
                    answer(&reply, figures);
                }
                Question::ShareTun(reply) => {
                    let none = || Err(io::ErrorKind::NotFound.into());
                    answer(
                        &reply,
                        self.tun.device.as_ref().map_or_else(none, Tun::share),
                    );
                }
                Question::TranslatedFlows(reply) => {
                    let flows = self.engine.translated_flows(self.clock.now());
                    answer(&reply, flows);
                }
                Question::Stop => {
                    self.flush();
                    return std::ops::ControlFlow::Break(());
                }
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn rebind(&mut self) -> io::Result<()> {
        let mut warnings = Vec::new();
        let sockets = self.sockets.reopen(&mut warnings)?;
        for warning in warnings {
            self.shared.notices.warn(warning);
        }
        for (token, socket) in sockets.each() {
            self.poller.add(socket, token, Interest::READABLE)?;
        }
        self.counters.former.add(self.sockets.counters());
        self.sockets = sockets;
        self.outbox.clear();
        self.shared
            .local_port
            .store(self.sockets.port(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether the TUN device is gone; then that is noted.
    fn is_cut_off(&self) -> bool {
        if let Some(error) = &self.tun.lost {
            self.shared
                .notices
                .fail(format!("the TUN device is gone: {error}"));
        }
        self.tun.lost.is_some()
    }

    fn stats(&mut self) -> Vec<(&'static str, u64)> {
        let mut udp = self.counters.former;
        udp.add(self.sockets.counters());
        let own = &self.counters;
        let mut stats = self.engine.stats();
        stats.extend([
            ("io_turns", self.shared.notices.turns()),
            ("udp_received_datagrams", own.received_datagrams),
            ("udp_received_bytes", own.received_bytes),
            ("udp_receive_errors", own.receive_errors),
            ("udp_receive_dropped", udp.receive_drops),
            ("udp_sent_datagrams", udp.sent_datagrams),
            ("udp_sent_bytes", udp.sent_bytes),
            ("udp_send_errors", udp.send_errors),
            ("udp_send_dropped", self.outbox.dropped()),
            ("tun_reads", own.tun_reads),
            ("tun_read_errors", own.tun_read_errors),
            ("tun_unusable_reads", own.unusable_tun_reads),
            ("tun_writes", self.tun.writes),
            ("tun_written_packets", self.tun.packets),
            ("tun_write_dropped", self.tun.dropped),
        ]);
        stats
    }
}

#[cfg(test)]
mod tests;
