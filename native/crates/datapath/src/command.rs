//! Commands: what Python tells the tunnel engine. The Python side is `wardgate.datapath.commands`, where each field is
//! explained; here they are parsed to their final types, so that nothing malformed gets further than this file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

use crate::prefix::Prefix;
use crate::tunnel::{Protocol, Role};

/// Why a command changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("malformed command: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("unknown peer {0}")]
    UnknownPeer(String),
    #[error("unknown grant of resource {resource} to peer {peer}")]
    UnknownGrant { peer: String, resource: String },
    #[error("no relay is usable for peer {0}")]
    NoRelay(String),
    #[error("the public key of peer {peer} is that of {owner}, which has a session")]
    KeyInUse { peer: String, owner: String },
    #[error("{command} is for a {role} only")]
    WrongRole {
        command: &'static str,
        role: &'static str,
    },
    #[error("{0}")]
    Invalid(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    SetAddresses(SetAddresses),
    SetRelays(SetRelays),
    UpsertPeer(UpsertPeer),
    RemovePeer(RemovePeer),
    AddRemoteCandidates(RemoteCandidates),
    RemoveRemoteCandidates(RemoteCandidates),
    SetRoutes(SetRoutes),
    AddRoutes(AddRoutes),
    RemoveRoutes(RemoveRoutes),
    Authorize(Authorize),
    Deauthorize(Deauthorize),
    HoldName(HoldName),
    ReleaseName(ReleaseName),
    Grant(Grant),
    Revoke(Revoke),
    RetainGrants(RetainGrants),
    UpdateFilters(UpdateFilters),
    Translate(Translate),
    SendControlPacket(SendControlPacket),
    ResetNetwork(ResetNetwork),
    RecordFlows(RecordFlows),
    InheritFlows(InheritFlows),
    Shutdown(Shutdown),
}

impl Command {
    pub fn parse(json: &[u8]) -> Result<Self, Refused> {
        Ok(serde_json::from_slice(json)?)
    }

    /// What an engine of this role says to a command of the other one.
    pub(crate) fn refused_by(&self, role: Role) -> Refused {
        Refused::WrongRole {
            command: self.name(),
            role: match role {
                Role::Client => "gateway",
                Role::Gateway => "client",
            },
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::SetAddresses(_) => "set_addresses",
            Self::SetRelays(_) => "set_relays",
            Self::UpsertPeer(_) => "upsert_peer",
            Self::RemovePeer(_) => "remove_peer",
            Self::AddRemoteCandidates(_) => "add_remote_candidates",
            Self::RemoveRemoteCandidates(_) => "remove_remote_candidates",
            Self::SetRoutes(_) => "set_routes",
            Self::AddRoutes(_) => "add_routes",
            Self::RemoveRoutes(_) => "remove_routes",
            Self::Authorize(_) => "authorize",
            Self::Deauthorize(_) => "deauthorize",
            Self::HoldName(_) => "hold_name",
            Self::ReleaseName(_) => "release_name",
            Self::Grant(_) => "grant",
            Self::Revoke(_) => "revoke",
            Self::RetainGrants(_) => "retain_grants",
            Self::UpdateFilters(_) => "update_filters",
            Self::Translate(_) => "translate",
            Self::SendControlPacket(_) => "send_control_packet",
            Self::ResetNetwork(_) => "reset_network",
            Self::RecordFlows(_) => "record_flows",
            Self::InheritFlows(_) => "inherit_flows",
            Self::Shutdown(_) => "shutdown",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct SetAddresses {
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SetRelays {
    pub relays: Vec<RelayServer>,
    #[serde(default)]
    pub removed: Vec<String>,
    #[serde(default)]
    pub replace_all: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RelayServer {
    pub id: String,
    pub addresses: Vec<SocketAddr>,
    pub username: String,
    pub password: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct UpsertPeer {
    pub id: String,
    pub public_key: Key,
    pub preshared_key: Key,
    pub local_ice: IceCredentials,
    pub remote_ice: IceCredentials,
    pub role: IceRole,
    pub profile: IceProfile,
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct IceCredentials {
    pub username: String,
    pub password: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum IceRole {
    Controlling,
    Controlled,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum IceProfile {
    Client,
    Server,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RemovePeer {
    pub id: String,
    #[serde(default = "yes")]
    pub goodbye: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RemoteCandidates {
    pub peer_id: String,
    pub candidates: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SetRoutes {
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct AddRoutes {
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RemoveRoutes {
    pub routes: Vec<RemovedRoute>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RemovedRoute {
    pub prefix: Prefix,
    pub resource_id: String,
    pub table: Table,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Route {
    pub prefix: Prefix,
    pub resource_id: String,
    pub table: Table,
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub rank: i64,
}

/// In the order in which they are asked (data-plane §4.2).
#[derive(
    Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Device,
    Dns,
    Cidr,
    Internet,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Filter {
    pub protocol: FilterProtocol,
    #[serde(default)]
    pub first_port: u16,
    #[serde(default = "last_port")]
    pub last_port: u16,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FilterProtocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Authorize {
    pub resource_id: String,
    pub peer_id: String,
    pub addresses: Vec<Prefix>,
    #[serde(default)]
    pub device_address: Option<IpAddr>,
    #[serde(default)]
    pub record_under: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Deauthorize {
    pub resource_id: String,
    #[serde(default)]
    pub device_address: Option<IpAddr>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct HoldName {
    pub peer_id: String,
    pub resource_id: String,
    pub proxy_ips: Vec<IpAddr>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ReleaseName {
    pub peer_id: String,
    pub resource_id: String,
    pub proxy_ips: Vec<IpAddr>,
    pub flush: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Grant {
    pub peer_id: String,
    pub resource_id: String,
    pub kind: GrantKind,
    pub networks: Vec<Prefix>,
    pub filters: Vec<Filter>,
    pub expires_deadline_s: Option<f64>,
    #[serde(default)]
    pub rank: i64,
    #[serde(default)]
    pub record_under: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    Cidr,
    Dns,
    Internet,
    /// Of a client to another: itself, through a device pool.
    Device,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Revoke {
    pub peer_id: String,
    pub resource_id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RetainGrants {
    pub grants: Vec<RetainedGrant>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RetainedGrant {
    pub peer_id: String,
    pub resource_id: String,
    pub expires_deadline_s: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct UpdateFilters {
    pub resource_id: String,
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Translate {
    pub peer_id: String,
    pub resource_id: String,
    pub name: String,
    pub addresses: Vec<(IpAddr, Option<IpAddr>)>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SendControlPacket {
    pub peer_id: String,
    #[serde(rename = "type")]
    pub kind: u8,
    pub payload: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ResetNetwork {
    pub private_key: Key,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RecordFlows {
    pub is_on: bool,
    pub unix_at_zero_s: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct InheritFlows {
    pub flows: Vec<TranslatedFlow>,
}

/// A flow of a client to a name, as one gateway process tells it to the next.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct TranslatedFlow {
    pub peer_id: String,
    pub protocol: Protocol,
    /// The proxy address, and the client's port or echo identifier.
    pub inside: (IpAddr, u16),
    /// The real address, and the port or identifier that the gateway uses towards it.
    pub outside: (IpAddr, u16),
    pub is_answered: bool,
}

/// Write flows as one JSON array.
pub fn encode_flows(flows: &[TranslatedFlow]) -> Vec<u8> {
    serde_json::to_vec(flows)
        .unwrap_or_else(|_| unreachable!("no flow holds a map or a foreign type"))
}

#[derive(Clone, Debug, Deserialize)]
pub struct Shutdown {
    #[serde(default = "yes")]
    pub goodbye: bool,
}

/// 32 bytes, as text standard base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl Key {
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    pub fn encode(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(…)")
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The text itself stays out of the message: it may be a private key.
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a key is not base64 of 32 bytes"))
    }
}

fn yes() -> bool {
    true
}

fn last_port() -> u16 {
    u16::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_beyond_their_bounds_are_refused() {
        let command = |first: i64, last: i64| {
            let text = serde_json::json!({
                "command": "update_filters", "resource_id": "r",
                "filters": [{"protocol": "tcp", "first_port": first, "last_port": last}],
            });
            Command::parse(text.to_string().as_bytes())
        };
        for (first, last) in [(0, 65_535), (443, 443), (9, 3)] {
            assert!(command(first, last).is_ok(), "{first}-{last}");
        }
        for (first, last) in [(0, 65_536), (65_536, 65_537), (-1, 80), (80, 131_071)] {
            assert!(command(first, last).is_err(), "{first}-{last}");
        }
    }
}
