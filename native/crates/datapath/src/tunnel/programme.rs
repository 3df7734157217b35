//! Commands applied: each as a whole, or refused as a whole. Here are those of both roles.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wardgate_connect::{IceCredentials, PeerConfig, Profile, RelayConfig, UpsertError, Upserted};
use wardgate_packet::{ControlEvent, ControlPacket};
use wardgate_wireguard::{PresharedKey, PublicKey};

use super::Io;
use super::counters::Counter;
use super::engine::{Engine, OwnAddresses, RoleState};
use super::links::{ConnectionConfig, PeerKey};
use crate::command::{
    self, Command, IceProfile, IceRole, Refused, SendControlPacket, SetRelays, UpsertPeer,
};
use crate::event::Event;
use crate::{Outbox, TunSink};

impl<R: RoleState> Engine<R> {
    /// Apply a command. When this returns, it is in force.
    pub fn apply(
        &mut self,
        command: Command,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> Result<(), Refused> {
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
            Command::SendControlPacket(command) => self.send_control_packet(&command, io)?,
            Command::RecordFlows(command) => {
                let unix_at_zero = Duration::try_from_secs_f64(command.unix_at_zero_s)
                    .map_err(|error| Refused::Invalid(error.to_string()))?;
                self.flows.set(command.is_on, unix_at_zero, io.now);
            }
            Command::Shutdown => self.shut_down(io),
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

    fn shut_down(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        for key in self.links.peer_keys() {
            self.close(key, true, io);
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
