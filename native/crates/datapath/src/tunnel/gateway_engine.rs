//! The engine of a gateway: it lets through what was granted, as long as it is, and translates names' addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use wardgate_packet::offload::TunRead;
use wardgate_packet::{IpPacket, Unreachable};

use super::counters::Counter;
use super::engine::{Engine, RoleState};
use super::filter_set::FilterSet;
use super::flow_records::Basis;
use super::gateway::{self, Gateway, NotTranslated, TowardClient, TowardNetwork};
use super::links::PeerKey;
use super::nat_table::Side;
use super::receive::Judgement;
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::sightings::{Right, Sighting};
use super::{Io, Role};
use crate::command::{Command, Grant, GrantKind, Refused, Translate, TranslatedFlow};
use crate::{Outbox, TunSink};

pub type GatewayEngine = Engine<Gateway>;

impl RoleState for Gateway {
    fn new(hash: SeededState) -> Self {
        Self::new(hash)
    }

    fn judge_inner<B: AsRef<[u8]>>(
        engine: &mut Engine<Self>,
        key: PeerKey,
        packet: &IpPacket<B>,
        now: Instant,
    ) -> Judgement {
        let own = engine.own.as_ref();
        match engine.role.judge_outgoing(key, packet, own, now) {
            TowardNetwork::Pass => Judgement::Pass(None),
            TowardNetwork::Translate(outside) => Judgement::Pass(Some(outside)),
            TowardNetwork::Prohibited(counter) => {
                Judgement::Refuse(Unreachable::Prohibited, counter)
            }
            TowardNetwork::Unreachable => {
                Judgement::Refuse(Unreachable::Network, Counter::Unreachable)
            }
            TowardNetwork::Drop(counter) => Judgement::Drop(counter),
        }
    }

    fn see_inner<B: AsRef<[u8]>>(
        &self,
        key: PeerKey,
        packet: &IpPacket<B>,
        sent_to: IpAddr,
        now: Instant,
    ) -> Option<Sighting> {
        Sighting::of(key, packet, true, Right::Received(sent_to), 1, now)
    }

    fn basis_of(&self, seen: &Sighting) -> Option<Basis<'_>> {
        match seen.right {
            Right::Received(sent_to) => self.granted_basis_of(seen, sent_to),
            Right::Sent | Right::None => None,
        }
    }

    fn forward(
        engine: &mut Engine<Self>,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let own = engine.own.as_ref();
        let (key, edit) = match engine.role.judge_incoming(packet, own, io.now) {
            TowardClient::Pass(key) => (key, Edit::None),
            TowardClient::Translate(key, inside) => (key, Edit::Addresses(inside)),
            TowardClient::TranslateError(key, inside) => (
                key,
                Edit::Quote {
                    inside,
                    client: packet.destination(),
                },
            ),
            TowardClient::Drop(counter) => {
                return engine.counters.add(counter, read.segment_count());
            }
        };
        let ecn = packet.ecn();
        let counters = &mut engine.counters;
        // Fragments of a packet have no ports of their own: it is changed as a whole.
        let mut whole = Vec::new();
        let (read, edit) = match read.as_cut() {
            Some(cut) if !matches!(edit, Edit::None) => {
                whole.extend_from_slice(read.packet());
                edit.apply(&mut whole);
                (TunRead::cut(&whole, cut), Edit::None)
            }
            _ => (*read, edit),
        };
        let read = &read;
        let edit = |packet: &mut [u8]| edit.apply(packet);
        let (sent, result) = engine
            .links
            .send_segments(key, read, ecn, edit, counters, io.now, io.out);
        if engine.flows.is_on()
            && sent > 0
            && let Some(mut seen) = Sighting::of(key, packet, false, Right::None, sent, io.now)
        {
            seen.payload_bytes = read.payload_of(sent).unwrap_or(seen.payload_bytes);
            engine.record(seen);
        }
        if result.is_err() {
            engine
                .counters
                .add(Counter::NoSession, read.segment_count() - sent);
        }
    }

    fn apply(
        engine: &mut Engine<Self>,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        match command {
            Command::Translate(command) => engine.translate(command, io.now)?,
            Command::InheritFlows(command) => engine.role.inherit(command.flows, io.now),
            other => return Err(other.refused_by(Role::Gateway)),
        }
        Ok(())
    }

    fn upsert_peer(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr) {
        self.upsert_client(key, ipv4, ipv6);
    }

    fn keeps_fragments_to(&self, destination: IpAddr) -> bool {
        self.is_client(destination)
    }

    fn forget_peer(&mut self, key: PeerKey) -> usize {
        self.forget_client(key);
        0
    }

    fn outlives_connection(&self, key: PeerKey) -> bool {
        self.has_grants(key)
    }

    fn grant(
        engine: &mut Engine<Self>,
        key: PeerKey,
        command: Grant,
        deadline: Option<Instant>,
    ) -> Result<(), Refused> {
        if command.kind == GrantKind::Device {
            return Err(Refused::WrongRole {
                command: "grant of a device",
                role: "client",
            });
        }
        let grant = gateway::Grant {
            kind: command.kind,
            networks: command.networks,
            filters: Arc::new(FilterSet::new(command.filters)),
            deadline,
            rank: command.rank,
            record_under: command.record_under.map(Into::into),
        };
        if engine.role.grant(key, command.resource_id.into(), grant) {
            Ok(())
        } else {
            Err(Refused::UnknownPeer(command.peer_id))
        }
    }

    fn revoke(&mut self, key: PeerKey, resource: &str) -> bool {
        self.revoke(key, resource)
    }

    fn grants(&self) -> Vec<(PeerKey, ResourceId)> {
        self.grants()
    }

    fn set_deadline(&mut self, key: PeerKey, resource: &ResourceId, deadline: Option<Instant>) {
        self.set_deadline(key, resource, deadline);
    }

    fn update_filters(&mut self, resource: &str, filters: &Arc<FilterSet>) {
        self.update_filters(resource, filters);
    }

    fn is_useless(&self, key: PeerKey) -> bool {
        !self.has_grants(key)
    }

    fn handle_timeout(&mut self, now: Instant) -> Vec<(PeerKey, ResourceId)> {
        self.handle_timeout(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }
}

impl GatewayEngine {
    /// The flows to names that clients have, in a fixed order.
    pub(super) fn translated_flows(&self, now: Instant) -> Vec<TranslatedFlow> {
        let of_client =
            |(key, inside, outside, is_answered): (PeerKey, Side, Side, bool)| TranslatedFlow {
                peer_id: self.links.name(key),
                protocol: inside.protocol,
                inside: (inside.address, inside.value),
                outside: (outside.address, outside.value),
                is_answered,
            };
        self.role.translated_flows(now).map(of_client).collect()
    }

    fn translate(&mut self, command: Translate, now: Instant) -> Result<(), Refused> {
        let key = self.key_of(&command.peer_id)?;
        let translated =
            self.role
                .translate(key, &command.resource_id, &command.name, &command.addresses);
        match translated {
            Ok(()) => {
                self.role
                    .revive(key, &command.peer_id, &command.addresses, now);
                Ok(())
            }
            Err(NotTranslated::NotGranted) => Err(Refused::UnknownGrant {
                peer: command.peer_id,
                resource: command.resource_id,
            }),
            Err(NotTranslated::Invalid(reason)) => {
                self.counters.add(Counter::TranslationsRefused, 1);
                Err(Refused::Invalid(reason.to_owned()))
            }
        }
    }
}

/// How a packet to a client is changed before it is sealed.
#[derive(Clone, Copy)]
enum Edit {
    None,
    Addresses(Side),
    Quote { inside: Side, client: IpAddr },
}

impl Edit {
    /// The packet was parsed and the families compared when the translation was found, so nothing here fails; if it
    /// did, the client would drop the packet.
    fn apply(self, bytes: &mut [u8]) {
        if matches!(self, Self::None) {
            return;
        }
        let Ok(mut packet) = IpPacket::parse(bytes) else {
            return;
        };
        match self {
            Self::None => {}
            Self::Addresses(inside) => {
                let _ = packet.set_source(inside.address);
                packet.set_destination_value(inside.value);
            }
            Self::Quote { inside, client } => {
                let _ = packet.translate_icmp_error(inside.address, client, inside.value);
            }
        }
    }
}
