//! WireGuard between two fixed addresses, nothing else: what the I/O thread and the cipher cost.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use wardgate_datapath::tunnel::Io;
use wardgate_datapath::{Outbox, TunSink};
use wardgate_io::{BootClock, Host, PacketEngine, Received, Tun, TunnelSockets, fill_random};
use wardgate_packet::offload::TunRead;
use wardgate_wireguard::{
    DATA_HEADER_SIZE, DATA_OVERHEAD, MessageKind, PresharedKey, Timers, TimestampClock, Tunnel,
    TunnelConfig, classify,
};

use crate::{OUTER, Result, keys_of, report};

pub const INTERFACE: &str = "io0";
const PORT: u16 = 40_000;

/// One end: until its standard input closes.
pub fn run(side: usize) -> Result<()> {
    let clock = BootClock::new();
    let mut warnings = Vec::new();
    let sockets = TunnelSockets::open(PORT, None, &mut warnings)?;
    let mut seed = [0; 32];
    fill_random(&mut seed)?;
    let config = TunnelConfig {
        keys: Arc::new(keys_of(side)),
        peer: keys_of(1 - side).public,
        preshared_key: PresharedKey::new([0; 32]),
        index: 1,
        timers: Timers::CLASSIC,
        seed,
        clock: TimestampClock::new(clock.zero(), clock.unix_at_zero()),
    };
    let engine = OnePeer {
        tunnel: Tunnel::new(config, clock.now()),
        peer: SocketAddr::new(OUTER[1 - side].parse()?, PORT),
    };
    let host = Host::start(
        Some(Tun::open(INTERFACE)?),
        sockets,
        clock,
        engine,
        warnings,
    )?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    report("I/O only", side, &host.stats()?)
}

/// WireGuard with one peer whose address is known.
struct OnePeer {
    tunnel: Tunnel,
    peer: SocketAddr,
}

impl OnePeer {
    fn send_messages(&mut self, out: &mut impl Outbox) {
        while let Some(message) = self.tunnel.poll_transmit() {
            out.reserve(None, self.peer, 0, message.len())
                .copy_from_slice(&message);
        }
    }
}

impl PacketEngine for OnePeer {
    type Command = ();
    type Refusal = ();
    type Event = ();

    fn handle_network(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let mut at = 0;
        while at < buffer.len() {
            let end = buffer.len().min(at + received.stride);
            let datagram = &mut buffer[at..end];
            if classify(datagram) == Some(MessageKind::Data) {
                let opened = self.tunnel.open(datagram, io.now).map(|plain| plain.len());
                if let Ok(len @ 1..) = opened {
                    let start = at + DATA_HEADER_SIZE;
                    io.tun.push(buffer, start..start + len);
                }
            } else {
                // A message that is no good is dropped; there is nobody to tell.
                let _ = self.tunnel.handle_handshake(datagram, io.now);
            }
            at = end;
        }
        self.send_messages(io.out);
    }

    fn handle_tun(&mut self, read: &TunRead<'_>, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        for segment in read.segments() {
            let room = io
                .out
                .reserve(None, self.peer, 0, segment.len() + DATA_OVERHEAD);
            segment.write_into(&mut room[DATA_HEADER_SIZE..][..segment.len()]);
            if self.tunnel.seal(room, io.now).is_err() {
                io.out.rollback();
                self.tunnel.initiate(io.now);
                break;
            }
        }
        self.send_messages(io.out);
    }

    fn apply(
        &mut self,
        (): (),
        _io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> std::result::Result<(), ()> {
        Ok(())
    }

    fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        self.tunnel.handle_timeout(io.now);
        self.send_messages(io.out);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.tunnel.poll_timeout()
    }

    fn poll_event(&mut self, _waiting: usize) -> Option<()> {
        while self.tunnel.poll_event().is_some() {}
        None
    }

    fn stats(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
