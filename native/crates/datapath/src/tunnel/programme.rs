//! Commands applied: each as a whole, or refused as a whole. Here are those of both roles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wardgate_connect::{IceCredentials, PeerConfig, Profile, RelayConfig, UpsertError, Upserted};
use wardgate_packet::{ControlEvent, ControlPacket};
use wardgate_wireguard::{PresharedKey, PublicKey};

use super::Io;
use super::counters::Counter;
use super::engine::{Engine, OwnAddresses, RoleState};
use super::filter_set::FilterSet;
use super::links::{ConnectionConfig, PeerKey};
use crate::command::{
    self, Command, IceProfile, IceRole, Refused, RetainGrants, SendControlPacket, SetRelays,
    UpsertPeer,
};
use crate::event::Event;
use crate::{Outbox, TunSink};

/// Beyond this, a deadline is none: 100 years (data-plane §5.2).
const NEVER_S: f64 = 100.0 * 365.25 * 86_400.0;

impl<R: RoleState> Engine<R> {
    /// Apply a command. When this returns, it is in force.
    pub fn apply(
        &mut self,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        self.count_seen();
        let result = self.apply_one(command, io);
        self.settle_node(io);
        result
    }

    fn apply_one(
        &mut self,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
        match command {
            Command::SetAddresses(own) => {
                self.own = Some(OwnAddresses {
                    ipv4: own.ipv4,
                    ipv6: own.ipv6,
                });
            }
            Command::SetRelays(command) => self.set_relays(command, io.now),
            Command::UpsertPeer(command) => self.upsert_peer(command, io)?,
            Command::RemovePeer(command) => {
                if let Some(key) = self.links.key_of(&command.id) {
                    self.close(key, command.goodbye, io);
                }
            }
            Command::AddRemoteCandidates(command) => {
                let index = self.index_of(&command.peer_id)?;
                for candidate in &command.candidates {
                    self.links
                        .node
                        .add_remote_candidate(index, candidate, io.now);
                }
            }
            Command::RemoveRemoteCandidates(command) => {
                let index = self.index_of(&command.peer_id)?;
                for candidate in &command.candidates {
                    self.links
                        .node
                        .remove_remote_candidate(index, candidate, io.now);
                }
            }
            Command::Grant(command) => {
                let deadline = self.deadline(command.expires_deadline_s)?;
                let key = self.key_of(&command.peer_id)?;
                R::grant(self, key, command, deadline)?;
                self.flows.grants_changed(Some(key));
            }
            Command::Revoke(command) => {
                if let Some(key) = self.links.key_of(&command.peer_id)
                    && self.role.revoke(key, &command.resource_id)
                {
                    self.flows.grants_changed(Some(key));
                    self.close_if_useless(key, io);
                }
            }
            Command::RetainGrants(command) => self.retain_grants(command, io)?,
            Command::UpdateFilters(command) => {
                let filters = Arc::new(FilterSet::new(command.filters));
                self.role.update_filters(&command.resource_id, &filters);
                self.flows.grants_changed(None);
            }
            Command::SendControlPacket(command) => self.send_control_packet(&command, io)?,
            Command::RecordFlows(command) => {
                let unix_at_zero = Duration::try_from_secs_f64(command.unix_at_zero_s)
                    .map_err(|error| Refused::Invalid(error.to_string()))?;
                self.flows.set(command.is_on, unix_at_zero, io.now);
            }
            Command::Shutdown(command) => self.shut_down(command.goodbye, io),
            other => R::apply(self, other, io)?,
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
        io: &mut Io<'_, impl TunSink, impl Outbox>,
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
            .upsert_peer(index, peer_config(&config), io.now)
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
                    connection.initiate_proactively(io.now);
                }
            }
            Upserted::New => self.links.connect(key, index, config, io.now),
        }
        self.role.upsert_peer(key, command.ipv4, command.ipv6);
        self.settle_peer(key, io);
        Ok(())
    }

    fn send_control_packet(
        &mut self,
        command: &SendControlPacket,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
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
        self.send_control(key, &packet, io);
        Ok(())
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
        let mut parted = Vec::new();
        for (key, resource) in self.role.grants() {
            match retained.get(&(key, resource.to_string())) {
                Some(deadline) => self.role.set_deadline(key, &resource, *deadline),
                None => {
                    self.role.revoke(key, &resource);
                    parted.push(key);
                }
            }
        }
        for key in parted {
            self.close_if_useless(key, io);
        }
        Ok(())
    }

    /// End the grants whose deadline has come.
    pub(super) fn expire_grants(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        let expired = self.role.handle_timeout(io.now);
        // First all that is to be told: a peer whose last grants end together is forgotten with the first of them.
        for (key, resource) in &expired {
            self.flows.grants_changed(Some(*key));
            self.events.push(Event::GrantExpired {
                peer_id: self.links.name(*key),
                resource_id: resource.to_string(),
            });
        }
        for (key, _) in expired {
            self.close_if_useless(key, io);
        }
    }

    /// Close a peer's connection if nothing is left that it was for.
    pub(super) fn close_if_useless(
        &mut self,
        key: PeerKey,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        if self.role.is_useless(key) {
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

    fn shut_down(&mut self, goodbye: bool, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        for key in self.links.peer_keys() {
            self.close(key, goodbye, io);
        }
        self.flows.end_all(io.now);
        self.links.node.shut_down(io.now);
    }

    pub(super) fn key_of(&self, name: &str) -> Result<PeerKey, Refused> {
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
