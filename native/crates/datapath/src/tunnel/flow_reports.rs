//! Reports of flows on their way to Python, in batches.
//!
//! Each wakes Python once, so they wait until there are many or a second has passed. How many may wait is bounded; what does
//! not fit is counted, a start before an end, because an end says all that its start has said.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event::{Event, FlowReport};

/// Reports handed over at a time; ours.
const BATCH: usize = 256;
/// How long a report may wait for others; ours.
const PATIENCE: Duration = Duration::from_secs(1);
/// Reports that may wait in the engine; ours.
const MAX_WAITING: usize = 65_536;
/// Beyond this, only ends are taken.
const MAX_WAITING_STARTS: usize = MAX_WAITING / 2;

#[derive(Default)]
pub struct FlowReports {
    waiting: VecDeque<FlowReport>,
    /// When the oldest goes whatever waits with it.
    due_at: Option<Instant>,
    /// How many go now.
    ready: usize,
    lost: u64,
    lost_unreported: u64,
}

impl FlowReports {
    pub fn push(&mut self, report: FlowReport, now: Instant) {
        let room = if report.end.is_some() {
            MAX_WAITING
        } else {
            MAX_WAITING_STARTS
        };
        if self.waiting.len() >= room {
            self.lost += 1;
            self.lost_unreported += 1;
            return;
        }
        self.waiting.push_back(report);
        self.due_at.get_or_insert(now + PATIENCE);
        if self.waiting.len() >= self.ready + BATCH {
            self.ready = self.waiting.len();
        }
    }

    /// Let everything go now.
    pub fn flush(&mut self) {
        self.ready = self.waiting.len();
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due_at.is_some_and(|at| at <= now) {
            self.flush();
            self.due_at = None;
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due_at
    }

    /// The next batch that is to go.
    pub fn pop(&mut self) -> Option<Event> {
        if self.ready == 0 {
            return None;
        }
        let count = self.ready.min(BATCH);
        self.ready -= count;
        let reports: Vec<FlowReport> = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.due_at = None;
        }
        Some(Event::FlowsReported {
            reports,
            lost: std::mem::take(&mut self.lost_unreported),
        })
    }

    /// Reports for which there was no room, since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
