//! One peer: its handshakes, sessions and timers.
//!
//! Every completed handshake makes a session. Sessions are numbered in the order in which we derived their keys; we send in the
//! *current* one, the greatest number of those that the peer has proved to hold: at once for a session that we initiated, with
//! the peer's first data message otherwise. All of a ring of eight still open what is in flight.
//!
//! ```text
//!               initiate, timers                      response
//!     (nothing) ───────────────► pending initiation ───────────► current ──► replaced ──► dropped at 180 s
//!                                  │ 20 s: GaveUp                   ▲
//!     (nothing) ── initiation ► unconfirmed ── peer's first data ───┘
//! ```
//!
//! Both may run at once: neither ends the other, not even by being confirmed first. A peer that has answered us last counts us as
//! the initiator, so if we dropped our half, neither end would renew the session. But an attempt beside which the peer's succeeded
//! is no sign of a dead peer when it is given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use thiserror::Error;

use crate::cookie::MacWriter;
use crate::keys::{Keys, PresharedKey, PublicKey};
use crate::message::{
    DATA_OVERHEAD, INITIATION_SIZE, MessageKind, RESPONSE_SIZE, classify, data, field, initiation,
    response,
};
use crate::noise::{self, HandshakeError, PendingInitiation, StaticContext, TransportKeys};
use crate::session::{OpenError, REKEY_AFTER_MESSAGES, ReceiveSession, SendSession};
use crate::timers::Timers;
use crate::timestamp::{Timestamp, TimestampClock};

/// Sessions of one tunnel that open messages at the same time (data-plane §2.2).
pub const SESSIONS_PER_TUNNEL: usize = 8;

/// The upper bits of a session index, which [`TunnelConfig::index`] fills.
const TUNNEL_INDEX_BITS: u32 = 24;

/// What a tunnel is made from.
pub struct TunnelConfig {
    pub keys: Arc<Keys>,
    pub peer: PublicKey,
    pub preshared_key: PresharedKey,
    /// The upper 24 bits of every session index of ours, which lead a datagram to its tunnel; unique in this process.
    pub index: u32,
    pub timers: Timers,
    /// Ephemeral keys, jitter and the seed of the next drawing derive from it: as secret as a private key, and never used for
    /// another tunnel.
    pub seed: [u8; 32],
    pub clock: TimestampClock,
}

/// What happened to a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TunnelEvent {
    /// A session became current: from now on, packets can be sealed in it.
    HandshakeDone,
    /// For `wipe_after` no session was made; all key material is forgotten.
    SessionsExpired,
    /// For `rekey_attempt` no response came. Older sessions work until their age ends them.
    GaveUp,
}

/// What a tunnel can tell about itself. Messages are counted in the direction towards us, keepalives among them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TunnelFigures {
    /// When the keys that we send with were agreed on; `None`: there is no session.
    pub session_made_at: Option<Instant>,
    pub arrived: u64,
    /// Messages that the peer numbered below others that arrived. One that is merely late counts until it is there.
    pub missing: u64,
}

/// There is no session to seal with; the packet is unchanged.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("no usable session")]
pub struct NoSession;

/// The conversation with one peer. After any call, drain `poll_transmit` and `poll_event`, and call `handle_timeout` at
/// `poll_timeout`.
pub struct Tunnel {
    config: TunnelConfig,
    context: StaticContext,
    control: Control,
    sending: Option<SendSession>,
    /// Apart, since most places are empty: keys are large, and a gateway has thousands of tunnels.
    receiving: [Option<Box<ReceiveSlot>>; SESSIONS_PER_TUNNEL],
    activity: Activity,
    /// Arrived and missing messages of sessions that are gone.
    former: (u64, u64),
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<TunnelEvent>,
}

impl Tunnel {
    /// Make a tunnel that is silent until [`Tunnel::initiate`] is called or the peer initiates.
    ///
    /// # Panics
    /// If `config.index` has more than 24 bits.
    #[must_use]
    pub fn new(config: TunnelConfig, now: Instant) -> Self {
        assert!(
            config.index >> TUNNEL_INDEX_BITS == 0,
            "a tunnel's index has 24 bits"
        );
        Self {
            context: StaticContext::new(&config.keys, config.peer),
            control: Control {
                macs: MacWriter::new(&config.peer),
                pending: None,
                current: None,
                established_before: false,
                rekey_at: None,
                sessions_made: 0,
                last_index: 0,
                sent_timestamp: None,
                received_timestamp: None,
                silence: config.timers.silence,
                wipe_at: Some(now + config.timers.wipe_after),
            },
            sending: None,
            receiving: [const { None }; SESSIONS_PER_TUNNEL],
            activity: Activity::default(),
            former: (0, 0),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Start a handshake, unless one is running.
    pub fn initiate(&mut self, now: Instant) {
        if self.control.pending.is_none() {
            self.send_initiation(now + self.config.timers.rekey_attempt, false, now);
        }
    }

    /// Whether an initiation of ours waits for its response.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.control.pending.is_some()
    }

    /// Whether [`Tunnel::seal`] would succeed.
    #[must_use]
    pub fn is_established(&self, now: Instant) -> bool {
        self.sending
            .as_ref()
            .is_some_and(|session| session.is_usable(now))
    }

    #[must_use]
    pub fn figures(&self) -> TunnelFigures {
        let sessions = self.receiving.iter().flatten();
        let (arrived, missing) = sessions
            .map(|slot| slot.session.arrived_and_missing())
            .fold(self.former, sum);
        TunnelFigures {
            session_made_at: self.control.current.as_ref().map(|current| current.made_at),
            arrived,
            missing,
        }
    }

    /// Use another preshared key from the next handshake message on; a running handshake included.
    pub fn set_preshared_key(&mut self, preshared_key: PresharedKey) {
        self.config.preshared_key = preshared_key;
    }

    /// Handle an initiation, response or cookie reply that [`crate::Gate::check`] let pass.
    ///
    /// # Errors
    /// The message changed nothing; count it and go on.
    pub fn handle_handshake(&mut self, message: &[u8], now: Instant) -> Result<(), HandshakeError> {
        match classify(message) {
            Some(MessageKind::Initiation) => self.handle_initiation(message, now),
            Some(MessageKind::Response) => self.handle_response(message, now),
            Some(MessageKind::CookieReply) => self.control.macs.handle_reply(message, now),
            Some(MessageKind::Data) | None => Err(HandshakeError::Malformed),
        }
    }

    /// Seal a packet in place: 16 bytes of room, the packet, 16 bytes of room become a data message. An empty packet makes a
    /// keepalive.
    ///
    /// # Errors
    /// [`NoSession`]: drop the packet. If there has been a session, a handshake is started; the first one is the caller's to start.
    ///
    /// # Panics
    /// If `packet` is shorter than the room.
    pub fn seal(&mut self, packet: &mut [u8], now: Instant) -> Result<(), NoSession> {
        assert!(
            packet.len() >= DATA_OVERHEAD,
            "room for header and tag is the caller's to leave"
        );
        let control = &mut self.control;
        let session = self
            .sending
            .as_mut()
            .filter(|session| session.is_usable(now));
        let Some(session) = session else {
            if control.established_before {
                control.rekey_by(now);
            }
            return Err(NoSession);
        };
        session.seal(packet);
        let is_data = packet.len() > DATA_OVERHEAD;
        self.activity.note_sent(is_data, now);
        if session.counter >= REKEY_AFTER_MESSAGES {
            control.rekey_by(now);
        } else if is_data
            && let Some(current) = control.current.as_ref().filter(|current| current.initiated)
        {
            let at = current.rekey_after_sending_at.max(now);
            control.rekey_by(at);
        }
        Ok(())
    }

    /// Open a data message in place and give its plaintext, longer than its IP packet if the peer pads; empty: a keepalive.
    ///
    /// # Errors
    /// The message changed nothing but its buffer, whose content is then undefined.
    pub fn open<'a>(
        &mut self,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Result<&'a mut [u8], OpenError> {
        if classify(datagram) != Some(MessageKind::Data) {
            return Err(OpenError::Malformed);
        }
        let index = u32::from_le_bytes(field(datagram, data::RECEIVER));
        let slot = self.receiving[slot_of(index)]
            .as_mut()
            .filter(|slot| slot.index == index);
        let slot = slot.ok_or(OpenError::UnknownSession)?;
        let plaintext = slot.session.open(datagram, now)?;
        if let Some(unconfirmed) = slot.unconfirmed.take() {
            self.confirm(unconfirmed);
        }
        let is_data = !plaintext.is_empty();
        self.activity.note_received(is_data, now);
        if is_data
            && let Some(current) = self
                .control
                .current
                .as_ref()
                .filter(|current| current.initiated)
        {
            let at = current.rekey_after_receiving_at.max(now);
            self.control.rekey_by(at);
        }
        Ok(plaintext)
    }

    /// Give the next message to send to the peer; `None`: drained.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// Give the next event; `None`: drained.
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        self.events.pop_front()
    }

    /// Say when to call [`Tunnel::handle_timeout`]; an instant in the past means at once, `None` never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let control = &self.control;
        let handshake = match &control.pending {
            Some(pending) => Some(pending.repeat_at.min(pending.give_up_at)),
            None => control.rekey_at,
        };
        let expiry = self
            .receiving
            .iter()
            .flatten()
            .map(|slot| slot.session.expires_at)
            .min();
        [
            control.wipe_at,
            handshake,
            expiry,
            self.keepalive_at(),
            self.silence_ends_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Do what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.control.wipe_at) {
            self.wipe();
            return;
        }
        self.continue_handshake(now);
        let must_renew = self.drop_expired(now);
        if is_due(self.keepalive_at()) {
            self.activity.unanswered_since = None;
            self.send_keepalive(now);
        }
        let must_rekey = is_due(self.control.rekey_at);
        let peer_is_silent = is_due(self.silence_ends_at());
        if peer_is_silent {
            self.activity.silent_since = None;
        }
        if must_renew || must_rekey || peer_is_silent {
            self.initiate(now);
        }
    }

    fn handle_initiation(&mut self, message: &[u8], now: Instant) -> Result<(), HandshakeError> {
        let received = noise::read_initiation(&self.config.keys, &self.context, message)?;
        if self
            .control
            .received_timestamp
            .is_some_and(|greatest| received.timestamp <= greatest)
        {
            return Err(HandshakeError::Replayed);
        }
        self.control.received_timestamp = Some(received.timestamp);
        let index = self.allocate_index();
        let peer_index = field(message, initiation::SENDER);
        let mut answer = [0; RESPONSE_SIZE];
        answer[..4].copy_from_slice(&MessageKind::Response.header());
        answer[response::SENDER].copy_from_slice(&index.to_le_bytes());
        answer[response::RECEIVER].copy_from_slice(&peer_index);
        let ephemeral = self.random_key();
        let keys = noise::respond(
            &self.context,
            &self.config.preshared_key,
            received,
            ephemeral,
            &mut answer,
        )?;
        self.control.macs.write(index, &mut answer, now);
        self.transmits.push_back(answer.to_vec());
        let unconfirmed = self.make_session(index, peer_index, &keys, false, now);
        if let Some(slot) = &mut self.receiving[slot_of(index)] {
            slot.unconfirmed = Some(unconfirmed);
        }
        Ok(())
    }

    fn handle_response(&mut self, message: &[u8], now: Instant) -> Result<(), HandshakeError> {
        let index = u32::from_le_bytes(field(message, response::RECEIVER));
        let attempt = self
            .control
            .pending
            .as_ref()
            .and_then(|pending| pending.attempt.as_ref());
        let attempt = attempt
            .filter(|attempt| attempt.index == index)
            .ok_or(HandshakeError::NotAwaited)?;
        let keys =
            attempt
                .noise
                .read_response(&self.config.keys, &self.config.preshared_key, message)?;
        let derived = self.make_session(index, field(message, response::SENDER), &keys, true, now);
        self.confirm(derived);
        // The peer may send in this session only after it has received in it.
        self.send_keepalive(now);
        Ok(())
    }

    /// Begin to receive in a session; give what sends in it.
    fn make_session(
        &mut self,
        index: u32,
        peer_index: [u8; 4],
        keys: &TransportKeys,
        initiated: bool,
        now: Instant,
    ) -> DerivedSession {
        let mut rng = self.rng();
        let timers = &self.config.timers;
        let expires_at = now + timers.reject_after;
        let stops_at = if initiated {
            now + timers.stop_sealing_after
        } else {
            expires_at
        };
        let jitter = jitter(&mut rng, timers);
        let replaced = self.receiving[slot_of(index)].replace(Box::new(ReceiveSlot {
            index,
            session: ReceiveSession::new(&keys.receive, expires_at),
            unconfirmed: None,
        }));
        if let Some(replaced) = replaced {
            self.former = sum(self.former, replaced.session.arrived_and_missing());
        }
        self.activity.silent_since = None;
        let control = &mut self.control;
        control.silence = timers.silence + jitter;
        control.wipe_at = Some(now + timers.wipe_after);
        control.sessions_made += 1;
        DerivedSession {
            sending: SendSession::new(peer_index, &keys.send, stops_at),
            current: CurrentSession {
                number: control.sessions_made,
                index,
                initiated,
                made_at: now,
                rekey_after_sending_at: now + timers.rekey_after,
                rekey_after_receiving_at: now + timers.rekey_on_receive_after,
            },
        }
    }

    /// The peer holds the keys of this session: send in it, unless we send in a newer one.
    fn confirm(&mut self, derived: DerivedSession) {
        if self
            .control
            .current
            .as_ref()
            .is_some_and(|current| current.number > derived.current.number)
        {
            return;
        }
        self.sending = Some(derived.sending);
        let control = &mut self.control;
        if derived.current.initiated {
            control.pending = None;
        } else if let Some(pending) = &mut control.pending {
            pending.peer_succeeded = true;
        }
        control.current = Some(derived.current);
        control.established_before = true;
        control.rekey_at = None;
        self.events.push_back(TunnelEvent::HandshakeDone);
    }

    fn continue_handshake(&mut self, now: Instant) {
        let Some(pending) = &self.control.pending else {
            return;
        };
        if pending.give_up_at <= now {
            if !pending.peer_succeeded {
                self.events.push_back(TunnelEvent::GaveUp);
            }
            self.control.pending = None;
            // Only new traffic is a reason to try again.
            self.control.rekey_at = None;
            self.activity.silent_since = None;
        } else if pending.repeat_at <= now {
            let (give_up_at, peer_succeeded) = (pending.give_up_at, pending.peer_succeeded);
            self.send_initiation(give_up_at, peer_succeeded, now);
        }
    }

    /// Forget the sessions whose age ends; say whether one of them was current and ours to renew.
    fn drop_expired(&mut self, now: Instant) -> bool {
        let mut must_renew = false;
        for slot in &mut self.receiving {
            let Some(expired) = slot.take_if(|slot| slot.session.expires_at <= now) else {
                continue;
            };
            self.former = sum(self.former, expired.session.arrived_and_missing());
            if let Some(current) = self
                .control
                .current
                .take_if(|current| current.index == expired.index)
            {
                self.sending = None;
                must_renew = current.initiated;
            }
        }
        must_renew
    }

    fn send_initiation(&mut self, give_up_at: Instant, peer_succeeded: bool, now: Instant) {
        let timestamp = self
            .config
            .clock
            .timestamp(now, self.control.sent_timestamp);
        self.control.sent_timestamp = Some(timestamp);
        let index = self.allocate_index();
        let ephemeral = self.random_key();
        let mut message = [0; INITIATION_SIZE];
        message[..4].copy_from_slice(&MessageKind::Initiation.header());
        message[initiation::SENDER].copy_from_slice(&index.to_le_bytes());
        let made = noise::initiate(
            &self.config.keys,
            &self.context,
            ephemeral,
            timestamp,
            &mut message,
        );
        // With a peer whose key is of small order there is nothing to send; the timers then end the attempt as any other.
        let attempt = made.ok().map(|noise| {
            self.control.macs.write(index, &mut message, now);
            self.transmits.push_back(message.to_vec());
            Attempt { index, noise }
        });
        let jitter = jitter(&mut self.rng(), &self.config.timers);
        let repeat_at = now + self.config.timers.rekey_timeout + jitter;
        self.control.pending = Some(Pending {
            attempt,
            repeat_at,
            give_up_at,
            peer_succeeded,
        });
    }

    fn send_keepalive(&mut self, now: Instant) {
        let mut message = vec![0; DATA_OVERHEAD];
        if self.seal(&mut message, now).is_ok() {
            self.transmits.push_back(message);
        }
    }

    fn keepalive_at(&self) -> Option<Instant> {
        self.activity
            .unanswered_since
            .map(|since| since + self.config.timers.keepalive)
    }

    fn silence_ends_at(&self) -> Option<Instant> {
        self.activity
            .silent_since
            .map(|since| since + self.control.silence)
    }

    /// Take the next session index whose slot in the ring is neither the current session's nor the pending initiation's.
    fn allocate_index(&mut self) -> u32 {
        let control = &mut self.control;
        let current = control
            .current
            .as_ref()
            .map(|current| slot_of(current.index));
        let pending = control
            .pending
            .as_ref()
            .and_then(|pending| pending.attempt.as_ref());
        let pending = pending.map(|attempt| slot_of(attempt.index));
        loop {
            control.last_index = control.last_index.wrapping_add(1);
            let slot = Some(slot_of(u32::from(control.last_index)));
            if slot != current && slot != pending {
                return self.config.index << 8 | u32::from(control.last_index);
            }
        }
    }

    fn random_key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        self.rng().fill_bytes(&mut key);
        key
    }

    /// The generator of one drawing, made when it is needed: what one has drawn ahead takes as much room as a session's keys.
    fn rng(&mut self) -> StdRng {
        let mut rng = StdRng::from_seed(self.config.seed);
        rng.fill_bytes(&mut self.config.seed);
        rng
    }

    fn wipe(&mut self) {
        let figures = self.figures();
        self.former = (figures.arrived, figures.missing);
        self.sending = None;
        self.receiving = [const { None }; SESSIONS_PER_TUNNEL];
        self.activity = Activity::default();
        self.control.macs.clear();
        self.control.pending = None;
        self.control.current = None;
        self.control.established_before = false;
        self.control.rekey_at = None;
        self.control.wipe_at = None;
        self.events.push_back(TunnelEvent::SessionsExpired);
    }
}

/// What handshakes and timers know; the data path only notes in it when to rekey.
struct Control {
    macs: MacWriter,
    pending: Option<Pending>,
    current: Option<CurrentSession>,
    /// Whether a session ever became current, since the last wipe.
    established_before: bool,
    /// When traffic asks for the handshake that replaces the current session; `None`: it does not yet.
    rekey_at: Option<Instant>,
    sessions_made: u64,
    /// The lower 8 bits of the session index allocated last.
    last_index: u8,
    sent_timestamp: Option<Timestamp>,
    /// The greatest one of the peer; outlives all sessions.
    received_timestamp: Option<Timestamp>,
    /// `Timers::silence` with this session's jitter.
    silence: Duration,
    wipe_at: Option<Instant>,
}

impl Control {
    fn rekey_by(&mut self, at: Instant) {
        if self.rekey_at.is_none_or(|planned| at < planned) {
            self.rekey_at = Some(at);
        }
    }
}

/// A running handshake of ours.
struct Pending {
    attempt: Option<Attempt>,
    repeat_at: Instant,
    give_up_at: Instant,
    /// Meanwhile a session that the peer initiated was confirmed.
    peer_succeeded: bool,
}

struct Attempt {
    index: u32,
    noise: PendingInitiation,
}

/// The session that we send in.
struct CurrentSession {
    number: u64,
    index: u32,
    initiated: bool,
    made_at: Instant,
    rekey_after_sending_at: Instant,
    rekey_after_receiving_at: Instant,
}

struct DerivedSession {
    sending: SendSession,
    current: CurrentSession,
}

struct ReceiveSlot {
    index: u32,
    session: ReceiveSession,
    /// Until the peer's first data message.
    unconfirmed: Option<DerivedSession>,
}

/// Traffic that waits for an answer, in each direction. Both count from the *first* such message: counted from the last one, a
/// steady flow would never be answered and would hide a dead peer; counted from our last own message, data after a pause would
/// be answered at once.
#[derive(Default)]
struct Activity {
    /// Data received, nothing sent since. Keepalives are no data, so none is answered by another.
    unanswered_since: Option<Instant>,
    /// Data sent, nothing received since.
    silent_since: Option<Instant>,
}

impl Activity {
    fn note_sent(&mut self, is_data: bool, now: Instant) {
        self.unanswered_since = None;
        if is_data {
            self.silent_since.get_or_insert(now);
        }
    }

    fn note_received(&mut self, is_data: bool, now: Instant) {
        self.silent_since = None;
        if is_data {
            self.unanswered_since.get_or_insert(now);
        }
    }
}

/// A peer chooses the numbers of its messages.
fn sum((arrived, missing): (u64, u64), more: (u64, u64)) -> (u64, u64) {
    (
        arrived.saturating_add(more.0),
        missing.saturating_add(more.1),
    )
}

fn slot_of(index: u32) -> usize {
    index as usize % SESSIONS_PER_TUNNEL
}

fn jitter(rng: &mut StdRng, timers: &Timers) -> Duration {
    rng.random_range(Duration::ZERO..=timers.jitter_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PrivateKey;
    use crate::session::REJECT_AFTER_MESSAGES;
    use crate::testing::epoch;

    #[test]
    fn either_end_of_a_session_replaces_it_after_its_messages_and_seals_none_above_the_limit() {
        for initiated in [true, false] {
            let now = epoch();
            let [mut initiator, mut responder] = established_pair(now);
            let tunnel = if initiated {
                &mut initiator
            } else {
                &mut responder
            };
            tunnel.sending.as_mut().unwrap().counter = REKEY_AFTER_MESSAGES - 1;
            tunnel.seal(&mut [0; DATA_OVERHEAD], now).unwrap();
            assert_eq!(tunnel.poll_timeout(), Some(now));
            tunnel.handle_timeout(now);
            assert!(tunnel.is_handshaking());
            tunnel.sending.as_mut().unwrap().counter = REJECT_AFTER_MESSAGES;
            assert_eq!(tunnel.seal(&mut [0; DATA_OVERHEAD], now), Err(NoSession));
        }
    }

    #[test]
    fn missing_messages_are_counted_over_all_sessions_and_late_ones_are_not_missing() {
        let now = epoch();
        let [mut sender, mut receiver] = established_pair(now);
        let before = receiver.figures();
        assert_eq!(before.session_made_at, Some(now));
        let mut messages = [[0; DATA_OVERHEAD + 1]; 5];
        for message in &mut messages {
            sender.seal(message, now).unwrap();
        }
        for index in [0, 4, 2] {
            receiver.open(&mut messages[index], now).unwrap();
        }
        let counted = |figures: TunnelFigures| (figures.arrived - before.arrived, figures.missing);
        assert_eq!(counted(receiver.figures()), (3, 2));
        receiver.open(&mut messages[1], now).unwrap();
        assert_eq!(counted(receiver.figures()), (4, 1));
        receiver.wipe();
        assert_eq!(counted(receiver.figures()), (4, 1));
        assert_eq!(receiver.figures().session_made_at, None);
    }

    #[test]
    fn wiping_leaves_no_key() {
        let now = epoch();
        let [mut tunnel, _] = established_pair(now);
        tunnel.initiate(now);
        tunnel.wipe();
        assert!(tunnel.sending.is_none() && tunnel.control.pending.is_none());
        assert!(tunnel.receiving.iter().all(Option::is_none));
        assert_eq!(tunnel.poll_timeout(), None);
    }

    #[test]
    fn indices_avoid_the_slots_of_the_current_session_and_the_pending_initiation() {
        let now = epoch();
        let [mut tunnel, _] = established_pair(now);
        tunnel.initiate(now);
        let current = slot_of(tunnel.control.current.as_ref().unwrap().index);
        let pending = slot_of(
            tunnel
                .control
                .pending
                .as_ref()
                .unwrap()
                .attempt
                .as_ref()
                .unwrap()
                .index,
        );
        for _ in 0..300 {
            let slot = slot_of(tunnel.allocate_index());
            assert!(slot != current && slot != pending);
        }
    }

    fn established_pair(now: Instant) -> [Tunnel; 2] {
        let keys = [1, 2].map(|byte| Arc::new(Keys::new(PrivateKey::new([byte; 32]))));
        let mut pair = [0, 1].map(|side: usize| {
            let config = TunnelConfig {
                keys: keys[side].clone(),
                peer: keys[1 - side].public,
                preshared_key: PresharedKey::new([3; 32]),
                index: 5,
                timers: Timers::CLASSIC,
                seed: [side as u8; 32],
                clock: TimestampClock::new(now, Duration::ZERO),
            };
            Tunnel::new(config, now)
        });
        let [initiator, responder] = &mut pair;
        initiator.initiate(now);
        responder
            .handle_handshake(&initiator.poll_transmit().unwrap(), now)
            .unwrap();
        initiator
            .handle_handshake(&responder.poll_transmit().unwrap(), now)
            .unwrap();
        assert!(
            responder
                .open(&mut initiator.poll_transmit().unwrap(), now)
                .unwrap()
                .is_empty()
        );
        pair
    }
}
