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
    /// As they will be handed over: all but the last are full.
    batches: VecDeque<Vec<FlowReport>>,
    waiting: usize,
    /// When the last batch goes whether it is full or not.
    due_at: Option<Instant>,
    is_due: bool,
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
        if self.waiting >= room {
            self.lost += 1;
            self.lost_unreported += 1;
            return;
        }
        self.waiting += 1;
        self.due_at.get_or_insert(now + PATIENCE);
        match self.batches.back_mut() {
            Some(batch) if batch.len() < BATCH => batch.push(report),
            _ => {
                let mut batch = Vec::with_capacity(BATCH);
                batch.push(report);
                self.batches.push_back(batch);
            }
        }
    }

    /// Let everything go now.
    pub fn flush(&mut self) {
        self.is_due = !self.batches.is_empty();
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
        let first = self.batches.front()?;
        if first.len() < BATCH && !self.is_due {
            return None;
        }
        let reports = self.batches.pop_front()?;
        self.waiting -= reports.len();
        if self.batches.is_empty() {
            self.due_at = None;
            self.is_due = false;
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
