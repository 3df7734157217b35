//! Reports of flows as JSON, written field by field.
//!
//! There are thousands of them a second, and a general encoder looks for something to escape in each name, formats addresses with
//! all that a formatter can do, and asks for room for each piece: five times the work. Nothing here needs to be escaped but
//! what is marked so.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{FlowEnd, FlowPath, FlowProtocol, FlowReport, FlowRole, json};

/// Write the event that hands these reports over.
pub fn write(text: &mut Vec<u8>, reports: &[FlowReport], lost: u64) {
    text.extend_from_slice(br#"{"event":"flows_reported","reports":["#);
    separated(text, reports, write_report);
    text.extend_from_slice(br#"],"lost":"#);
    write_number(text, lost);
    text.push(b'}');
}

/// Flat, and without the resource, which the authorization names.
fn write_report(text: &mut Vec<u8>, report: &FlowReport) {
    let context = &*report.context;
    text.extend_from_slice(br#"{"authorization_id":"#);
    json(text, &*context.authorization_id); // may have to be escaped
    match context.role {
        FlowRole::Initiator => text.extend_from_slice(br#","role":"initiator""#),
        FlowRole::Responder => text.extend_from_slice(br#","role":"responder""#),
    }
    match report.protocol {
        FlowProtocol::Tcp => text.extend_from_slice(br#","protocol":"tcp","initiator":["#),
        FlowProtocol::Udp => text.extend_from_slice(br#","protocol":"udp","initiator":["#),
    }
    write_pair(text, report.initiator);
    text.extend_from_slice(br#"],"responder":["#);
    write_pair(text, report.responder);
    text.extend_from_slice(br#"],"domain":"#);
    json(text, &context.domain.as_deref()); // may have to be escaped
    text.extend_from_slice(br#","paths":["#);
    separated(text, &context.paths, write_path);
    text.extend_from_slice(br#"],"started_at_us":"#);
    write_number(text, report.started_at_us);
    text.extend_from_slice(br#","end":"#);
    match &report.end {
        Some(end) => write_end(text, end),
        None => text.extend_from_slice(b"null"),
    }
    text.push(b'}');
}

fn write_path(text: &mut Vec<u8>, path: &FlowPath) {
    text.extend_from_slice(br#"{"source":"#);
    match path.source {
        Some(source) => write_socket(text, source),
        None => text.extend_from_slice(b"null"),
    }
    text.extend_from_slice(br#","destination":"#);
    write_socket(text, path.destination);
    text.extend_from_slice(br#","activated_at_us":"#);
    write_number(text, path.activated_at_us);
    text.push(b'}');
}

fn write_end(text: &mut Vec<u8>, end: &FlowEnd) {
    text.extend_from_slice(br#"{"ended_at_us":"#);
    write_number(text, end.ended_at_us);
    text.extend_from_slice(br#","last_packet_at_us":"#);
    write_number(text, end.last_packet_at_us);
    text.extend_from_slice(br#","tx_packets":"#);
    write_number(text, end.tx_packets);
    text.extend_from_slice(br#","rx_packets":"#);
    write_number(text, end.rx_packets);
    text.extend_from_slice(br#","tx_bytes":"#);
    write_number(text, end.tx_bytes);
    text.extend_from_slice(br#","rx_bytes":"#);
    write_number(text, end.rx_bytes);
    text.push(b'}');
}

/// "192.0.2.1",4000
fn write_pair(text: &mut Vec<u8>, (address, port): (IpAddr, u16)) {
    text.push(b'"');
    write_address(text, address);
    text.extend_from_slice(b"\",");
    write_number(text, port);
}

/// "192.0.2.1:4000" or "[2001:db8::1]:4000"
fn write_socket(text: &mut Vec<u8>, socket: SocketAddr) {
    text.push(b'"');
    if socket.is_ipv4() {
        write_address(text, socket.ip());
        text.push(b':');
        write_number(text, socket.port());
    } else {
        displayed(text, format_args!("{socket}"));
    }
    text.push(b'"');
}

fn write_address(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            write_number(text, first);
            for octet in rest {
                text.push(b'.');
                write_number(text, octet);
            }
        }
        IpAddr::V6(address) => displayed(text, format_args!("{address}")),
    }
}

fn write_number(text: &mut Vec<u8>, number: impl itoa::Integer) {
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn displayed(text: &mut Vec<u8>, value: std::fmt::Arguments<'_>) {
    if text.write_fmt(value).is_err() {
        unreachable!("a vector takes everything");
    }
}

fn separated<T>(text: &mut Vec<u8>, all: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    for (number, one) in all.iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        write(text, one);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Event, FlowContext, encode};

    fn addresses() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u16; 8]>().prop_map(IpAddr::from),
            // With a run of zeros, which is written in short.
            any::<u16>().prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
            any::<[u8; 4]>()
                .prop_map(|v4| IpAddr::V6(std::net::Ipv4Addr::from(v4).to_ipv6_mapped())),
        ]
    }

    fn pairs() -> impl Strategy<Value = (IpAddr, u16)> {
        (addresses(), any::<u16>())
    }

    fn paths() -> impl Strategy<Value = FlowPath> {
        let ends = (prop::option::of(pairs()), pairs());
        (ends, any::<u64>()).prop_map(|((source, destination), activated_at_us)| FlowPath {
            source: source.map(SocketAddr::from),
            destination: destination.into(),
            activated_at_us,
        })
    }

    fn contexts() -> impl Strategy<Value = FlowContext> {
        let texts = (
            any::<String>(),
            any::<String>(),
            prop::option::of(any::<String>()),
        );
        let paths = prop::collection::vec(paths(), 0..4);
        (texts, any::<bool>(), paths).prop_map(|(texts, is_ours, paths)| FlowContext {
            resource_id: texts.0.into(),
            authorization_id: texts.1.into(),
            role: if is_ours {
                FlowRole::Initiator
            } else {
                FlowRole::Responder
            },
            domain: texts.2.map(Arc::from),
            paths,
        })
    }

    fn reports() -> impl Strategy<Value = FlowReport> {
        let end = prop::option::of(any::<[u64; 6]>());
        let flow = (any::<bool>(), pairs(), pairs(), any::<u64>());
        (contexts(), flow, end).prop_map(|(context, flow, end)| FlowReport {
            context: context.into(),
            protocol: if flow.0 {
                FlowProtocol::Tcp
            } else {
                FlowProtocol::Udp
            },
            initiator: flow.1,
            responder: flow.2,
            started_at_us: flow.3,
            end: end.map(
                |[ended, last, sent, received, sent_bytes, received_bytes]| FlowEnd {
                    ended_at_us: ended,
                    last_packet_at_us: last,
                    tx_packets: sent,
                    rx_packets: received,
                    tx_bytes: sent_bytes,
                    rx_bytes: received_bytes,
                },
            ),
        })
    }

    fn read(report: &FlowReport) -> Value {
        let context = &report.context;
        let path = |path: &FlowPath| json!({"source": path.source, "destination": path.destination, "activated_at_us": path.activated_at_us});
        let end = |end: FlowEnd| {
            json!({"ended_at_us": end.ended_at_us, "last_packet_at_us": end.last_packet_at_us, "tx_packets": end.tx_packets,
                   "rx_packets": end.rx_packets, "tx_bytes": end.tx_bytes, "rx_bytes": end.rx_bytes})
        };
        json!({
            "authorization_id": &*context.authorization_id,
            "role": match context.role { FlowRole::Initiator => "initiator", FlowRole::Responder => "responder" },
            "protocol": match report.protocol { FlowProtocol::Tcp => "tcp", FlowProtocol::Udp => "udp" },
            "initiator": report.initiator,
            "responder": report.responder,
            "domain": context.domain.as_deref(),
            "paths": context.paths.iter().map(path).collect::<Vec<_>>(),
            "started_at_us": report.started_at_us,
            "end": report.end.map(end),
        })
    }

    proptest! {
        #[test]
        fn reports_are_read_as_they_are(
            batches in prop::collection::vec((prop::collection::vec(reports(), 0..4), any::<u64>()), 0..3),
        ) {
            let expected: Vec<Value> = batches
                .iter()
                .map(|(reports, lost)| {
                    let reports: Vec<Value> = reports.iter().map(read).collect();
                    json!({"event": "flows_reported", "reports": reports, "lost": lost})
                })
                .collect();
            let events: Vec<Event> = batches
                .into_iter()
                .map(|(reports, lost)| Event::FlowsReported { reports, lost })
                .collect();
            let text = encode(&events);
            prop_assert_eq!(serde_json::from_slice::<Vec<Value>>(&text).unwrap(), expected);
        }
    }

    #[test]
    fn reports_stand_among_other_events_without_a_space() {
        let expired = Event::GrantExpired {
            peer_id: "p".into(),
            resource_id: "r".into(),
        };
        let context = FlowContext {
            resource_id: "r".into(),
            authorization_id: "a\"".into(),
            role: FlowRole::Initiator,
            domain: None,
            paths: Vec::new(),
        };
        let reported = Event::FlowsReported {
            reports: vec![FlowReport {
                context: context.into(),
                protocol: FlowProtocol::Udp,
                initiator: ([100, 64, 0, 1].into(), 0),
                responder: ([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), 53),
                started_at_us: 1,
                end: None,
            }],
            lost: 2,
        };
        let text = encode(&[expired.clone(), reported, expired]);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            concat!(
                r#"[{"event":"grant_expired","peer_id":"p","resource_id":"r"},"#,
                r#"{"event":"flows_reported","reports":[{"authorization_id":"a\"","role":"initiator","protocol":"udp","#,
                r#""initiator":["100.64.0.1",0],"responder":["fd00::1",53],"domain":null,"paths":[],"started_at_us":1,"#,
                r#""end":null}],"lost":2},"#,
                r#"{"event":"grant_expired","peer_id":"p","resource_id":"r"}]"#,
            )
        );
        assert_eq!(encode(&[]), b"[]");
    }
}
