//! A network in virtual time: peers behind NATs, relays, signalling; nothing in it reads a clock or draws at random.
#![allow(dead_code, reason = "each test crate uses its part")]

pub mod nat;
pub mod relay;
pub mod world;

use std::net::SocketAddr;
use std::time::Instant;

use wardgate_connect::{IceCredentials, PeerConfig, Profile, RelayConfig};

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The origin of virtual time; only differences matter.
pub fn origin() -> Instant {
    #[allow(
        clippy::disallowed_methods,
        reason = "any instant serves as the origin of virtual time"
    )]
    Instant::now()
}

pub fn client_config() -> PeerConfig {
    PeerConfig {
        local_ice: IceCredentials {
            username: "clnt".into(),
            password: "client-password-000000".into(),
        },
        remote_ice: IceCredentials {
            username: "gate".into(),
            password: "gateway-password-00000".into(),
        },
        controlling: true,
        profile: Profile::Client,
    }
}

pub fn gateway_config() -> PeerConfig {
    let PeerConfig {
        local_ice,
        remote_ice,
        ..
    } = client_config();
    PeerConfig {
        local_ice: remote_ice,
        remote_ice: local_ice,
        controlling: false,
        profile: Profile::Server,
    }
}

/// `peer` sets the credentials: a relay holds one allocation for each.
pub fn relay_config(id: u32, addresses: &[&str], peer: &str) -> RelayConfig<u32> {
    let (username, password) = relay::Relay::credentials(peer);
    RelayConfig {
        id,
        addresses: addresses.iter().map(|text| address(text)).collect(),
        username,
        password,
    }
}
