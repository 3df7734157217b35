//! The engine of a client: it forwards what was authorised, asks for what was not, and admits answers, and of other
//! clients what they are granted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use wardgate_packet::offload::TunRead;
use wardgate_packet::{IpPacket, Kind, Unreachable, icmp_error};

use super::client::{Client, Incoming, Target, TooManyRoutes, Verdict};
use super::counters::Counter;
use super::device_grants;
use super::engine::{Engine, RoleState};
use super::filter_set::{FilterSet, Traffic};
use super::flow_records::Basis;
use super::links::{NotSent, PeerKey};
use super::receive::Judgement;
use super::route_table::ResourceId;
use super::seeded_hash::SeededState;
use super::sightings::{Right, Sighting};
use super::{Io, Role};
use crate::command::{Authorize, Command, Grant, GrantKind, Refused, ReleaseName};
use crate::event::{ClosedBy, Event};
use crate::{Outbox, TunSink};

pub type ClientEngine = Engine<Client>;

impl RoleState for Client {
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
        match engine.role.judge_incoming(key, packet, own, now) {
            Incoming::Pass => {}
            Incoming::Prohibited => {
                return Judgement::Refuse(Unreachable::Prohibited, Counter::Prohibited);
            }
            Incoming::Drop(counter) => return Judgement::Drop(counter),
        }
        if let Some(Target { resource, device }) = prohibited_target(&engine.role, packet, now) {
            engine.events.push(Event::AccessProhibited {
                peer_id: engine.links.name(key),
                resource_id: resource.to_string(),
                device_address: device,
            });
        }
        Judgement::Pass(None)
    }

    fn see_inner<B: AsRef<[u8]>>(
        &self,
        key: PeerKey,
        packet: &IpPacket<B>,
        sent_to: IpAddr,
        now: Instant,
    ) -> Option<Sighting> {
        let (is_theirs, right) = if self.is_opened_by(key, packet, now) {
            (true, Right::Received(sent_to))
        } else {
            (false, Right::None)
        };
        Sighting::of(key, packet, is_theirs, right, 1, now)
    }

    fn basis_of(&self, seen: &Sighting) -> Option<Basis<'_>> {
        match seen.right {
            Right::Sent => self.sent_basis_of(seen),
            Right::Received(_) => self.granted_basis_of(seen),
            Right::None => None,
        }
    }

    fn forward(
        engine: &mut Engine<Self>,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let own = engine.own.as_ref();
        match engine.role.judge_outgoing(packet, own, io.now) {
            Verdict::Send(key) => engine.send(key, read, packet, io),
            Verdict::Await { target, table, ask } => {
                for packet in finished(read, 0) {
                    let lost = engine.role.keep_pending(target.clone(), &packet);
                    engine.counters.add(Counter::BufferedLost, lost);
                    engine.counters.add(Counter::PacketsBuffered, 1);
                }
                if ask {
                    engine.events.push(Event::Intent {
                        resource_id: target.resource.to_string(),
                        destination: packet.destination(),
                        table,
                    });
                }
            }
            Verdict::Hold(id) => {
                for packet in finished(read, 0) {
                    let lost = engine.role.keep_held(id, &packet);
                    engine.counters.add(Counter::BufferedLost, lost);
                    engine.counters.add(Counter::PacketsBuffered, 1);
                }
            }
            Verdict::Prohibited => {
                engine
                    .counters
                    .add(Counter::Prohibited, read.segment_count());
                let error = match read.as_cut() {
                    Some(_) => icmp_error(packet, Unreachable::Prohibited),
                    None => {
                        let first = finished(read, 0).next().unwrap_or_default();
                        let first = IpPacket::parse(&first[..]).ok();
                        first.and_then(|first| icmp_error(&first, Unreachable::Prohibited))
                    }
                };
                if let Some(error) = error {
                    io.tun.push_owned(&error);
                }
            }
            Verdict::Drop(counter) => engine.counters.add(counter, read.segment_count()),
        }
    }

    fn apply(
        engine: &mut Engine<Self>,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        match command {
            Command::SetRoutes(command) => {
                let gone = engine.role.set_routes(command.routes)?;
                engine.deauthorize_all(gone, io);
            }
            Command::AddRoutes(command) => engine.role.add_routes(command.routes)?,
            Command::RemoveRoutes(command) => {
                let gone = engine.role.remove_routes(command.routes);
                engine.deauthorize_all(gone, io);
            }
            Command::Authorize(command) => engine.authorize(command, io)?,
            Command::Deauthorize(command) => match command.device_address {
                None => engine.deauthorize(&command.resource_id, io),
                Some(device) => engine.deauthorize_device(&command.resource_id, device, io),
            },
            Command::HoldName(command) => {
                let key = engine.key_of(&command.peer_id)?;
                engine
                    .role
                    .hold(key, &command.resource_id, &command.proxy_ips);
            }
            Command::ReleaseName(command) => engine.release_name(&command, io),
            Command::ResetNetwork(command) => engine.reset_network(command.private_key.0, io.now),
            other => return Err(other.refused_by(Role::Client)),
        }
        Ok(())
    }

    fn upsert_peer(&mut self, key: PeerKey, ipv4: Ipv4Addr, ipv6: Ipv6Addr) {
        self.set_peer_addresses(key, [ipv4.into(), ipv6.into()]);
    }

    fn keeps_fragments_to(&self, _destination: IpAddr) -> bool {
        true
    }

    fn forget_peer(&mut self, key: PeerKey) -> usize {
        self.forget_peer(key)
    }

    fn outlives_connection(&self, _key: PeerKey) -> bool {
        false
    }

    fn grant(
        engine: &mut Engine<Self>,
        key: PeerKey,
        command: Grant,
        deadline: Option<Instant>,
    ) -> Result<(), Refused> {
        if command.kind != GrantKind::Device {
            return Err(Refused::WrongRole {
                command: "grant of a network or name",
                role: "gateway",
            });
        }
        let grant = device_grants::Grant {
            filters: Arc::new(FilterSet::new(command.filters)),
            deadline,
            record_under: command.record_under.map(Into::into),
        };
        let grants = engine.role.device_grants();
        grants.grant(key, command.resource_id.into(), grant);
        Ok(())
    }

    fn revoke(&mut self, key: PeerKey, resource: &str) -> bool {
        self.device_grants().revoke(key, resource)
    }

    fn grants(&self) -> Vec<(PeerKey, ResourceId)> {
        self.granted().all()
    }

    fn set_deadline(&mut self, key: PeerKey, resource: &ResourceId, deadline: Option<Instant>) {
        self.device_grants().set_deadline(key, resource, deadline);
    }

    fn update_filters(&mut self, resource: &str, filters: &Arc<FilterSet>) {
        self.device_grants().update_filters(resource, filters);
    }

    fn is_useless(&self, key: PeerKey) -> bool {
        self.is_useless(key)
    }

    fn handle_timeout(&mut self, now: Instant) -> Vec<(PeerKey, ResourceId)> {
        self.device_grants().handle_timeout(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.granted().poll_timeout()
    }
}

impl ClientEngine {
    /// Send to a peer, or keep what cannot be sent yet.
    fn send(
        &mut self,
        key: PeerKey,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let ecn = packet.ecn();
        let is_established = self
            .links
            .connection(key)
            .is_some_and(|connection| connection.is_established);
        let (sent, result) = if is_established {
            self.links
                .send_segments(key, read, ecn, |_| (), &mut self.counters, io.now, io.out)
        } else {
            (0, Err(NotSent::NotEstablished))
        };
        self.record_sent(key, read, packet, sent, io.now);
        if result.is_ok() {
            return;
        }
        let Some(connection) = self.links.connection(key) else {
            return self
                .counters
                .add(Counter::NoSession, read.segment_count() - sent);
        };
        for packet in finished(read, sent) {
            let lost = connection.waiting.push(&packet);
            self.counters.add(Counter::BufferedLost, lost);
            self.counters.add(Counter::PacketsBuffered, 1);
        }
        if is_established {
            connection.tunnel.initiate(io.now);
            connection.transmit_messages(io.out);
            self.links.schedule(key);
        }
    }

    /// Note, for the record of its flow, what was sent of a read.
    fn record_sent(
        &mut self,
        key: PeerKey,
        read: &TunRead<'_>,
        packet: &IpPacket<&[u8]>,
        sent: usize,
        now: Instant,
    ) {
        if !self.flows.is_on() || sent == 0 {
            return;
        }
        let is_ours = self.role.is_opened_by_us(key, packet, now);
        let right = if is_ours && !self.role.is_unrecorded(packet, now) {
            Right::Sent
        } else {
            Right::None
        };
        if let Some(mut seen) = Sighting::of(key, packet, is_ours, right, sent, now) {
            seen.payload_bytes = read.payload_of(sent).unwrap_or(seen.payload_bytes);
            self.record(seen);
        }
    }

    fn authorize(
        &mut self,
        command: Authorize,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        let key = self.key_of(&command.peer_id)?;
        let target = Target {
            resource: command.resource_id.into(),
            device: command.device_address,
        };
        if let Some(authorization) = command.record_under {
            self.role.record_under(&target, authorization.into());
        }
        self.flows.grants_changed(Some(key));
        let (waiting, useless) = self.role.authorize(target, key, command.addresses);
        if let Some(useless) = useless {
            self.close(useless, true, io);
        }
        for packet in waiting {
            self.forward(&TunRead::whole(&packet), io);
        }
        Ok(())
    }

    fn deauthorize_all(
        &mut self,
        resources: Vec<ResourceId>,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        for resource in resources {
            self.deauthorize(&resource, io);
        }
    }

    fn deauthorize(&mut self, resource: &str, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let (useless, lost) = self.role.deauthorize(resource);
        self.flows.grants_changed(None);
        self.counters.add(Counter::BufferedLost, lost);
        for key in useless {
            self.close(key, true, io);
        }
    }

    fn deauthorize_device(
        &mut self,
        resource: &str,
        device: IpAddr,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let (useless, lost) = self.role.deauthorize_device(resource, device);
        self.flows.grants_changed(None);
        self.counters.add(Counter::BufferedLost, lost);
        if let Some(key) = useless {
            self.close(key, true, io);
        }
    }

    fn release_name(&mut self, command: &ReleaseName, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let Some(key) = self.links.key_of(&command.peer_id) else {
            return;
        };
        let held = self.role.release(key, &command.proxy_ips);
        if !command.flush {
            self.counters.add(Counter::BufferedLost, held.len());
            return;
        }
        for packet in held {
            self.forward(&TunRead::whole(&packet), io);
        }
    }

    fn reset_network(&mut self, private_key: [u8; 32], now: Instant) {
        for key in self.links.peer_keys() {
            self.events.push(Event::PeerClosed {
                peer_id: self.links.name(key),
                by: ClosedBy::Local,
                in_use: self.links.is_in_use(key),
            });
            self.forget(key, now);
        }
        self.role.reset();
        self.links.node.reset(now);
        self.links.replace_keys(private_key, now);
    }
}

impl From<TooManyRoutes> for Refused {
    fn from(_: TooManyRoutes) -> Self {
        Self::Invalid("there would be too many routes".to_owned())
    }
}

/// What a peer calls "administratively prohibited" (data-plane §4.9).
fn prohibited_target<B: AsRef<[u8]>>(
    client: &Client,
    packet: &IpPacket<B>,
    now: Instant,
) -> Option<Target> {
    if packet.kind() != Kind::IcmpError {
        return None;
    }
    let is_ipv4 = packet.source().is_ipv4();
    match (is_ipv4, packet.icmp_type()?) {
        (true, (3, 13)) | (false, (1, 1)) => {}
        _ => return None,
    }
    let quoted = packet.quoted()?;
    let traffic = match quoted.kind {
        Kind::Tcp => Traffic::Tcp(quoted.destination_value),
        Kind::Udp => Traffic::Udp(quoted.destination_value),
        _ => Traffic::Icmp,
    };
    client.target_at(quoted.destination, traffic, now)
}

/// The finished packets of a read, from the `skip`th on, to be kept.
fn finished<'a>(read: &TunRead<'a>, skip: usize) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    read.segments().skip(skip).map(|segment| {
        let mut packet = vec![0; segment.len()];
        segment.write_into(&mut packet);
        packet
    })
}
