//! Commands applied: each as a whole, or refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wardgate_connect::{IceCredentials, PeerConfig, Profile, RelayConfig, UpsertError, Upserted};
use wardgate_packet::offload::TunRead;
use wardgate_packet::{ControlEvent, ControlPacket};
use wardgate_wireguard::{PresharedKey, PublicKey};

use super::client::{Client, Target, TooManyRoutes};
use super::counters::Counter;
use super::filter_set::FilterSet;
use super::gateway::{self, Gateway, NotTranslated};
use super::links::{ConnectionConfig, PeerKey};
use super::route_table::ResourceId;
use super::{OwnAddresses, RoleState, TunnelEngine};
use crate::command::{
    self, Authorize, Command, Grant, HoldName, IceProfile, IceRole, Refused, ReleaseName,
    RetainGrants, SendControlPacket, SetRelays, Translate, UpsertPeer,
};
use crate::event::Event;
use crate::{Outbox, TunSink};

/// Beyond this, a deadline is none: 100 years (data-plane §5.2).
const NEVER_S: f64 = 100.0 * 365.25 * 86_400.0;

impl TunnelEngine {
    /// Apply a command. When this returns, it is in force.
    pub fn apply(
        &mut self,
        command: Command,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let result = self.apply_one(command, now, tun, out);
        self.settle_node(now, tun, out);
        result
    }

    fn apply_one(
        &mut self,
        command: Command,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        match command {
            Command::SetAddresses(own) => {
                self.own = Some(OwnAddresses {
                    ipv4: own.ipv4,
                    ipv6: own.ipv6,
                });
            }
            Command::SetRelays(command) => self.set_relays(command, now),
            Command::UpsertPeer(command) => self.upsert_peer(command, now, tun, out)?,
            Command::RemovePeer(command) => {
                if let Some(key) = self.links.key_of(&command.id) {
                    self.close(key, command.goodbye, now, out);
                }
            }
            Command::AddRemoteCandidates(command) => {
                let index = self.index_of(&command.peer_id)?;
                for candidate in &command.candidates {
                    self.links.node.add_remote_candidate(index, candidate, now);
                }
            }
            Command::RemoveRemoteCandidates(command) => {
                let index = self.index_of(&command.peer_id)?;
                for candidate in &command.candidates {
                    self.links
                        .node
                        .remove_remote_candidate(index, candidate, now);
                }
            }
            Command::SetRoutes(command) => {
                let gone = self.client("set_routes")?.set_routes(command.routes)?;
                self.deauthorize_all(gone, now, out);
            }
            Command::AddRoutes(command) => {
                self.client("add_routes")?.add_routes(command.routes)?;
            }
            Command::RemoveRoutes(command) => {
                let gone = self.client("remove_routes")?.remove_routes(command.routes);
                self.deauthorize_all(gone, now, out);
            }
            Command::Authorize(command) => self.authorize(command, now, tun, out)?,
            Command::Deauthorize(command) => {
                self.client("deauthorize")?;
                self.deauthorize(&command.resource_id, now, out);
            }
            Command::HoldName(HoldName {
                peer_id,
                resource_id,
                proxy_ips,
            }) => {
                let key = self.key_of(&peer_id)?;
                self.client("hold_name")?
                    .hold(key, &resource_id, &proxy_ips);
            }
            Command::ReleaseName(command) => self.release_name(command, now, tun, out)?,
            Command::Grant(command) => self.grant(command)?,
            Command::Revoke(command) => {
                let key = self.links.key_of(&command.peer_id);
                let gateway = self.gateway("revoke")?;
                if let Some(key) = key
                    && gateway.revoke(key, &command.resource_id)
                {
                    self.close_if_useless(key, now, out);
                }
            }
            Command::RetainGrants(command) => self.retain_grants(command, now, out)?,
            Command::UpdateFilters(command) => {
                let filters = Arc::new(FilterSet::new(command.filters));
                self.gateway("update_filters")?
                    .update_filters(&command.resource_id, &filters);
            }
            Command::Translate(command) => self.translate(command)?,
            Command::SendControlPacket(command) => self.send_control_packet(command, now, out)?,
            Command::ResetNetwork(command) => self.reset_network(command.private_key.0, now)?,
            Command::Shutdown => self.shut_down(now, out),
        }
        Ok(())
    }

    fn set_relays(&mut self, command: SetRelays, now: Instant) {
        let listed: BTreeSet<String> = command
            .relays
            .iter()
            .map(|relay| relay.id.clone())
            .collect();
        let relays = command
            .relays
            .into_iter()
            .map(|relay| RelayConfig {
                id: self.relays.number(&relay.id),
                addresses: relay.addresses,
                username: relay.username,
                password: relay.password,
            })
            .collect();
        let removed: Vec<_> = command
            .removed
            .iter()
            .filter_map(|name| self.relays.find(name))
            .collect();
        self.links
            .node
            .set_relays(relays, &removed, command.replace_all, now);
        self.relays.forget(|name| {
            !listed.contains(name) && (command.replace_all || command.removed.contains(name))
        });
    }

    fn upsert_peer(
        &mut self,
        command: UpsertPeer,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let config = ConnectionConfig {
            public_key: PublicKey(command.public_key.0),
            preshared_key: PresharedKey::new(command.preshared_key.0),
            local_ice: command.local_ice,
            remote_ice: command.remote_ice,
            role: command.role,
            profile: command.profile,
        };
        if config.public_key == self.links.keys().public {
            return Err(Refused::Invalid(format!(
                "the public key of peer {} is our own",
                command.id
            )));
        }
        let known = self.links.key_of(&command.id);
        if let Some(owner) = self.links.session_owner(&config.public_key)
            && Some(owner) != known
        {
            // Anybody may name a public key; whoever has a session has proved that the private one is theirs.
            self.counters.add(Counter::KeysRefused, 1);
            return Err(Refused::KeyInUse {
                peer: command.id,
                owner: self.links.name(owner),
            });
        }
        let known = known.and_then(|key| {
            let connection = self.links.connection(key)?;
            (connection.config == config).then_some((key, connection.index))
        });
        let index = match known {
            Some((_, index)) => index,
            None => self.links.free_index(),
        };
        let upserted = self
            .links
            .node
            .upsert_peer(index, peer_config(&config), now)
            .map_err(|error| match error {
                UpsertError::NoRelay => {
                    self.events.push(Event::NoRelays {
                        peer_id: Some(command.id.clone()),
                    });
                    Refused::NoRelay(command.id.clone())
                }
                UpsertError::UsernameTooLong => Refused::Invalid(error.to_string()),
            })?;
        let key = self
            .links
            .upsert_peer(&command.id, command.ipv4, command.ipv6);
        match upserted {
            Upserted::Kept => {
                if let Some(connection) = self.links.connection(key) {
                    connection.initiate_proactively(now);
                }
            }
            Upserted::New => self.links.connect(key, index, config, now),
        }
        match &mut self.side {
            RoleState::Client(client) => {
                client.set_peer_addresses(key, [command.ipv4.into(), command.ipv6.into()]);
            }
            RoleState::Gateway(gateway) => {
                gateway.upsert_client(key, command.ipv4, command.ipv6);
            }
        }
        self.settle_peer(key, now, tun, out);
        Ok(())
    }

    fn authorize(
        &mut self,
        command: Authorize,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        self.client("authorize")?;
        let key = self.key_of(&command.peer_id)?;
        let target = Target {
            resource: command.resource_id.into(),
            device: command.device_address,
        };
        let (waiting, useless) =
            self.client("authorize")?
                .authorize(target, key, command.addresses);
        if let Some(useless) = useless {
            self.close(useless, true, now, out);
        }
        for packet in waiting {
            self.forward(&TunRead::whole(&packet), now, tun, out);
        }
        Ok(())
    }

    fn deauthorize_all(&mut self, resources: Vec<ResourceId>, now: Instant, out: &mut impl Outbox) {
        for resource in resources {
            self.deauthorize(&resource, now, out);
        }
    }

    fn deauthorize(&mut self, resource: &str, now: Instant, out: &mut impl Outbox) {
        let RoleState::Client(client) = &mut self.side else {
            return;
        };
        let (useless, lost) = client.deauthorize(resource);
        self.counters.add(Counter::BufferedLost, lost);
        for key in useless {
            self.close(key, true, now, out);
        }
    }

    fn release_name(
        &mut self,
        command: ReleaseName,
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        self.client("release_name")?;
        let Some(key) = self.links.key_of(&command.peer_id) else {
            return Ok(());
        };
        let held = self
            .client("release_name")?
            .release(key, &command.proxy_ips);
        if !command.flush {
            self.counters.add(Counter::BufferedLost, held.len());
            return Ok(());
        }
        for packet in held {
            self.forward(&TunRead::whole(&packet), now, tun, out);
        }
        Ok(())
    }

    fn grant(&mut self, command: Grant) -> Result<(), Refused> {
        let deadline = self.deadline(command.expires_deadline_s)?;
        self.gateway("grant")?;
        let key = self.key_of(&command.peer_id)?;
        let grant = gateway::Grant {
            kind: command.kind,
            networks: command.networks,
            filters: Arc::new(FilterSet::new(command.filters)),
            deadline,
            rank: command.rank,
        };
        if self
            .gateway("grant")?
            .grant(key, command.resource_id.into(), grant)
        {
            Ok(())
        } else {
            Err(Refused::UnknownPeer(command.peer_id))
        }
    }

    fn retain_grants(
        &mut self,
        command: RetainGrants,
        now: Instant,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        self.gateway("retain_grants")?;
        let mut retained = BTreeMap::new();
        for grant in command.grants {
            let deadline = self.deadline(grant.expires_deadline_s)?;
            if let Some(key) = self.links.key_of(&grant.peer_id) {
                retained.insert((key, grant.resource_id), deadline);
            }
        }
        let gateway = self.gateway("retain_grants")?;
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
            self.close_if_useless(key, now, out);
        }
        Ok(())
    }

    fn translate(&mut self, command: Translate) -> Result<(), Refused> {
        self.gateway("translate")?;
        let key = self.key_of(&command.peer_id)?;
        let translated = self.gateway("translate")?.translate(
            key,
            &command.resource_id,
            &command.name,
            &command.addresses,
        );
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

    fn send_control_packet(
        &mut self,
        command: SendControlPacket,
        now: Instant,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let packet = ControlPacket {
            event: match command.kind {
                0 => ControlEvent::AssignedIps,
                1 => ControlEvent::DomainStatus,
                2 => ControlEvent::Goodbye,
                other => ControlEvent::Unknown(other),
            },
            body: command.payload.as_bytes(),
        };
        let packet = packet
            .encode()
            .map_err(|error| Refused::Invalid(error.to_string()))?;
        self.index_of(&command.peer_id)?;
        let key = self.key_of(&command.peer_id)?;
        self.send_control(key, &packet, now, out);
        Ok(())
    }

    fn reset_network(&mut self, private_key: [u8; 32], now: Instant) -> Result<(), Refused> {
        self.client("reset_network")?;
        for key in self.links.peer_keys() {
            self.events.push(Event::PeerClosed {
                peer_id: self.links.name(key),
                by: crate::event::ClosedBy::Local,
            });
            self.forget(key);
        }
        self.client("reset_network")?.reset();
        self.links.node.reset(now);
        self.links.replace_keys(private_key, now);
        Ok(())
    }

    fn shut_down(&mut self, now: Instant, out: &mut impl Outbox) {
        for key in self.links.peer_keys() {
            self.close(key, true, now, out);
        }
        self.links.node.shut_down(now);
    }

    fn key_of(&self, name: &str) -> Result<PeerKey, Refused> {
        self.links
            .key_of(name)
            .ok_or_else(|| Refused::UnknownPeer(name.to_owned()))
    }

    /// The index of a peer's connection.
    fn index_of(&mut self, name: &str) -> Result<u32, Refused> {
        let key = self.key_of(name)?;
        self.links
            .connection(key)
            .map(|connection| connection.index)
            .ok_or_else(|| Refused::UnknownPeer(name.to_owned()))
    }

    fn client(&mut self, command: &'static str) -> Result<&mut Client, Refused> {
        match &mut self.side {
            RoleState::Client(client) => Ok(client),
            RoleState::Gateway(_) => Err(Refused::WrongRole {
                command,
                role: "client",
            }),
        }
    }

    fn gateway(&mut self, command: &'static str) -> Result<&mut Gateway, Refused> {
        match &mut self.side {
            RoleState::Gateway(gateway) => Ok(gateway),
            RoleState::Client(_) => Err(Refused::WrongRole {
                command,
                role: "gateway",
            }),
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

impl From<TooManyRoutes> for Refused {
    fn from(_: TooManyRoutes) -> Self {
        Self::Invalid("there would be too many routes".to_owned())
    }
}

fn peer_config(config: &ConnectionConfig) -> PeerConfig {
    let credentials = |ice: &command::IceCredentials| IceCredentials {
        username: ice.username.clone(),
        password: ice.password.clone(),
    };
    PeerConfig {
        local_ice: credentials(&config.local_ice),
        remote_ice: credentials(&config.remote_ice),
        controlling: config.role == IceRole::Controlling,
        profile: match config.profile {
            IceProfile::Client => Profile::Client,
            IceProfile::Server => Profile::Server,
        },
    }
}
