//! What is to be done after each step: carry out what tunnels and the node want.

use wardgate_connect::{NodeEvent, PathKind};
use wardgate_packet::offload::TunRead;
use wardgate_wireguard::TunnelEvent;

use super::Io;
use super::counters::Counter;
use super::engine::{Engine, RoleState};
use super::links::{NodeId, PeerKey};
use crate::event::{self, Event, FailureReason};
use crate::{Outbox, TunSink};

impl<R: RoleState> Engine<R> {
    /// Carry out what a peer's tunnel wants: messages, events, its next deadline.
    pub(super) fn settle_peer(&mut self, key: PeerKey, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let Some(connection) = self.links.connection(key) else {
            return;
        };
        let mut renewed = false;
        while let Some(event) = connection.tunnel.poll_event() {
            match event {
                TunnelEvent::HandshakeDone => {
                    connection.has_session = true;
                    renewed = true;
                }
                TunnelEvent::SessionsExpired | TunnelEvent::GaveUp => {
                    return self.fail(key, FailureReason::HandshakeTimeout, io.now);
                }
            }
        }
        connection.transmit_messages(io.out);
        let stands = connection.has_session && connection.path.is_some();
        if stands && !connection.is_established {
            connection.is_established = true;
            renewed = true;
            let took_s = io
                .now
                .saturating_duration_since(connection.upserted_at)
                .as_secs_f64();
            self.events.push(Event::HandshakeDone {
                peer_id: self.links.name(key),
                took_s,
            });
        }
        if stands && renewed {
            self.flush_waiting(key, io);
        }
        self.links.schedule(key);
    }

    /// Send what waited for the connection: control packets first, then packets, each judged anew.
    fn flush_waiting(&mut self, key: PeerKey, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let Some(connection) = self.links.connection(key) else {
            return;
        };
        let control = connection.waiting_control.drain();
        let packets = connection.waiting.drain();
        for packet in control {
            self.send_control(key, &packet, io);
        }
        for packet in packets {
            self.forward(&TunRead::whole(&packet), io);
        }
    }

    /// Send a control packet, or keep it until the connection stands.
    pub(super) fn send_control(
        &mut self,
        key: PeerKey,
        packet: &[u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let Self {
            links, counters, ..
        } = self;
        if links
            .send_packet(key, packet, counters, io.now, io.out)
            .is_err()
            && let Some(connection) = links.connection(key)
        {
            let lost = connection.waiting_control.push(packet);
            counters.add(Counter::BufferedLost, lost);
        }
    }

    /// Carry out what the node wants: datagrams and events.
    pub(super) fn settle_node(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        while let Some(event) = self.links.node.poll_event() {
            self.handle_node_event(event, io);
        }
        while let Some(transmit) = self.links.node.poll_transmit() {
            let payload = transmit.payload;
            io.out
                .reserve(transmit.local, transmit.remote, 0, payload.len())
                .copy_from_slice(&payload);
        }
    }

    fn handle_node_event(
        &mut self,
        event: NodeEvent<NodeId>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        match event {
            NodeEvent::CandidatesAdded { id, candidates } => {
                if let Some(key) = self.links.key_of_index(id) {
                    self.events.push(Event::LocalCandidatesAdded {
                        peer_id: self.links.name(key),
                        candidates,
                    });
                }
            }
            NodeEvent::CandidatesRemoved { id, candidates } => {
                if let Some(key) = self.links.key_of_index(id) {
                    self.events.push(Event::LocalCandidatesRemoved {
                        peer_id: self.links.name(key),
                        candidates,
                    });
                }
            }
            NodeEvent::PathSelected { id, path } => {
                let Some(key) = self.links.key_of_index(id) else {
                    return;
                };
                let Some(connection) = self.links.connection(key) else {
                    return;
                };
                if connection.path.replace(path) == Some(path) {
                    return;
                }
                connection.initiate_proactively(io.now);
                self.count_seen();
                self.flows.path_selected(key, path, io.now);
                self.events.push(Event::PathSelected {
                    peer_id: self.links.name(key),
                    kind: path_kind(path.kind),
                    local: path
                        .local
                        .map(|local| local.to_string())
                        .unwrap_or_default(),
                    remote: path.remote,
                    relay_id: path.relay.map(|relay| self.relays.name(relay)),
                });
                self.settle_peer(key, io);
            }
            NodeEvent::PathFailed { id, reason } => {
                if let Some(key) = self.links.key_of_index(id) {
                    self.fail(
                        key,
                        match reason {
                            wardgate_connect::FailureReason::NoCandidates => {
                                FailureReason::NoCandidates
                            }
                            wardgate_connect::FailureReason::IceTimeout => {
                                FailureReason::IceTimeout
                            }
                        },
                        io.now,
                    );
                }
            }
            NodeEvent::RelayUp { relay, rtt } => self.events.push(Event::RelayUp {
                relay_id: self.relays.name(relay),
                rtt_ms: rtt.as_secs_f64() * 1e3,
            }),
            NodeEvent::RelayLost { relay, reason } => self.events.push(Event::RelayLost {
                relay_id: self.relays.name(relay),
                reason: loss_text(reason).to_owned(),
            }),
            NodeEvent::NoRelays => self.events.push(Event::NoRelays { peer_id: None }),
        }
    }
}

fn path_kind(kind: PathKind) -> event::PathKind {
    match kind {
        PathKind::Direct => event::PathKind::Direct,
        PathKind::LocalRelay => event::PathKind::LocalRelay,
        PathKind::RemoteRelay => event::PathKind::RemoteRelay,
        PathKind::BothRelays => event::PathKind::BothRelays,
    }
}

fn loss_text(reason: wardgate_connect::LossReason) -> &'static str {
    use wardgate_connect::LossReason;
    match reason {
        LossReason::NoResponse => "no response",
        LossReason::TimedOut => "timed out",
        LossReason::AuthenticationFailed => "authentication failed",
        LossReason::ProtocolFailure => "protocol failure",
    }
}
