//! The bounded queue of events.
//!
//! What only prompts Python to act, and what traffic will prompt again, is dropped when too much of it waits. Facts are
//! never dropped: a newer fact about the same peer or relay takes the place of an older one, so the number of
//! peers, relays and grants bounds them.

use std::collections::VecDeque;

use crate::event::Event;

/// Intents, control packets and prohibitions that may wait; ours.
const MAX_PROMPTS: usize = 1024;

#[derive(Debug, Default)]
pub struct EventQueue {
    events: VecDeque<Event>,
    prompts: usize,
    dropped: u64,
}

impl EventQueue {
    pub fn push(&mut self, event: Event) {
        if is_prompt(&event) {
            if self.events.contains(&event) {
                return;
            }
            if self.prompts >= MAX_PROMPTS {
                self.dropped += 1;
                return;
            }
            self.prompts += 1;
            self.events.push_back(event);
            return;
        }
        if self.merges_candidates(&event) {
            return;
        }
        self.events.retain(|waiting| !supersedes(&event, waiting));
        self.prompts = self.events.iter().filter(|event| is_prompt(event)).count();
        self.events.push_back(event);
    }

    pub fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.prompts -= usize::from(is_prompt(&event));
        Some(event)
    }

    /// Prompts dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Join candidates with those of the same peer if they are the latest news about it.
    fn merges_candidates(&mut self, event: &Event) -> bool {
        let (Event::LocalCandidatesAdded { .. } | Event::LocalCandidatesRemoved { .. }) = event
        else {
            return false;
        };
        let latest = self
            .events
            .iter_mut()
            .rev()
            .find(|waiting| peer_of(waiting).is_some() && peer_of(waiting) == peer_of(event));
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

fn supersedes(newer: &Event, older: &Event) -> bool {
    match (newer, older) {
        (Event::PathSelected { peer_id, .. }, Event::PathSelected { peer_id: other, .. }) => {
            peer_id == other
        }
        (Event::PeerFailed { .. } | Event::PeerClosed { .. }, older) => {
            peer_of(older).is_some() && peer_of(newer) == peer_of(older)
        }
        (
            Event::RelayUp { relay_id, .. } | Event::RelayLost { relay_id, .. },
            Event::RelayUp {
                relay_id: other, ..
            }
            | Event::RelayLost {
                relay_id: other, ..
            },
        ) => relay_id == other,
        _ => false,
    }
}

/// The peer whose connection an event is about; grants are not part of a connection.
fn peer_of(event: &Event) -> Option<&str> {
    match event {
        Event::LocalCandidatesAdded { peer_id, .. }
        | Event::LocalCandidatesRemoved { peer_id, .. }
        | Event::PathSelected { peer_id, .. }
        | Event::HandshakeDone { peer_id, .. }
        | Event::PeerFailed { peer_id, .. }
        | Event::PeerClosed { peer_id, .. }
        | Event::ControlPacket { peer_id, .. }
        | Event::AccessProhibited { peer_id, .. } => Some(peer_id),
        Event::Intent { .. }
        | Event::GrantExpired { .. }
        | Event::RelayUp { .. }
        | Event::RelayLost { .. }
        | Event::NoRelays { .. } => None,
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
