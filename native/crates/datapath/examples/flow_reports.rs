//! What it costs to write reports of flows for Python: nanoseconds for each, of the quickest batch.
//!
//! ```console
//! $ cargo run --release -p wardgate-datapath --example flow_reports
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wardgate_datapath::event::{
    Event, FlowContext, FlowEnd, FlowPath, FlowProtocol, FlowReport, FlowRole, encode,
};

/// Reports handed over at a time, as an engine does.
const BATCH: u16 = 256;
const BATCHES: usize = 20_000;
/// Microseconds since 1970.
const NOON: u64 = 1_796_040_000_000_000;

#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn main() {
    let events = [Event::FlowsReported {
        reports: (0..BATCH).map(report).collect(),
        lost: 0,
    }];
    let bytes = encode(&events).len();
    let mut quickest = Duration::MAX;
    for _ in 0..BATCHES {
        let begun = Instant::now();
        black_box(encode(black_box(&events)));
        quickest = quickest.min(begun.elapsed());
    }
    let each = quickest.as_nanos() / u128::from(BATCH);
    println!(
        "{each} ns a report, of {} bytes",
        bytes / usize::from(BATCH)
    );
}

/// The end of one flow of as many clients.
fn report(number: u16) -> FlowReport {
    let [high, low] = number.to_be_bytes();
    let context = FlowContext {
        resource_id: "6f1c0a0e-3c2b-4f5e-9d55-0a4f3a1f7f10".into(),
        authorization_id: format!("0b7a4c9e-52d1-4c0e-8a34-3c2b5e60{number:04x}").into(),
        role: FlowRole::Responder,
        domain: None,
        paths: vec![FlowPath {
            source: Some(([203, 0, 113, low], 40_000 + number).into()),
            destination: ([198, 51, 100, 7], 52_625).into(),
            activated_at_us: NOON,
        }],
    };
    let started_at_us = NOON + 1_000_000 + u64::from(number);
    FlowReport {
        context: Arc::new(context),
        protocol: FlowProtocol::Tcp,
        initiator: ([100, 64, high, low].into(), 50_000 + number),
        responder: ([10, 0, 0, 7].into(), 443),
        started_at_us,
        end: Some(FlowEnd {
            ended_at_us: started_at_us + 900_000,
            last_packet_at_us: started_at_us + 900_000,
            tx_packets: 6,
            rx_packets: 6,
            tx_bytes: 1_840,
            rx_bytes: 4_096,
        }),
    }
}
