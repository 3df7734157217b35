//! The handle of an I/O thread: questions go in, answers and notices come out, and dropping it ends the thread.
//!
//! Nobody waits for a thread without limit. One that is stuck, in a system call or in a loop of its own, leaves questions
//! unanswered, and a look at the turns of its loop tells it from one that waits for packets.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::mailbox::{Asked, Asker, NoAnswer, lock, mailbox};
use crate::notices::{News, Notices};

/// For how long a thread may be in one turn of its loop, or leave a question unanswered.
///
/// It is counted in steps, so that a process that was stopped as a whole (a frozen container, a debugger) has lost one
/// step of it, not all.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub steps: u32,
    pub step: Duration,
}

impl Default for Patience {
    /// What takes longest, a gateway's whole programme after its portal was away, takes a second at most.
    fn default() -> Self {
        Self {
            steps: 15,
            step: Duration::from_secs(1),
        }
    }
}

#[derive(Debug)]
pub struct IoThread<Q> {
    asker: Asker<Q>,
    notices: Arc<Notices>,
    patience: Patience,
    /// Whether the patience is exhausted; then nobody waits for the thread again.
    is_hung: AtomicBool,
    checked: Mutex<Checked>,
    /// The thread while nobody has closed it.
    running: Mutex<Option<Running<Q>>>,
}

#[derive(Debug)]
struct Running<Q> {
    thread: JoinHandle<()>,
    /// What tells the thread to end.
    last: Q,
    /// Loses its other end when the thread is over.
    over: Receiver<()>,
}

/// What the last check saw.
#[derive(Debug, Default)]
struct Checked {
    turn: Option<u64>,
    /// How many checks in a row have met the thread in that turn, less the first.
    times: u32,
}

impl<Q: Send + 'static> IoThread<Q> {
    /// Start a thread that answers questions until it is asked the `last` one.
    ///
    /// `work` makes what the thread runs; it tells the notices when it rests and when it resumes. `at_end` runs on the thread
    /// when that has ended, even by a panic, and the reason has been noted.
    pub fn start<W: FnOnce() + Send + 'static>(
        name: &str,
        last: Q,
        warnings: Vec<String>,
        patience: Patience,
        work: impl FnOnce(Asked<Q>, Arc<Notices>) -> io::Result<W>,
        at_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (asker, asked) = mailbox()?;
        let notices = Notices::new(warnings)?;
        let work = work(asked, notices.clone())?;
        let (until_over, over) = mpsc::sync_channel(0);
        let end = End {
            notices: notices.clone(),
            then: Some(at_end),
            _until_over: until_over,
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _end = end;
                work();
            })?;
        let running = Running { thread, last, over };
        Ok(Self {
            asker,
            notices,
            patience,
            is_hung: AtomicBool::new(false),
            checked: Mutex::default(),
            running: Mutex::new(Some(running)),
        })
    }

    /// Ask, and wait for the answer as long as the patience lasts.
    pub fn ask<A>(&self, question: impl FnOnce(SyncSender<A>) -> Q) -> Result<A, NoAnswer> {
        if self.is_hung.load(Ordering::Relaxed) {
            return Err(NoAnswer::Hung);
        }
        let answer = self.asker.ask(question)?;
        for _ in 0..self.patience.steps {
            match answer.recv_timeout(self.patience.step) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(NoAnswer::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.give_up("it leaves a question unanswered");
        Err(NoAnswer::Hung)
    }

    /// Look whether the thread goes on; to be called once a second.
    ///
    /// Returns how many checks in a row have met it in the turn in which it was before. When these are too many it counts as
    /// hung, and [`IoThread::take_news`] says so.
    pub fn check(&self) -> u32 {
        let mut checked = lock(&self.checked);
        let turn = self.notices.turn();
        checked.times = match turn {
            Some(_) if turn == checked.turn => checked.times + 1,
            _ => 0,
        };
        checked.turn = turn;
        if checked.times >= self.patience.steps {
            self.give_up("it does not come back to its loop");
        }
        checked.times
    }

    /// Wake the thread without a question.
    pub fn wake(&self) {
        self.asker.wake();
    }

    /// What an operator should know, since the start.
    pub fn warnings(&self) -> Vec<String> {
        self.notices.warnings()
    }

    /// Warnings since the last call, and why the thread is of no use any more, if it is by itself.
    pub fn take_news(&self) -> News {
        self.notices.take()
    }

    /// Readable while [`IoThread::take_news`] has something.
    pub fn news_fd(&self) -> RawFd {
        self.notices.fd()
    }

    fn give_up(&self, how: &str) {
        self.is_hung.store(true, Ordering::Relaxed);
        self.notices.fail(format!("its thread hangs: {how}"));
    }
}

impl<Q> IoThread<Q> {
    /// Stop the thread and wait until it has closed everything; idempotent. One that hangs is left alone: the end of the
    /// process ends it.
    pub fn close(&self) {
        let Some(running) = lock(&self.running).take() else {
            return;
        };
        // A thread that is gone already needs no telling.
        let _ = self.asker.tell(running.last);
        let is_hung = self.is_hung.load(Ordering::Relaxed);
        let steps = if is_hung { 1 } else { self.patience.steps };
        for _ in 0..steps {
            if running.over.recv_timeout(self.patience.step) == Err(RecvTimeoutError::Disconnected)
            {
                // Its panic was noted.
                let _ = running.thread.join();
                return;
            }
        }
    }
}

impl<Q> Drop for IoThread<Q> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Held by the thread: reports a panic, and that the thread is over.
struct End<F: FnOnce()> {
    notices: Arc<Notices>,
    then: Option<F>,
    _until_over: SyncSender<()>,
}

impl<F: FnOnce()> Drop for End<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.notices
                .fail("its thread has failed, see standard error".to_owned());
        }
        if let Some(then) = self.then.take() {
            then();
        }
    }
}

/// Answer a question; who asked may have given up waiting.
pub fn answer<A>(reply: &SyncSender<A>, value: A) {
    let _ = reply.send(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Question {
        Double(u32, SyncSender<u32>),
        Panic,
        /// Answer nothing, and take no further turn, until the other end is dropped.
        Block(Receiver<()>),
        Stop,
    }

    /// Long enough for a thread that runs to do something, on a busy machine too.
    const LONG: Patience = Patience {
        steps: 1_000,
        step: Duration::from_millis(100),
    };
    const SHORT: Patience = Patience {
        steps: 3,
        step: Duration::from_millis(1),
    };

    fn start(ended: &Arc<AtomicBool>, patience: Patience) -> IoThread<Question> {
        let ended = ended.clone();
        let work = |asked: Asked<Question>, notices: Arc<Notices>| {
            notices.warn("late".to_owned());
            Ok(move || {
                loop {
                    notices.rest();
                    let question = asked.next();
                    notices.resume();
                    match question {
                        Some(Question::Double(number, reply)) => answer(&reply, 2 * number),
                        Some(Question::Panic) => panic!("as ordered by the test"),
                        Some(Question::Block(until)) => {
                            let _ = until.recv();
                        }
                        Some(Question::Stop) => return,
                        None => thread::yield_now(),
                    }
                }
            })
        };
        let at_end = move || ended.store(true, Ordering::SeqCst);
        let warnings = vec!["early".to_owned()];
        IoThread::start("test", Question::Stop, warnings, patience, work, at_end).unwrap()
    }

    /// A thread that is stuck until the sender is dropped.
    fn stuck(ended: &Arc<AtomicBool>, patience: Patience) -> (IoThread<Question>, SyncSender<()>) {
        let thread = start(ended, patience);
        let (release, until) = mpsc::sync_channel(0);
        thread.asker.tell(Question::Block(until)).unwrap();
        (thread, release)
    }

    #[test]
    fn it_answers_until_it_is_closed() {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = start(&ended, LONG);
        assert_eq!(thread.ask(|reply| Question::Double(21, reply)), Ok(42));
        assert!(!ended.load(Ordering::SeqCst));
        thread.close();
        thread.close();
        assert!(ended.load(Ordering::SeqCst));
        assert_eq!(
            thread.ask(|reply| Question::Double(21, reply)),
            Err(NoAnswer::Stopped)
        );
        assert_eq!(thread.take_news().fault, None);
        assert_eq!(thread.warnings(), ["early", "late"]);
    }

    #[test]
    fn a_panic_is_noted_before_the_end_is_told() {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = start(&ended, LONG);
        thread.asker.tell(Question::Panic).unwrap();
        assert_eq!(
            thread.ask(|reply| Question::Double(1, reply)),
            Err(NoAnswer::Stopped)
        );
        thread.close();
        assert!(ended.load(Ordering::SeqCst));
        assert!(thread.take_news().fault.is_some());
    }

    #[test]
    fn dropping_it_ends_the_thread() {
        let ended = Arc::new(AtomicBool::new(false));
        drop(start(&ended, LONG));
        assert!(ended.load(Ordering::SeqCst));
    }

    #[test]
    fn a_question_to_a_thread_that_hangs_comes_back_unanswered_and_the_fault_is_told() {
        let ended = Arc::new(AtomicBool::new(false));
        let (thread, release) = stuck(&ended, SHORT);
        assert_eq!(
            thread.ask(|reply| Question::Double(1, reply)),
            Err(NoAnswer::Hung)
        );
        let fault = thread.take_news().fault.unwrap();
        assert!(fault.contains("hangs"), "{fault}");
        drop(release);
        assert_eq!(
            thread.ask(|reply| Question::Double(1, reply)),
            Err(NoAnswer::Hung),
            "nobody waits a second time"
        );
    }

    #[test]
    fn closing_does_not_wait_for_a_thread_that_hangs() {
        let ended = Arc::new(AtomicBool::new(false));
        let (thread, release) = stuck(&ended, SHORT);
        thread.close();
        assert!(!ended.load(Ordering::SeqCst));
        drop(release);
    }

    #[test]
    fn a_thread_that_takes_no_further_turn_is_noticed_without_a_question() {
        let ended = Arc::new(AtomicBool::new(false));
        let (thread, release) = stuck(&ended, SHORT);
        let mut before = 0;
        while thread.take_news().fault.is_none() {
            let now = thread.check();
            assert!(now <= before + 1, "each check counts once");
            before = now;
        }
        assert!(before >= SHORT.steps);
        drop(release);
    }

    #[test]
    fn a_thread_that_waits_for_something_to_do_does_not_hang() {
        let (release, until) = mpsc::sync_channel::<()>(0);
        let work = |_: Asked<Question>, notices: Arc<Notices>| {
            Ok(move || {
                notices.rest();
                let _ = until.recv();
            })
        };
        let thread =
            IoThread::start("test", Question::Stop, Vec::new(), SHORT, work, || ()).unwrap();
        while thread.notices.turn().is_some() {
            thread::yield_now();
        }
        for _ in 0..10 * SHORT.steps {
            assert_eq!(thread.check(), 0);
        }
        assert_eq!(thread.take_news().fault, None);
        drop(release);
    }
}
