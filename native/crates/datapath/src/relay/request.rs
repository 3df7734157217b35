//! TURN requests as the relay understands them, judged before anybody is authenticated (relay §2.3).

use std::net::SocketAddr;
use wardgate_stun::{AddressFamily, Message, Method};

#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    Binding,
    Allocate(Allocate),
    /// Lifetime in seconds, when asked for.
    Refresh {
        lifetime_s: Option<u32>,
    },
    ChannelBind {
        number: u16,
        peer: SocketAddr,
    },
    CreatePermission,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Allocate {
    pub(super) transport: u8,
    pub(super) requested: Option<AddressFamily>,
    pub(super) additional: Option<AddressFamily>,
    pub(super) lifetime_s: Option<u32>,
}

/// Answer 400.
#[derive(Clone, Copy, Debug)]
pub(super) struct BadRequest;

impl Request {
    pub(super) fn parse(message: &Message<'_>) -> Result<Request, BadRequest> {
        message.validate().map_err(|_| BadRequest)?;
        match message.method() {
            Method::BINDING => Ok(Request::Binding),
            Method::ALLOCATE => Ok(Request::Allocate(Allocate {
                transport: message.requested_transport().ok_or(BadRequest)?,
                requested: message.requested_address_family(),
                additional: message.additional_address_family(),
                lifetime_s: message.lifetime(),
            })),
            Method::REFRESH => Ok(Request::Refresh {
                lifetime_s: message.lifetime(),
            }),
            Method::CHANNEL_BIND => Ok(Request::ChannelBind {
                number: message.channel_number().ok_or(BadRequest)?,
                peer: message.xor_peer_address().ok_or(BadRequest)?,
            }),
            Method::CREATE_PERMISSION => Ok(Request::CreatePermission),
            _ => Err(BadRequest),
        }
    }
}
