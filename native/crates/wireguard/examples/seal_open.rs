//! Print what sealing and opening one packet of 1280 bytes costs: `cargo run --release --example seal_open`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wardgate_wireguard::{
    DATA_HEADER_SIZE, DATA_OVERHEAD, Keys, PresharedKey, PrivateKey, Timers, TimestampClock,
    Tunnel, TunnelConfig,
};

const PACKET_SIZE: usize = 1280;
const BATCH: usize = 64;
const BATCHES: usize = 5_000;

#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn main() {
    let now = Instant::now();
    let [mut sender, mut receiver] = established_pair(now);
    let mut batch = vec![[0; DATA_OVERHEAD + PACKET_SIZE]; BATCH];
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..BATCHES {
        let start = Instant::now();
        for packet in &mut batch {
            sender
                .seal(black_box(packet), now)
                .expect("there is a session");
        }
        let sealed = Instant::now();
        for packet in &mut batch {
            black_box(receiver.open(packet, now).expect("it is authentic"));
        }
        opening += sealed.elapsed();
        sealing += sealed - start;
    }
    let per_packet = |total: Duration| total.as_nanos() / (BATCH * BATCHES) as u128;
    println!("seal {PACKET_SIZE} B: {} ns", per_packet(sealing));
    println!("open {PACKET_SIZE} B: {} ns", per_packet(opening));
}

fn established_pair(now: Instant) -> [Tunnel; 2] {
    let keys = [1, 2].map(|byte| Arc::new(Keys::new(PrivateKey::new([byte; 32]))));
    let [mut initiator, mut responder] = [(0, 1), (1, 0)].map(|(own, peer): (usize, usize)| {
        let config = TunnelConfig {
            keys: keys[own].clone(),
            peer: keys[peer].public,
            preshared_key: PresharedKey::new([3; 32]),
            index: 1,
            timers: Timers::CLASSIC,
            seed: [own as u8; 32],
            clock: TimestampClock::new(now, Duration::ZERO),
        };
        Tunnel::new(config, now)
    });
    initiator.initiate(now);
    deliver(&mut initiator, &mut responder, now);
    deliver(&mut responder, &mut initiator, now);
    let mut confirmation = initiator
        .poll_transmit()
        .expect("the initiator confirms its keys");
    assert!(confirmation.len() > DATA_HEADER_SIZE);
    responder
        .open(&mut confirmation, now)
        .expect("it is authentic");
    [initiator, responder]
}

fn deliver(from: &mut Tunnel, to: &mut Tunnel, now: Instant) {
    let message = from.poll_transmit().expect("a handshake message waits");
    to.handle_handshake(&message, now).expect("it is authentic");
}
