//! Allocations, their channels, and when each ends.
//!
//! An allocation is known by its port, which both address families share; client sockets and usernames lead to the
//! port. Deadlines lie in one ordered set with exactly one entry for each allocation and each channel, so that no sequence
//! of refreshes makes it grow.

use super::rate_limit::Bucket;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use wardgate_stun::AddressFamily;

/// Lifetime of a channel binding (RFC 8656 §12).
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// After that, how long number and peer can be bound to nothing but each other (RFC 8656 §12).
const CHANNEL_COOL_DOWN: Duration = Duration::from_secs(300);

/// Channels of one allocation: as many as there are numbers (RFC 8656 §12). A gateway needs up to four for each of its
/// clients, those behind two NATs with two families each, hence serves 1,000 clients over one relay.
pub(super) const MAX_CHANNELS: usize = 4_096;

/// Channels of all allocations together beyond those that are guaranteed. Ours: 160 bytes each, hence 170 MB.
const MAX_SHARED_CHANNELS: usize = 1 << 20;

/// Channels that an allocation gets however many the others have: a client's peers, a few each.
pub(super) const GUARANTEED_CHANNELS: usize = 64;

/// Address families that an allocation relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    pub(super) fn contains(self, family: AddressFamily) -> bool {
        match family {
            AddressFamily::V4 => self.v4,
            AddressFamily::V6 => self.v6,
        }
    }
}

#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: SocketAddr,
    pub(super) username: String,
    pub(super) port: u16,
    pub(super) families: Families,
    expires_at: Instant,
    /// For what its client asks without proof, as the published clients' keepalives.
    pub(super) bucket: Bucket,
    channels: FxHashMap<u16, Channel>,
    numbers: FxHashMap<SocketAddr, u16>,
}

#[derive(Debug)]
struct Channel {
    peer: SocketAddr,
    /// End of relaying; the record stays for [`CHANNEL_COOL_DOWN`] more.
    expires_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindError {
    /// Number or peer is bound, or cools down, in another pairing.
    Conflict,
    TooMany,
}

impl Channel {
    fn forgotten_at(&self) -> Instant {
        self.expires_at + CHANNEL_COOL_DOWN
    }
}

impl Allocation {
    /// Peer of a channel that relays.
    pub(super) fn peer(&self, number: u16, now: Instant) -> Option<SocketAddr> {
        self.channels
            .get(&number)
            .filter(|channel| now < channel.expires_at)
            .map(|channel| channel.peer)
    }

    /// Number of the channel that relays for this peer.
    pub(super) fn number(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let number = *self.numbers.get(&peer)?;
        self.peer(number, now).map(|_| number)
    }
}

pub(super) struct AllocationTable {
    first_port: u16,
    by_port: Vec<Option<Box<Allocation>>>,
    by_client: FxHashMap<SocketAddr, u16>,
    by_username: FxHashMap<String, u16>,
    deadlines: BTreeSet<(Instant, Deadline)>,
    channels: usize,
    max_shared_channels: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Allocation { port: u16 },
    Channel { port: u16, number: u16 },
}

impl AllocationTable {
    pub(super) fn new(ports: &RangeInclusive<u16>) -> AllocationTable {
        let size = usize::from(*ports.end()) + 1 - usize::from(*ports.start());
        AllocationTable {
            first_port: *ports.start(),
            by_port: std::iter::repeat_with(|| None).take(size).collect(),
            by_client: FxHashMap::default(),
            by_username: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            channels: 0,
            max_shared_channels: MAX_SHARED_CHANNELS,
        }
    }

    /// The same with less room, for a test of what happens without.
    #[cfg(test)]
    pub(super) fn limit_shared_channels(&mut self, max: usize) {
        self.max_shared_channels = max;
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Number of ports, free or not.
    pub(super) fn size(&self) -> usize {
        self.by_port.len()
    }

    /// The `n`th port, counted round from the first.
    pub(super) fn nth_port(&self, n: usize) -> u16 {
        self.first_port + (n % self.by_port.len()) as u16
    }

    pub(super) fn by_port(&self, port: u16) -> Option<&Allocation> {
        self.by_port
            .get(usize::from(port.checked_sub(self.first_port)?))?
            .as_deref()
    }

    pub(super) fn by_client(&self, client: SocketAddr) -> Option<&Allocation> {
        self.by_port(*self.by_client.get(&client)?)
    }

    /// The bucket of the client whose socket this is; none without an allocation.
    pub(super) fn bucket_of_client(&mut self, client: SocketAddr) -> Option<&mut Bucket> {
        let port = *self.by_client.get(&client)?;
        Some(&mut self.get_mut(port)?.bucket)
    }

    pub(super) fn by_username(&self, username: &str) -> Option<&Allocation> {
        self.by_port(*self.by_username.get(username)?)
    }

    /// Add an allocation; its port, client and username have none.
    pub(super) fn insert(
        &mut self,
        client: SocketAddr,
        username: &str,
        port: u16,
        families: Families,
        expires_at: Instant,
    ) {
        let allocation = Allocation {
            client,
            username: username.to_owned(),
            port,
            families,
            expires_at,
            bucket: Bucket::FULL,
            channels: FxHashMap::default(),
            numbers: FxHashMap::default(),
        };
        self.by_port[usize::from(port - self.first_port)] = Some(Box::new(allocation));
        self.by_client.insert(client, port);
        self.by_username.insert(username.to_owned(), port);
        self.deadlines
            .insert((expires_at, Deadline::Allocation { port }));
    }

    pub(super) fn remove(&mut self, port: u16) -> Option<Allocation> {
        let slot = self
            .by_port
            .get_mut(usize::from(port.checked_sub(self.first_port)?))?;
        let allocation = slot.take()?;
        self.by_client.remove(&allocation.client);
        self.by_username.remove(&allocation.username);
        self.deadlines
            .remove(&(allocation.expires_at, Deadline::Allocation { port }));
        for (number, channel) in &allocation.channels {
            self.deadlines.remove(&(
                channel.forgotten_at(),
                Deadline::Channel {
                    port,
                    number: *number,
                },
            ));
        }
        self.channels -= allocation.channels.len();
        Some(*allocation)
    }

    /// Move the expiry of an allocation.
    pub(super) fn refresh(&mut self, port: u16, expires_at: Instant) {
        let Some(allocation) = self.get_mut(port) else {
            return;
        };
        let old = std::mem::replace(&mut allocation.expires_at, expires_at);
        self.deadlines.remove(&(old, Deadline::Allocation { port }));
        self.deadlines
            .insert((expires_at, Deadline::Allocation { port }));
    }

    /// Create, refresh or re-activate a channel.
    pub(super) fn bind(
        &mut self,
        port: u16,
        number: u16,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<(), BindError> {
        let is_crowded = self.channels >= self.max_shared_channels;
        let Some(allocation) = self.get_mut(port) else {
            return Err(BindError::Conflict);
        };
        let renewed = Channel {
            peer,
            expires_at: now + CHANNEL_LIFETIME,
        };
        let forgotten_at = renewed.forgotten_at();
        if allocation
            .numbers
            .get(&peer)
            .is_some_and(|bound| *bound != number)
        {
            return Err(BindError::Conflict);
        }
        let own = allocation.channels.len();
        let full = own >= MAX_CHANNELS || (is_crowded && own >= GUARANTEED_CHANNELS);
        match allocation.channels.get_mut(&number) {
            Some(channel) if channel.peer != peer => return Err(BindError::Conflict),
            Some(channel) => {
                let old = std::mem::replace(channel, renewed).forgotten_at();
                self.deadlines
                    .remove(&(old, Deadline::Channel { port, number }));
            }
            None if full => return Err(BindError::TooMany),
            None => {
                allocation.channels.insert(number, renewed);
                allocation.numbers.insert(peer, number);
                self.channels += 1;
            }
        }
        self.deadlines
            .insert((forgotten_at, Deadline::Channel { port, number }));
        Ok(())
    }

    /// When something runs out next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forget what has run out; gives one ended allocation for each call, `None` when all is done.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Allocation> {
        while self.next_deadline().is_some_and(|at| at <= now) {
            match self.deadlines.pop_first()?.1 {
                Deadline::Allocation { port } => return self.remove(port),
                Deadline::Channel { port, number } => self.forget_channel(port, number),
            }
        }
        None
    }

    fn forget_channel(&mut self, port: u16, number: u16) {
        let Some(allocation) = self.get_mut(port) else {
            return;
        };
        let Some(channel) = allocation.channels.remove(&number) else {
            return;
        };
        allocation.numbers.remove(&channel.peer);
        self.channels -= 1;
    }

    fn get_mut(&mut self, port: u16) -> Option<&mut Allocation> {
        self.by_port
            .get_mut(usize::from(port.checked_sub(self.first_port)?))?
            .as_deref_mut()
    }
}

/// Address without the parts that do not name an endpoint (flow label, scope), so that it compares and hashes as one.
pub(super) fn endpoint(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

pub(super) fn family(address: SocketAddr) -> AddressFamily {
    match address.ip() {
        IpAddr::V4(_) => AddressFamily::V4,
        IpAddr::V6(_) => AddressFamily::V6,
    }
}
