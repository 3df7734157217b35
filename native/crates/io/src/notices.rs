//! What an I/O thread has to say to whoever runs it: warnings, that it goes on, and at last why it has ended.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::mailbox::lock;
use crate::sys::EventFd;

/// Different warnings kept; their texts are ours, so that there are never many.
const MAX_WARNINGS: usize = 64;

/// Shared by the thread and its handle.
#[derive(Debug)]
pub struct Notices {
    state: Mutex<State>,
    changed: EventFd,
    /// Twice the turns of the thread's loop, and one more while it is in one.
    pulse: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    warnings: Vec<String>,
    /// Warnings at the front that were given out.
    told: usize,
    fault: Option<String>,
}

/// What is new since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    pub warnings: Vec<String>,
    /// The thread has ended because of this, and nothing passes any more.
    pub fault: Option<String>,
}

impl Notices {
    pub fn new(warnings: Vec<String>) -> io::Result<Arc<Self>> {
        let notices = Self {
            state: Mutex::default(),
            changed: EventFd::new()?,
            pulse: AtomicU64::new(1),
        };
        for warning in warnings {
            notices.warn(warning);
        }
        Ok(Arc::new(notices))
    }

    /// Note what an operator should know; the same text counts once.
    pub fn warn(&self, warning: String) {
        let mut state = lock(&self.state);
        if state.warnings.len() < MAX_WARNINGS && !state.warnings.contains(&warning) {
            state.warnings.push(warning);
            self.changed.raise();
        }
    }

    /// Note why the thread ends; the first reason stays.
    pub fn fail(&self, reason: String) {
        lock(&self.state).fault.get_or_insert(reason);
        self.changed.raise();
    }

    /// The thread waits for something to do; so it may for ever.
    pub fn rest(&self) {
        self.pulse.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread has something to do.
    pub fn resume(&self) {
        self.pulse.fetch_add(1, Ordering::Relaxed);
    }

    /// Which turn the thread is in, if it is in one.
    pub fn turn(&self) -> Option<u64> {
        let pulse = self.pulse.load(Ordering::Relaxed);
        (pulse % 2 == 1).then_some(pulse / 2)
    }

    /// Turns of the thread's loop since the start.
    pub fn turns(&self) -> u64 {
        self.pulse.load(Ordering::Relaxed) / 2
    }

    /// Everything warned of since the start.
    pub fn warnings(&self) -> Vec<String> {
        lock(&self.state).warnings.clone()
    }

    /// Take what is new; the fault stays.
    pub fn take(&self) -> News {
        let mut state = lock(&self.state);
        self.changed.clear();
        let warnings = state.warnings[state.told..].to_vec();
        state.told = state.warnings.len();
        News {
            warnings,
            fault: state.fault.clone(),
        }
    }

    /// Readable while something is new.
    pub fn fd(&self) -> RawFd {
        self.changed.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_told_once_and_the_first_fault_every_time() {
        let notices = Notices::new(vec!["a".to_owned()]).unwrap();
        notices.warn("b".to_owned());
        notices.warn("a".to_owned());
        assert_eq!(notices.take().warnings, ["a", "b"]);
        assert_eq!(notices.take(), News::default());
        notices.warn("c".to_owned());
        notices.fail("broken".to_owned());
        notices.fail("and more".to_owned());
        let news = notices.take();
        assert_eq!(news.warnings, ["c"]);
        assert_eq!(news.fault.as_deref(), Some("broken"));
        assert_eq!(notices.take().fault.as_deref(), Some("broken"));
        assert_eq!(notices.warnings(), ["a", "b", "c"]);
    }

    #[test]
    fn warnings_do_not_pile_up() {
        let notices = Notices::new(Vec::new()).unwrap();
        for n in 0..10 * MAX_WARNINGS {
            notices.warn(n.to_string());
        }
        assert_eq!(notices.warnings().len(), MAX_WARNINGS);
    }
}
