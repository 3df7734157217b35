//! Client and gateway as they ship, with a relay to learn addresses from: one authorised resource, the gateway's own
//! address behind the tunnel. Candidates go to the other end in datagrams of their own.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wardgate_datapath::command::{
    Authorize, Command, Grant, GrantKind, IceCredentials, IceProfile, IceRole, Key, RecordFlows,
    RelayServer, RemoteCandidates, Route, SetAddresses, SetRelays, SetRoutes, Table, UpsertPeer,
};
use wardgate_datapath::event::Event;
use wardgate_datapath::relay::PeerRules;
use wardgate_datapath::tunnel::Role;
use wardgate_io::{RelayHost, RelayHostConfig, TunnelHost, TunnelHostConfig};

use crate::{OUTER, Result, keys_of, private_key, report};

pub const INTERFACE: &str = "engine0";
/// Tunnel addresses of client and gateway, and the resource.
pub const TUNNEL: [&str; 2] = ["100.64.0.1", "100.64.0.2"];
pub const RESOURCE: &str = "10.78.0.2";
const TUNNEL6: [&str; 2] = ["fd00:2021:1111::1", "fd00:2021:1111::2"];
const RELAY_PORT: u16 = 3_478;
const SIGNALLING_PORT: u16 = 9_000;
const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Of SECRET, expiring in 2038.
const USERS: [(&str, &str); 2] = [
    (
        "2145916800:c2FsdA",
        "vMwjag93IazwKz2o+u9Xe1IfCf+n2vTVcd78I6EOap8",
    ),
    (
        "2145916800:b3RoZXI",
        "vbV4MTAehyCeTpo2LluHoYnv2u7k+njGYRcXxDuELgE",
    ),
];

/// One end, 0 the client; until its standard input closes.
pub fn run(side: usize) -> Result<()> {
    // The relay shares the client's host.
    let _relay = (side == 0).then(start_relay).transpose()?;
    let host = TunnelHost::open(TunnelHostConfig {
        role: [Role::Client, Role::Gateway][side],
        private_key: private_key(side),
        tun_name: INTERFACE.to_owned(),
        tun_device: None,
        listen_port: 52_625,
        firewall_mark: None,
    })?;
    let apply = |command| -> Result<()> { Ok(host.apply(command)??) };
    apply(Command::SetAddresses(SetAddresses {
        ipv4: TUNNEL[side].parse()?,
        ipv6: TUNNEL6[side].parse()?,
    }))?;
    apply(Command::SetRelays(SetRelays {
        relays: vec![RelayServer {
            id: "relay".to_owned(),
            addresses: vec![format!("{}:{RELAY_PORT}", OUTER[0]).parse()?],
            username: USERS[side].0.to_owned(),
            password: USERS[side].1.to_owned(),
        }],
        removed: Vec::new(),
        replace_all: true,
    }))?;
    let signalling = UdpSocket::bind((OUTER[side], SIGNALLING_PORT))?;
    signalling.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut own_candidates = BTreeSet::new();
    let ended = Arc::new(AtomicBool::new(false));
    watch_input(ended.clone());
    while !ended.load(Ordering::Relaxed) {
        for event in host.drain_events() {
            match event {
                Event::RelayUp { .. } => connect(side, &apply)?,
                Event::LocalCandidatesAdded { candidates, .. } => own_candidates.extend(candidates),
                Event::PathSelected { .. } | Event::HandshakeDone { .. } => {}
                other => eprintln!("side {side}: {other:?}"),
            }
        }
        let mut buffer = [0; 1_500];
        let Ok(len) = signalling.recv(&mut buffer) else {
            // Again whenever it is quiet, since the other end may have started later.
            for candidate in &own_candidates {
                signalling.send_to(candidate.as_bytes(), (OUTER[1 - side], SIGNALLING_PORT))?;
            }
            continue;
        };
        let candidate = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let command = Command::AddRemoteCandidates(RemoteCandidates {
            peer_id: "peer".to_owned(),
            candidates: vec![candidate],
        });
        // Refused until the peer is known.
        let _ = host.apply(command)?;
    }
    report("engine", side, &host.stats()?)
}

/// Set `ended` when standard input closes.
fn watch_input(ended: Arc<AtomicBool>) {
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ended.store(true, Ordering::Relaxed);
    });
}

fn connect(side: usize, apply: &impl Fn(Command) -> Result<()>) -> Result<()> {
    let other = 1 - side;
    let ice = |side: usize| IceCredentials {
        username: format!("end{side}"),
        password: format!("a password of end {side}"),
    };
    apply(Command::UpsertPeer(UpsertPeer {
        id: "peer".to_owned(),
        public_key: Key(keys_of(other).public.0),
        preshared_key: Key([7; 32]),
        local_ice: ice(side),
        remote_ice: ice(other),
        role: [IceRole::Controlling, IceRole::Controlled][side],
        profile: [IceProfile::Client, IceProfile::Server][side],
        ipv4: TUNNEL[other].parse()?,
        ipv6: TUNNEL6[other].parse()?,
    }))?;
    let resource = "resource".to_owned();
    apply(Command::RecordFlows(RecordFlows {
        is_on: record_under().is_some(),
        unix_at_zero_s: 0.0,
    }))?;
    if side == 0 {
        apply(Command::SetRoutes(SetRoutes {
            routes: vec![Route {
                prefix: format!("{RESOURCE}/32").parse()?,
                resource_id: resource.clone(),
                table: Table::Cidr,
                filters: Vec::new(),
                rank: 0,
            }],
        }))?;
        apply(Command::Authorize(Authorize {
            resource_id: resource,
            peer_id: "peer".to_owned(),
            addresses: vec![format!("{RESOURCE}/32").parse()?],
            device_address: None,
            record_under: record_under(),
        }))
    } else {
        apply(Command::Grant(Grant {
            peer_id: "peer".to_owned(),
            resource_id: resource,
            kind: GrantKind::Cidr,
            networks: vec![format!("{RESOURCE}/32").parse()?],
            filters: Vec::new(),
            expires_deadline_s: None,
            rank: 0,
            record_under: record_under(),
        }))
    }
}

fn record_under() -> Option<String> {
    std::env::var_os("WARDGATE_PAIR_RECORDS").map(|_| "authorization".to_owned())
}

fn start_relay() -> Result<RelayHost> {
    Ok(RelayHost::start(RelayHostConfig {
        stamp_secret: SECRET.to_owned(),
        ipv4: Some(OUTER[0].parse()?),
        ipv6: None,
        port: RELAY_PORT,
        allocation_ports: 49_152..=65_535,
        peer_rules: PeerRules::default(),
        max_sockets: 64,
    })?)
}
