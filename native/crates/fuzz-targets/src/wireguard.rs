//! Two WireGuard tunnels and whoever stands between them.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wardgate_wireguard::{
    DATA_HEADER_SIZE, DATA_OVERHEAD, Gate, Keys, MessageKind, PresharedKey, PrivateKey, TAG_SIZE,
    Timers, TimestampClock, Tunnel, TunnelConfig, Verdict, classify, initiator_key, receiver_index,
};

use crate::epoch;
use crate::input::Input;

/// Deadlines that one second may bring; more would be a machine that spins.
const DEADLINES_PER_SECOND: usize = 1_000;
const MESSAGES_IN_FLIGHT: usize = 64;

/// The input is a script of both ends and of the attacker on the path. What opens was sealed by the other end, and opens once.
pub fn wireguard(input: &[u8]) -> bool {
    let mut script = Input::new(input);
    let mut link = Link::new();
    while let Some(step) = script.step() {
        match step % 8 {
            0 => link.initiate(script.byte() % 2),
            1 => link.deliver(),
            2 => link.deliver_changed(script.short(), script.byte()),
            3 => link.receive(script.byte() % 2, script.bytes()),
            4 => link.advance(script.byte()),
            5 => link.seal(script.byte() % 2, script.bytes()),
            6 => link.deliver_again(),
            _ => drop(link.in_flight.pop_front()),
        }
    }
    link.understood
}

struct Link {
    now: Instant,
    ends: [End; 2],
    /// To which end, what.
    in_flight: VecDeque<(u8, Vec<u8>)>,
    delivered: Option<(u8, Vec<u8>)>,
    /// Sealed for which end, and not opened.
    outstanding: BTreeSet<(u8, u32)>,
    sealed: u32,
    understood: bool,
}

struct End {
    keys: Arc<Keys>,
    gate: Gate,
    tunnel: Tunnel,
}

impl Link {
    fn new() -> Self {
        let now = epoch();
        let keys = [1, 2].map(|byte| Arc::new(Keys::new(PrivateKey::new([byte; 32]))));
        let ends = [0, 1].map(|end: usize| End {
            keys: keys[end].clone(),
            gate: Gate::new(&keys[end].public, [end as u8; 32], now),
            tunnel: Tunnel::new(
                TunnelConfig {
                    keys: keys[end].clone(),
                    peer: keys[1 - end].public,
                    preshared_key: PresharedKey::new([9; 32]),
                    index: end as u32,
                    timers: Timers::CLASSIC,
                    seed: [end as u8 + 1; 32],
                    clock: TimestampClock::new(now, Duration::from_secs(1_800_000_000)),
                },
                now,
            ),
        });
        Self {
            now,
            ends,
            in_flight: VecDeque::new(),
            delivered: None,
            outstanding: BTreeSet::new(),
            sealed: 0,
            understood: false,
        }
    }

    fn initiate(&mut self, end: u8) {
        self.ends[usize::from(end)].tunnel.initiate(self.now);
        self.collect(end);
    }

    fn deliver(&mut self) {
        if let Some((end, message)) = self.in_flight.pop_front() {
            self.receive(end, &message);
            self.delivered = Some((end, message));
        }
    }

    fn deliver_changed(&mut self, at: u16, change: u8) {
        let Some((end, mut message)) = self.in_flight.front().cloned() else {
            return;
        };
        let at = usize::from(at) % message.len();
        message[at] ^= change;
        self.receive(end, &message);
    }

    fn deliver_again(&mut self) {
        if let Some((end, message)) = self.delivered.clone() {
            self.receive(end, &message);
        }
    }

    fn seal(&mut self, end: u8, payload: &[u8]) {
        let mut message = vec![0; DATA_HEADER_SIZE];
        message.extend_from_slice(&self.sealed.to_be_bytes());
        message.extend_from_slice(payload);
        message.resize(message.len() + TAG_SIZE, 0);
        let sealed = self.ends[usize::from(end)]
            .tunnel
            .seal(&mut message, self.now);
        if sealed.is_ok() {
            self.outstanding.insert((1 - end, self.sealed));
            self.sealed += 1;
            self.post(1 - end, message);
        }
        self.collect(end);
    }

    fn receive(&mut self, to: u8, message: &[u8]) {
        let from = SocketAddr::from(([192, 0, 2, 1 - to], 51820));
        let (now, end) = (self.now, &mut self.ends[usize::from(to)]);
        let _ = receiver_index(message);
        match classify(message) {
            Some(MessageKind::Data) => {
                let mut buffer = message.to_vec();
                if let Ok(plaintext) = end.tunnel.open(&mut buffer, now) {
                    self.understood = true;
                    assert_eq!(plaintext.len() + DATA_OVERHEAD, message.len());
                    if let Some(number) = plaintext.first_chunk() {
                        let was_sealed =
                            self.outstanding.remove(&(to, u32::from_be_bytes(*number)));
                        assert!(was_sealed, "forged, or opened twice");
                    }
                }
            }
            Some(kind) => match end.gate.check(message, from, now) {
                Verdict::Pass => {
                    if kind == MessageKind::Initiation {
                        let _ = initiator_key(&end.keys, message);
                    }
                    self.understood |= end.tunnel.handle_handshake(message, now).is_ok();
                }
                Verdict::CookieReply(reply) => self.post(1 - to, reply),
                Verdict::Limited | Verdict::Drop => {}
            },
            None => {}
        }
        self.collect(to);
    }

    fn advance(&mut self, seconds: u8) {
        let end = self.now + Duration::from_secs(seconds.into());
        let mut budget = DEADLINES_PER_SECOND * (usize::from(seconds) + 1);
        let due = |ends: &[End; 2]| {
            ends.iter()
                .filter_map(|end| end.tunnel.poll_timeout())
                .min()
        };
        while let Some(at) = due(&self.ends).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            for side in [0, 1] {
                self.ends[usize::from(side)].tunnel.handle_timeout(self.now);
                self.collect(side);
            }
            budget -= 1;
            assert!(budget > 0, "deadlines without end");
        }
        self.now = end;
    }

    fn collect(&mut self, from: u8) {
        while let Some(message) = self.ends[usize::from(from)].tunnel.poll_transmit() {
            self.post(1 - from, message);
        }
        while self.ends[usize::from(from)].tunnel.poll_event().is_some() {}
    }

    fn post(&mut self, to: u8, message: Vec<u8>) {
        if self.in_flight.len() < MESSAGES_IN_FLIGHT {
            self.in_flight.push_back((to, message));
        }
    }
}
