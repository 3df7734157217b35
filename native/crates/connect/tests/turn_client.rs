//! One node and one relay, answered by hand: every request, its bytes and its moment.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::relay::Relay;
use support::world::PEER;
use support::{address, client_config, origin, relay_config};
use wardgate_connect::{Inbound, LossReason, Node, NodeEvent, Transmit};
use wardgate_stun::{
    AttributeType, Class, Integrity, IntegrityKey, Message, MessageBuilder, Method, TransactionId,
    channel_header,
};

const RELAY: &str = "192.0.2.1:3478";
const LOCAL: &str = "10.0.0.2:52625";
const MAPPED: &str = "198.51.100.1:20001";
const RELAYED: &str = "192.0.2.1:50001";
const PEER_SALT: &str = "peer";
const FAR: &str = "203.0.113.9:52625";
const SOFTWARE: AttributeType = AttributeType::SOFTWARE;

/// A node that knows one relay, and the relay's pen.
struct Desk {
    node: Node<u32>,
    start: Instant,
    now: Instant,
}

struct Asked {
    at: Duration,
    bytes: Vec<u8>,
    remote: SocketAddr,
}

impl Asked {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    fn method(&self) -> Method {
        self.message().method()
    }

    fn attributes(&self) -> Vec<AttributeType> {
        self.message().attributes().map(|(kind, _)| kind).collect()
    }
}

fn key() -> IntegrityKey {
    let (username, password) = Relay::credentials(PEER_SALT);
    IntegrityKey::long_term(&username, "firezone", &password)
}

impl Desk {
    fn new(addresses: &[&str]) -> Self {
        let start = origin();
        let mut node = Node::new([3; 32]);
        node.set_relays(
            vec![relay_config(1, addresses, PEER_SALT)],
            &[],
            false,
            start,
        );
        Self {
            node,
            start,
            now: start,
        }
    }

    /// Up to the granted allocation.
    fn granted() -> Self {
        let mut desk = Self::new(&[RELAY]);
        let binding = desk.next();
        desk.mapped(&binding);
        let allocate = desk.next();
        desk.error(&allocate, 401, "nonce-1");
        let allocate = desk.next();
        desk.grant(&allocate);
        desk
    }

    /// With a peer that was told about `FAR`, hence with a bind request in flight.
    fn binding() -> (Self, Asked) {
        let mut desk = Self::granted();
        desk.node
            .upsert_peer(PEER, client_config(), desk.now)
            .unwrap();
        let far =
            "candidate:1 1 udp 7 203.0.113.9 52625 typ relay raddr 0.0.0.0 rport 0 ufrag gate";
        assert!(desk.node.add_remote_candidate(PEER, far, desk.now));
        let bind = desk
            .requests()
            .into_iter()
            .find(|asked| asked.method() == Method::CHANNEL_BIND)
            .unwrap();
        (desk, bind)
    }

    fn requests(&mut self) -> Vec<Asked> {
        let at = self.now - self.start;
        let to_relay =
            |transmit: &Transmit| transmit.remote.port() == 3478 && transmit.payload[0] < 4;
        std::iter::from_fn(|| self.node.poll_transmit())
            .filter(to_relay)
            .map(|transmit| Asked {
                at,
                bytes: transmit.payload,
                remote: transmit.remote,
            })
            .collect()
    }

    /// The only request that waits to be sent.
    fn next(&mut self) -> Asked {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    /// Let time pass until `end` (since the start); what was asked meanwhile.
    fn until(&mut self, end: f64) -> Vec<Asked> {
        let end = self.start + Duration::from_secs_f64(end);
        let mut asked = self.requests();
        while let Some(due) = self.node.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.node.handle_timeout(self.now);
            asked.extend(self.requests());
        }
        self.now = end;
        asked
    }

    /// The first REFRESH; keepalives before it are answered.
    fn refresh_due(&mut self) -> Asked {
        for second in 1..=300 {
            for asked in self.until(f64::from(second)) {
                if asked.method() == Method::REFRESH {
                    return asked;
                }
                self.mapped(&asked);
            }
        }
        panic!("no REFRESH in 300 s");
    }

    fn events(&mut self) -> Vec<NodeEvent<u32>> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }

    fn answer(&mut self, asked: &Asked, payload: &[u8]) {
        let inbound = self
            .node
            .handle_datagram(asked.remote, address(LOCAL), payload, self.now);
        assert_eq!(inbound, Inbound::Consumed);
    }

    fn mapped(&mut self, asked: &Asked) {
        let success = MessageBuilder::new(
            Class::Success,
            Method::BINDING,
            asked.message().transaction_id(),
        );
        self.answer(asked, &success.xor_mapped_address(address(MAPPED)).finish());
    }

    fn success(&self, asked: &Asked) -> MessageBuilder {
        MessageBuilder::new(
            Class::Success,
            asked.method(),
            asked.message().transaction_id(),
        )
    }

    fn grant(&mut self, asked: &Asked) {
        assert_eq!(asked.method(), Method::ALLOCATE);
        let success = self
            .success(asked)
            .xor_relayed_address(address(RELAYED))
            .lifetime(600)
            .sign(&key())
            .finish();
        self.answer(asked, &success);
    }

    fn accept(&mut self, asked: &Asked) {
        let success = self.success(asked).sign(&key()).finish();
        self.answer(asked, &success);
    }

    fn error(&mut self, asked: &Asked, code: u16, nonce: &str) {
        let error = MessageBuilder::new(
            Class::Error,
            asked.method(),
            asked.message().transaction_id(),
        );
        let error = error.error_code(code, "no").realm("firezone").nonce(nonce);
        self.answer(asked, &error.sign(&key()).finish());
    }
}

fn lost(reason: LossReason) -> Vec<NodeEvent<u32>> {
    vec![
        NodeEvent::RelayLost { relay: 1, reason },
        NodeEvent::NoRelays,
    ]
}

fn times(asked: &[Asked]) -> Vec<f64> {
    asked.iter().map(|asked| asked.at.as_secs_f64()).collect()
}

#[test]
fn both_families_are_asked_and_the_first_answer_wins() {
    let mut desk = Desk::new(&[RELAY, "[2001:db8::1]:3478", "192.0.2.77:3478"]);
    let asked = desk.requests();
    let remotes: Vec<SocketAddr> = asked.iter().map(|asked| asked.remote).collect();
    assert_eq!(remotes, [address(RELAY), address("[2001:db8::1]:3478")]);
    assert!(asked.iter().all(|asked| asked.attributes() == [SOFTWARE]));
    assert_eq!(asked[0].message().software(), Some("snownet"));
    let success = desk
        .success(&asked[1])
        .xor_mapped_address(address("[2001:db8:1::2]:52625"))
        .finish();
    let local = address("[2001:db8:1::2]:52625");
    desk.node
        .handle_datagram(asked[1].remote, local, &success, desk.now);
    let allocate = desk.next();
    assert_eq!(
        (allocate.method(), allocate.remote),
        (Method::ALLOCATE, address("[2001:db8::1]:3478"))
    );
    // The other family's answer adds its candidates and nothing else.
    desk.mapped(&asked[0]);
    assert!(desk.requests().is_empty());
}

#[test]
fn requests_carry_the_attributes_that_relays_expect_in_their_order() {
    use AttributeType as A;
    let described = [
        A::REQUESTED_TRANSPORT,
        A::ADDITIONAL_ADDRESS_FAMILY,
        A::SOFTWARE,
        A::USERNAME,
        A::REALM,
    ];
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let first = desk.next();
    assert_eq!(
        first.attributes(),
        [&described[..], &[A::MESSAGE_INTEGRITY]].concat()
    );
    desk.error(&first, 401, "nonce-1");
    let second = desk.next();
    assert_eq!(
        second.attributes(),
        [&described[..], &[A::NONCE, A::MESSAGE_INTEGRITY]].concat()
    );
    assert_eq!(second.message().nonce(), Some("nonce-1"));
    assert_eq!(second.message().integrity(&key()), Integrity::Valid);
    let (_, bind) = Desk::binding();
    assert_eq!(
        bind.attributes(),
        [
            A::XOR_PEER_ADDRESS,
            A::CHANNEL_NUMBER,
            A::SOFTWARE,
            A::USERNAME,
            A::REALM,
            A::NONCE,
            A::MESSAGE_INTEGRITY
        ]
    );
    assert_eq!(bind.message().xor_peer_address(), Some(address(FAR)));
    assert_eq!(bind.message().channel_number(), Some(0x4000));
}

#[test]
fn a_granted_allocation_is_reported_with_its_round_trip() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.now += Duration::from_millis(80);
    desk.mapped(&binding);
    let allocate = desk.next();
    desk.now += Duration::from_millis(160);
    desk.grant(&allocate);
    // (7 × 80 + 160) / 8
    assert_eq!(
        desk.events(),
        [NodeEvent::RelayUp {
            relay: 1,
            rtt: Duration::from_millis(90)
        }]
    );
}

#[test]
fn a_silent_relay_is_asked_four_times_and_given_up() {
    let mut desk = Desk::new(&[RELAY]);
    let asked = desk.until(8.12);
    assert_eq!(times(&asked), [0.0, 1.0, 2.5, 4.75]);
    assert!(asked.iter().all(|again| again.bytes == asked[0].bytes));
    assert!(desk.events().is_empty());
    desk.until(8.125);
    assert_eq!(desk.events(), lost(LossReason::NoResponse));
}

#[test]
fn a_repeated_authenticated_request_gets_a_new_transaction_and_any_answer_counts() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let asked = desk.until(2.5);
    assert_eq!(times(&asked), [0.0, 1.0, 2.5]);
    assert_ne!(
        asked[0].message().transaction_id(),
        asked[1].message().transaction_id()
    );
    desk.grant(&asked[0]);
    assert!(matches!(desk.events()[..], [NodeEvent::RelayUp { .. }]));
}

#[test]
fn an_unanswered_request_on_the_socket_in_use_loses_the_relay() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    desk.until(9.0);
    assert_eq!(desk.events(), lost(LossReason::TimedOut));
}

#[test]
fn unsigned_answers_are_as_good_as_none() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let allocate = desk.next();
    let unsigned = MessageBuilder::new(
        Class::Error,
        Method::ALLOCATE,
        allocate.message().transaction_id(),
    );
    let unsigned = unsigned
        .error_code(401, "no")
        .realm("firezone")
        .nonce("nonce-1")
        .finish();
    desk.answer(&allocate, &unsigned);
    let unsigned = desk
        .success(&allocate)
        .xor_relayed_address(address(RELAYED))
        .lifetime(600)
        .finish();
    desk.answer(&allocate, &unsigned);
    assert!(desk.events().is_empty() && desk.requests().is_empty());
}

#[test]
fn answers_from_elsewhere_or_to_nothing_are_ignored() {
    let mut desk = Desk::new(&[RELAY, "[2001:db8::1]:3478"]);
    let asked = desk.requests();
    let success = desk
        .success(&asked[0])
        .xor_mapped_address(address(MAPPED))
        .finish();
    let other = MessageBuilder::new(Class::Success, Method::BINDING, TransactionId([9; 12]));
    let other = other.xor_mapped_address(address(MAPPED)).finish();
    desk.node.handle_datagram(
        asked[1].remote,
        address("[2001:db8:1::2]:52625"),
        &success,
        desk.now,
    );
    desk.node
        .handle_datagram(asked[0].remote, address(LOCAL), &other, desk.now);
    assert!(desk.requests().is_empty());
}

#[test]
fn a_stale_nonce_is_replaced_and_a_wrong_password_is_fatal() {
    let mut desk = Desk::granted();
    desk.events();
    let refresh = desk.refresh_due();
    desk.error(&refresh, 438, "nonce-2");
    let refresh = desk.next();
    assert_eq!(refresh.message().nonce(), Some("nonce-2"));
    desk.error(&refresh, 401, "nonce-3");
    assert_eq!(desk.events(), lost(LossReason::AuthenticationFailed));
}

#[test]
fn a_relay_of_another_realm_gets_no_signature() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let allocate = desk.next();
    let error = MessageBuilder::new(
        Class::Error,
        Method::ALLOCATE,
        allocate.message().transaction_id(),
    );
    let error = error
        .error_code(401, "no")
        .realm("elsewhere")
        .nonce("nonce-1")
        .sign(&key())
        .finish();
    desk.answer(&allocate, &error);
    assert!(desk.requests().is_empty());
}

#[test]
fn a_relay_that_renews_its_nonce_for_ever_is_given_up() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    for round in 0..5 {
        let allocate = desk.next();
        desk.error(&allocate, 438, &format!("nonce-{round}"));
    }
    assert_eq!(desk.events(), lost(LossReason::ProtocolFailure));
}

#[test]
fn an_allocation_left_over_is_deleted_and_made_anew() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let allocate = desk.next();
    desk.error(&allocate, 401, "nonce-1");
    let allocate = desk.next();
    desk.error(&allocate, 437, "nonce-1");
    let delete = desk.next();
    assert_eq!(
        (delete.method(), delete.message().lifetime()),
        (Method::REFRESH, Some(0))
    );
    use AttributeType as A;
    assert_eq!(
        delete.attributes()[..4],
        [
            A::REQUESTED_TRANSPORT,
            A::ADDITIONAL_ADDRESS_FAMILY,
            A::SOFTWARE,
            A::LIFETIME
        ]
    );
    let success = desk.success(&delete).lifetime(0).sign(&key()).finish();
    desk.answer(&delete, &success);
    let allocate = desk.next();
    desk.grant(&allocate);
    assert!(matches!(desk.events()[..], [NodeEvent::RelayUp { .. }]));
}

#[test]
fn mismatches_without_end_do_not_loop_without_end() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let mut rounds = 0;
    while let Some(asked) = desk.requests().pop() {
        desk.error(&asked, 437, "nonce-1");
        rounds += 1;
        assert!(rounds < 10);
    }
    assert_eq!(desk.events(), lost(LossReason::ProtocolFailure));
}

#[test]
fn allocations_that_vanish_again_and_again_are_not_made_again_and_again() {
    let (mut desk, bind) = Desk::binding();
    desk.events();
    let mut bind = Some(bind);
    let mut allocations = 0;
    while let Some(asked) = bind.take() {
        desk.error(&asked, 437, "nonce-1");
        for asked in desk.requests() {
            assert_eq!(asked.method(), Method::ALLOCATE);
            desk.grant(&asked);
            allocations += 1;
        }
        assert!(allocations < 5);
        bind = desk
            .requests()
            .into_iter()
            .find(|asked| asked.method() == Method::CHANNEL_BIND);
    }
    assert!(allocations > 1);
    let events = desk.events();
    assert!(
        lost(LossReason::ProtocolFailure)
            .iter()
            .all(|event| events.contains(event))
    );
}

#[test]
fn a_demand_for_unknown_extensions_is_fatal() {
    let mut desk = Desk::new(&[RELAY]);
    let binding = desk.next();
    desk.mapped(&binding);
    let allocate = desk.next();
    desk.error(&allocate, 420, "nonce-1");
    assert_eq!(desk.events(), lost(LossReason::ProtocolFailure));
}

#[test]
fn the_allocation_is_refreshed_at_half_its_lifetime_and_kept_alive_between() {
    let mut desk = Desk::granted();
    let mut refreshes = Vec::new();
    let mut bindings = Vec::new();
    for step in 1..=310 {
        for asked in desk.until(f64::from(step)) {
            match asked.method() {
                Method::BINDING => {
                    desk.mapped(&asked);
                    bindings.push(asked.at.as_secs());
                }
                _ => {
                    assert_eq!(
                        (asked.method(), asked.message().lifetime()),
                        (Method::REFRESH, None)
                    );
                    let success = desk.success(&asked).lifetime(600).sign(&key()).finish();
                    desk.answer(&asked, &success);
                    refreshes.push(asked.at.as_secs());
                }
            }
        }
    }
    assert_eq!(refreshes, [300]);
    assert_eq!(bindings, (1..=12).map(|n| n * 25).collect::<Vec<_>>());
}

#[test]
fn channel_data_postpones_the_keepalive_while_it_is_answered() {
    let (mut desk, bind) = Desk::binding();
    desk.accept(&bind);
    for step in 1..=60 {
        let asked = desk.until(f64::from(step));
        assert!(
            asked.iter().all(|asked| asked.method() != Method::BINDING),
            "{step}"
        );
        desk.node.note_relayed(1, desk.now);
        let mut data = channel_header(0x4000, 4).to_vec();
        data.extend_from_slice(&[4, 0, 0, 0]);
        desk.node
            .handle_datagram(address(RELAY), address(LOCAL), &data, desk.now);
    }
}

#[test]
fn channel_data_that_nothing_answers_has_the_relay_asked() {
    let mut desk = Desk::granted();
    desk.events();
    desk.node.note_relayed(1, desk.now);
    let asked = desk.until(3.1);
    assert_eq!(times(&asked), [2.0, 2.3, 2.6, 2.9]);
    assert!(asked.iter().all(|asked| asked.method() == Method::REFRESH));
    desk.until(3.3);
    assert_eq!(desk.events(), lost(LossReason::TimedOut));
}

#[test]
fn a_relay_that_answers_the_question_stays() {
    let mut desk = Desk::granted();
    desk.events();
    desk.node.note_relayed(1, desk.now);
    let asked = desk.until(2.0).pop().unwrap();
    desk.accept(&asked);
    desk.until(20.0);
    assert!(desk.events().is_empty());
}

#[test]
fn what_comes_in_on_a_channel_is_unwrapped() {
    let (mut desk, bind) = Desk::binding();
    desk.accept(&bind);
    let mut data = channel_header(0x4000, 4).to_vec();
    data.extend_from_slice(&[4, 0, 0, 0]);
    let inbound = desk
        .node
        .handle_datagram(address(RELAY), address(LOCAL), &data, desk.now);
    assert_eq!(
        inbound,
        Inbound::Wireguard {
            from: address(FAR),
            local: address(RELAYED),
            offset: 4
        }
    );
    let path = desk.node.route(address(RELAYED), address(FAR)).unwrap();
    assert_eq!(
        (path.channel, path.send_to, path.local),
        (Some(0x4000), address(RELAY), Some(address(LOCAL)))
    );
    data[1] = 1;
    assert_eq!(
        desk.node
            .handle_datagram(address(RELAY), address(LOCAL), &data, desk.now),
        Inbound::Consumed
    );
}

#[test]
fn only_an_exact_length_makes_channel_data() {
    let (mut desk, _) = Desk::binding();
    let mut data = channel_header(0x4000, 3).to_vec();
    data.extend_from_slice(&[4, 0, 0, 0]);
    let inbound = desk
        .node
        .handle_datagram(address(RELAY), address(LOCAL), &data, desk.now);
    assert_eq!(
        inbound,
        Inbound::Wireguard {
            from: address(RELAY),
            local: address(LOCAL),
            offset: 0
        }
    );
}

#[test]
fn a_bind_answered_with_no_allocation_allocates_and_binds_anew() {
    let (mut desk, bind) = Desk::binding();
    desk.error(&bind, 437, "nonce-1");
    let allocate = desk.next();
    desk.grant(&allocate);
    let binds: Vec<Asked> = desk.requests();
    assert!(
        binds
            .iter()
            .any(|asked| asked.message().xor_peer_address() == Some(address(FAR)))
    );
}

#[test]
fn a_refused_bind_is_not_repeated_with_every_check() {
    let (mut desk, bind) = Desk::binding();
    desk.error(&bind, 403, "nonce-1");
    let again = desk.until(9.0);
    assert!(
        again
            .iter()
            .all(|asked| asked.method() != Method::CHANNEL_BIND)
    );
}

/// A gateway's relay has 4,096 numbers for all of its clients.
#[test]
fn a_peer_that_announces_addresses_without_end_takes_its_share_of_channels() {
    let mut desk = Desk::granted();
    let announced = |desk: &mut Desk, peer: u32, port: u32, addresses: u32| {
        desk.node.remove_peer(peer);
        desk.node
            .upsert_peer(peer, client_config(), desk.now)
            .unwrap();
        for n in 0..addresses {
            let (high, low) = (n >> 8, n & 255);
            let far = format!(
                "candidate:1 1 udp 7 203.0.{high}.{low} {port} typ relay raddr 0.0.0.0 rport 0 ufrag gate"
            );
            assert!(desk.node.add_remote_candidate(peer, &far, desk.now));
            assert!(desk.node.remove_remote_candidate(peer, &far, desk.now));
            if n % 100 == 99 {
                desk.node.remove_peer(peer);
                desk.node
                    .upsert_peer(peer, client_config(), desk.now)
                    .unwrap();
            }
        }
        let asked = desk.requests().into_iter();
        asked
            .filter(|asked| asked.method() == Method::CHANNEL_BIND)
            .count()
    };
    assert_eq!(announced(&mut desk, PEER, 1, 300), 64);
    assert_eq!(announced(&mut desk, PEER + 1, 2, 10), 10);
    desk.now += Duration::from_secs(899);
    assert_eq!(announced(&mut desk, PEER, 3, 10), 0);
    desk.now += Duration::from_secs(1);
    assert_eq!(announced(&mut desk, PEER, 4, 10), 10);
}

#[test]
fn a_changed_relay_list_has_the_others_asked_and_an_equal_one_does_not() {
    let mut desk = Desk::granted();
    desk.events();
    desk.node.set_relays(
        vec![relay_config(1, &[RELAY], PEER_SALT)],
        &[],
        true,
        desk.now,
    );
    assert!(desk.requests().is_empty());
    desk.node.set_relays(
        vec![relay_config(2, &["192.0.2.2:3478"], PEER_SALT)],
        &[],
        false,
        desk.now,
    );
    let asked = desk.requests();
    let methods: Vec<(Method, SocketAddr)> = asked
        .iter()
        .map(|asked| (asked.method(), asked.remote))
        .collect();
    assert!(methods.contains(&(Method::REFRESH, address(RELAY))));
    assert!(methods.contains(&(Method::BINDING, address("192.0.2.2:3478"))));
    desk.until(1.3);
    assert_eq!(
        desk.events(),
        [NodeEvent::RelayLost {
            relay: 1,
            reason: LossReason::TimedOut
        }]
    );
}

#[test]
fn replacing_the_list_drops_relays_silently_and_their_late_answers_too() {
    let mut desk = Desk::granted();
    desk.events();
    desk.node.set_relays(Vec::new(), &[], true, desk.now);
    assert!(desk.events().is_empty());
    assert_eq!(desk.node.poll_timeout(), None);
    let mut data = channel_header(0x4000, 4).to_vec();
    data.extend_from_slice(&[4, 0, 0, 0]);
    assert_eq!(
        desk.node
            .handle_datagram(address(RELAY), address(LOCAL), &data, desk.now),
        Inbound::Consumed
    );
}

#[test]
fn a_peer_may_sit_behind_the_relay_port() {
    let mut desk = Desk::granted();
    let message = [4, 0, 0, 0, 1, 0, 0, 0];
    for from in ["203.0.113.5:3478", RELAY] {
        let inbound = desk
            .node
            .handle_datagram(address(from), address(LOCAL), &message, desk.now);
        assert_eq!(
            inbound,
            Inbound::Wireguard {
                from: address(from),
                local: address(LOCAL),
                offset: 0
            }
        );
    }
}
