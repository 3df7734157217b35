//! The bounded queue of events.
//!
//! What only prompts Python to act, and what traffic will prompt again, is dropped when too much of it waits, of one peer or
//! in all. Facts are never dropped: a newer fact about the same peer or relay takes the place of an older one, so the
//! number of peers, relays and grants bounds them. What an event costs does not grow with what waits of others.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Event;

use super::steps;

/// Intents, control packets and prohibitions that may wait, of all peers and resources together; ours.
const MAX_PROMPTS: usize = 16_384;
/// Of those, about one peer or one resource; ours.
const MAX_PROMPTS_OF_ONE: usize = 256;

#[derive(Debug, Default)]
pub struct EventQueue {
    /// By their number, which only grows.
    events: BTreeMap<u64, Event>,
    last: u64,
    about: BTreeMap<Subject, About>,
    prompts: usize,
    dropped: u64,
}

/// Whom or what an event is about; those of one subject join or take each other's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// A peer's connection; grants are no part of it.
    Peer(String),
    Relay(String),
    Resource(String),
    Relays,
}

/// Which events wait about a subject.
#[derive(Debug, Default)]
struct About {
    all: BTreeSet<u64>,
    prompts: usize,
    path_selected: Option<u64>,
}

impl EventQueue {
    pub fn push(&mut self, event: Event) {
        let Some(subject) = subject_of(&event) else {
            self.last += 1;
            self.events.insert(self.last, event);
            return;
        };
        if is_prompt(&event) {
            if !self.has_room(&subject) {
                self.dropped += 1;
                return;
            }
            if self.waits(&subject, &event) {
                return;
            }
        } else if self.merges_candidates(&subject, &event) {
            return;
        } else {
            self.drop_superseded(&subject, &event);
        }
        self.last += 1;
        let about = self.about.entry(subject).or_default();
        about.all.insert(self.last);
        if is_prompt(&event) {
            about.prompts += 1;
            self.prompts += 1;
        }
        if matches!(event, Event::PathSelected { .. }) {
            about.path_selected = Some(self.last);
        }
        self.events.insert(self.last, event);
    }

    pub fn pop(&mut self) -> Option<Event> {
        let number = *self.events.first_key_value()?.0;
        self.remove(number)
    }

    /// Prompts dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn has_room(&self, subject: &Subject) -> bool {
        let of_one = self.about.get(subject).map_or(0, |about| about.prompts);
        of_one < MAX_PROMPTS_OF_ONE && self.prompts < MAX_PROMPTS
    }

    fn waits(&self, subject: &Subject, event: &Event) -> bool {
        self.about.get(subject).is_some_and(|about| {
            about.all.iter().any(|number| {
                steps::count(1);
                self.events.get(number) == Some(event)
            })
        })
    }

    /// Join candidates with those of the same peer if they are the latest news about it.
    fn merges_candidates(&mut self, subject: &Subject, event: &Event) -> bool {
        let latest = self.about.get(subject).and_then(|about| about.all.last());
        let latest = latest.and_then(|number| self.events.get_mut(number));
        match (latest, event) {
            (
                Some(Event::LocalCandidatesAdded { candidates, .. }),
                Event::LocalCandidatesAdded {
                    candidates: more, ..
                },
            )
            | (
                Some(Event::LocalCandidatesRemoved { candidates, .. }),
                Event::LocalCandidatesRemoved {
                    candidates: more, ..
                },
            ) => {
                for candidate in more {
                    if !candidates.contains(candidate) {
                        candidates.push(candidate.clone());
                    }
                }
                true
            }
            _ => false,
        }
    }

    fn drop_superseded(&mut self, subject: &Subject, event: &Event) {
        let Some(about) = self.about.get(subject) else {
            return;
        };
        let superseded: Vec<u64> = match event {
            Event::PathSelected { .. } => about.path_selected.into_iter().collect(),
            Event::PeerFailed { .. }
            | Event::PeerClosed { .. }
            | Event::RelayUp { .. }
            | Event::RelayLost { .. } => about.all.iter().copied().collect(),
            _ => return,
        };
        steps::count(superseded.len());
        for number in superseded {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Event> {
        let event = self.events.remove(&number)?;
        let Some(subject) = subject_of(&event) else {
            return Some(event);
        };
        let Some(about) = self.about.get_mut(&subject) else {
            return Some(event);
        };
        about.all.remove(&number);
        if is_prompt(&event) {
            about.prompts -= 1;
            self.prompts -= 1;
        }
        if about.path_selected == Some(number) {
            about.path_selected = None;
        }
        if about.all.is_empty() {
            self.about.remove(&subject);
        }
        Some(event)
    }
}

fn is_prompt(event: &Event) -> bool {
    matches!(
        event,
        Event::Intent { .. }
            | Event::ControlPacket { .. }
            | Event::AccessProhibited { .. }
            | Event::NoRelays { .. }
    )
}

fn subject_of(event: &Event) -> Option<Subject> {
    match event {
        Event::LocalCandidatesAdded { peer_id, .. }
        | Event::LocalCandidatesRemoved { peer_id, .. }
        | Event::PathSelected { peer_id, .. }
        | Event::HandshakeDone { peer_id, .. }
        | Event::PeerFailed { peer_id, .. }
        | Event::PeerClosed { peer_id, .. }
        | Event::ControlPacket { peer_id, .. }
        | Event::AccessProhibited { peer_id, .. } => Some(Subject::Peer(peer_id.clone())),
        Event::RelayUp { relay_id, .. } | Event::RelayLost { relay_id, .. } => {
            Some(Subject::Relay(relay_id.clone()))
        }
        Event::Intent { resource_id, .. } => Some(Subject::Resource(resource_id.clone())),
        Event::NoRelays { .. } => Some(Subject::Relays),
        Event::GrantExpired { .. } | Event::FlowsReported { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Table;
    use crate::event::{ClosedBy, FailureReason};

    fn intent(resource: usize) -> Event {
        Event::Intent {
            resource_id: resource.to_string(),
            destination: [10, 0, 0, 1].into(),
            table: Table::Cidr,
        }
    }

    fn added(candidates: &[&str]) -> Event {
        Event::LocalCandidatesAdded {
            peer_id: "g".into(),
            candidates: candidates.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn drain(queue: &mut EventQueue) -> Vec<Event> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn intents_beyond_the_bound_are_dropped_and_counted() {
        let mut queue = EventQueue::default();
        for resource in 0..MAX_PROMPTS + 3 {
            queue.push(intent(resource));
        }
        assert_eq!(queue.dropped(), 3);
        assert_eq!(drain(&mut queue).len(), MAX_PROMPTS);
        queue.push(intent(0));
        assert_eq!(drain(&mut queue), [intent(0)]);
    }

    fn control(peer: &str, number: usize) -> Event {
        Event::ControlPacket {
            peer_id: peer.into(),
            kind: 0,
            payload: number.to_string(),
        }
    }

    #[test]
    fn one_peers_control_packets_leave_room_for_those_of_others() {
        let mut queue = EventQueue::default();
        for number in 0..MAX_PROMPTS {
            queue.push(control("loud", number));
        }
        queue.push(control("quiet", 0));
        queue.push(control("quiet", 0));
        let waiting = drain(&mut queue);
        assert_eq!(waiting.len(), MAX_PROMPTS_OF_ONE + 1);
        assert_eq!(waiting.last(), Some(&control("quiet", 0)));
        assert_eq!(queue.dropped() as usize, MAX_PROMPTS - MAX_PROMPTS_OF_ONE);
        queue.push(control("loud", 1));
        assert_eq!(drain(&mut queue), [control("loud", 1)]);
    }

    #[test]
    fn an_event_costs_no_more_when_much_waits() {
        let mut queue = EventQueue::default();
        for peer in 0..200 {
            for number in 0..80 {
                queue.push(control(&peer.to_string(), number));
            }
        }
        let path = |peer: usize| Event::PathSelected {
            peer_id: peer.to_string(),
            kind: crate::event::PathKind::Direct,
            local: String::new(),
            remote: ([192, 0, 2, 1], 1).into(),
            relay_id: None,
        };
        for (event, bound) in [
            (path(3), 1),
            (path(3), 1),
            (control("3", 99), 100),
            (control("new", 0), 1),
            (
                Event::PeerClosed {
                    peer_id: "7".into(),
                    by: ClosedBy::Remote,
                    in_use: false,
                },
                80,
            ),
        ] {
            let ((), cost) = steps::of(|| queue.push(event.clone()));
            assert!(cost <= bound, "{event:?}: {cost}");
        }
    }

    #[test]
    fn a_newer_path_takes_the_place_of_an_older_one_of_the_same_peer() {
        let path = |peer: &str, port| Event::PathSelected {
            peer_id: peer.into(),
            kind: crate::event::PathKind::Direct,
            local: String::new(),
            remote: ([192, 0, 2, 1], port).into(),
            relay_id: None,
        };
        let mut queue = EventQueue::default();
        for event in [path("a", 1), path("b", 1), path("a", 2), path("a", 3)] {
            queue.push(event);
        }
        assert_eq!(drain(&mut queue), [path("b", 1), path("a", 3)]);
        queue.push(path("a", 4));
        assert_eq!(drain(&mut queue), [path("a", 4)]);
    }

    #[test]
    fn a_failure_takes_the_place_of_everything_else_about_the_peer() {
        let failed = Event::PeerFailed {
            peer_id: "g".into(),
            reason: FailureReason::IceTimeout,
        };
        let expired = Event::GrantExpired {
            peer_id: "g".into(),
            resource_id: "r".into(),
        };
        let closed = Event::PeerClosed {
            peer_id: "other".into(),
            by: ClosedBy::Local,
            in_use: false,
        };
        let mut queue = EventQueue::default();
        for event in [
            added(&["a"]),
            expired.clone(),
            closed.clone(),
            failed.clone(),
        ] {
            queue.push(event);
        }
        assert_eq!(drain(&mut queue), [expired, closed, failed]);
    }

    #[test]
    fn candidates_of_one_peer_join() {
        let mut queue = EventQueue::default();
        queue.push(added(&["a", "b"]));
        queue.push(added(&["b", "c"]));
        assert_eq!(drain(&mut queue), [added(&["a", "b", "c"])]);
    }
}
