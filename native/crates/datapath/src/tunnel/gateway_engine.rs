//! The engine of a gateway: it lets through what was granted, as long as it is, and translates names' addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wardgate_packet::offload::TunRead;
use wardgate_packet::{IpPacket, Unreachable};

use super::counters::Counter;
use super::engine::{Engine, RoleState};
use super::filter_set::{FilterSet, Traffic};
use super::flow_records::Sighting;
use super::gateway::{self, Gateway, NotTranslated, TowardClient, TowardNetwork};
use super::links::PeerKey;
use super::nat_table::Side;
use super::receive::Judgement;
use super::seeded_hash::SeededState;
use super::{Io, Role};
use crate::command::{Command, Grant, Refused, RetainGrants, Revoke, Translate};
use crate::event::Event;
use crate::{Outbox, TunSink};

/// Beyond this, a deadline is none: 100 years (data-plane §5.2).
const NEVER_S: f64 = 100.0 * 365.25 * 86_400.0;

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

    fn record_inner<B: AsRef<[u8]>>(
        engine: &mut Engine<Self>,
        key: PeerKey,
        packet: &IpPacket<B>,
        sent_to: IpAddr,
        now: Instant,
    ) {
        if let Some(seen) = Sighting::of(key, packet, true, 1) {
            let role = &engine.role;
            let traffic = Traffic::toward(packet);
            engine
                .flows
                .note(&seen, now, || role.basis_of(key, sent_to, traffic, now));
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
        let edit = |packet: &mut [u8]| edit.apply(packet);
        let (sent, result) = engine
            .links
            .send_segments(key, read, ecn, edit, counters, io.now, io.out);
        if engine.flows.is_on()
            && sent > 0
            && let Some(mut seen) = Sighting::of(key, packet, false, sent)
        {
            seen.payload_bytes = read.payload_of(sent).unwrap_or(seen.payload_bytes);
            engine.flows.note(&seen, io.now, || None);
        }
        if result.is_err() {
            counters.add(Counter::NoSession, read.segment_count() - sent);
        }
    }

    fn apply(
        engine: &mut Engine<Self>,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        match command {
            Command::Grant(command) => engine.grant(command)?,
            Command::Revoke(command) => engine.revoke(&command, io),
            Command::RetainGrants(command) => engine.retain_grants(command, io)?,
            Command::UpdateFilters(command) => {
                let filters = Arc::new(FilterSet::new(command.filters));
                engine.role.update_filters(&command.resource_id, &filters);
                engine.flows.grants_changed(None);
            }
            Command::Translate(command) => engine.translate(command)?,
            other => return Err(other.refused_by(Role::Gateway)),
        }
        Ok(())
    }

    fn upsert_peer(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr) {
        self.upsert_client(key, ipv4, ipv6);
    }

    fn forget_peer(&mut self, key: PeerKey) -> usize {
        self.forget_client(key);
        0
    }

    fn outlives_connection(&self, key: PeerKey) -> bool {
        self.has_grants(key)
    }

    fn handle_timeout(engine: &mut Engine<Self>, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let expired = engine.role.handle_timeout(io.now);
        // First all that is to be told: a peer whose last grants end together is forgotten with the first of them.
        for (key, resource) in &expired {
            engine.flows.grants_changed(Some(*key));
            engine.events.push(Event::GrantExpired {
                peer_id: engine.links.name(*key),
                resource_id: resource.to_string(),
            });
        }
        for (key, _) in expired {
            engine.close_if_useless(key, io);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }
}

impl GatewayEngine {
    fn grant(&mut self, command: Grant) -> Result<(), Refused> {
        let deadline = self.deadline(command.expires_deadline_s)?;
        let key = self.key_of(&command.peer_id)?;
        let grant = gateway::Grant {
            kind: command.kind,
            networks: command.networks,
            filters: Arc::new(FilterSet::new(command.filters)),
            deadline,
            rank: command.rank,
            record_under: command.record_under.map(Into::into),
        };
        self.flows.grants_changed(Some(key));
        if self.role.grant(key, command.resource_id.into(), grant) {
            Ok(())
        } else {
            Err(Refused::UnknownPeer(command.peer_id))
        }
    }

    fn revoke(&mut self, command: &Revoke, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        if let Some(key) = self.links.key_of(&command.peer_id)
            && self.role.revoke(key, &command.resource_id)
        {
            self.flows.grants_changed(Some(key));
            self.close_if_useless(key, io);
        }
    }

    fn retain_grants(
        &mut self,
        command: RetainGrants,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        let mut retained = BTreeMap::new();
        for grant in command.grants {
            let deadline = self.deadline(grant.expires_deadline_s)?;
            if let Some(key) = self.links.key_of(&grant.peer_id) {
                retained.insert((key, grant.resource_id), deadline);
            }
        }
        self.flows.grants_changed(None);
        let gateway = &mut self.role;
        let mut parted = Vec::new();
        for (key, resource) in gateway.grants() {
            match retained.get(&(key, resource.to_string())) {
                Some(deadline) => gateway.set_deadline(key, &resource, *deadline),
                None => {
                    gateway.revoke(key, &resource);
                    parted.push(key);
                }
            }
        }
        for key in parted {
            self.close_if_useless(key, io);
        }
        Ok(())
    }

    fn translate(&mut self, command: Translate) -> Result<(), Refused> {
        let key = self.key_of(&command.peer_id)?;
        let translated =
            self.role
                .translate(key, &command.resource_id, &command.name, &command.addresses);
        match translated {
            Ok(()) => Ok(()),
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

    /// Close a gateway's client that has no grant left.
    fn close_if_useless(&mut self, key: PeerKey, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        if !self.role.has_grants(key) {
            self.close(key, true, io);
        }
    }

    /// Seconds on the engine's clock to an instant; before the epoch means "already over".
    fn deadline(&self, seconds: Option<f64>) -> Result<Option<Instant>, Refused> {
        let Some(seconds) = seconds else {
            return Ok(None);
        };
        if seconds.is_nan() {
            return Err(Refused::Invalid("a deadline is not a number".to_owned()));
        }
        if seconds > NEVER_S {
            return Ok(None);
        }
        let since_epoch = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        Ok(Some(self.epoch + since_epoch))
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
