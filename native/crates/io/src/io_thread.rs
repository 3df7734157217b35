//! The handle of an I/O thread: questions go in, answers and notices come out, and dropping it ends the thread.

use std::io;
use std::os::fd::RawFd;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::mailbox::{Asked, Asker, Stopped, lock, mailbox};
use crate::notices::{News, Notices};

#[derive(Debug)]
pub struct IoThread<Q> {
    asker: Asker<Q>,
    notices: Arc<Notices>,
    /// The thread while nobody has closed it, and what tells it to end.
    running: Mutex<Option<(JoinHandle<()>, Q)>>,
}

impl<Q: Send + 'static> IoThread<Q> {
    /// Start a thread that answers questions until it is asked the `last` one.
    ///
    /// `work` makes what the thread runs; `at_end` runs on the thread when that has ended, even by a panic, and the reason
    /// has been noted.
    pub fn start<W: FnOnce() + Send + 'static>(
        name: &str,
        last: Q,
        warnings: Vec<String>,
        work: impl FnOnce(Asked<Q>, Arc<Notices>) -> io::Result<W>,
        at_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (asker, asked) = mailbox()?;
        let notices = Notices::new(warnings)?;
        let work = work(asked, notices.clone())?;
        let end = End {
            notices: notices.clone(),
            then: Some(at_end),
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _end = end;
                work();
            })?;
        Ok(Self {
            asker,
            notices,
            running: Mutex::new(Some((thread, last))),
        })
    }

    /// Ask, and wait for the answer.
    pub fn ask<A>(&self, question: impl FnOnce(SyncSender<A>) -> Q) -> Result<A, Stopped> {
        self.asker.ask(question)
    }

    /// Wake the thread without a question.
    pub fn wake(&self) {
        self.asker.wake();
    }

    /// What an operator should know, since the start.
    pub fn warnings(&self) -> Vec<String> {
        self.notices.warnings()
    }

    /// Warnings since the last call, and why the thread has ended, if it has by itself.
    pub fn take_news(&self) -> News {
        self.notices.take()
    }

    /// Readable while [`IoThread::take_news`] has something.
    pub fn news_fd(&self) -> RawFd {
        self.notices.fd()
    }
}

impl<Q> IoThread<Q> {
    /// Stop the thread and wait until it has closed everything; idempotent.
    pub fn close(&self) {
        let running = lock(&self.running).take();
        if let Some((thread, last)) = running {
            // A thread that is gone already needs no telling.
            let _ = self.asker.tell(last);
            // Its panic was noted.
            let _ = thread.join();
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
    use std::sync::atomic::{AtomicBool, Ordering};

    enum Question {
        Double(u32, SyncSender<u32>),
        Panic,
        Stop,
    }

    fn start(ended: &Arc<AtomicBool>) -> IoThread<Question> {
        let ended = ended.clone();
        let work = |asked: Asked<Question>, notices: Arc<Notices>| {
            notices.warn("late".to_owned());
            Ok(move || {
                loop {
                    match asked.next() {
                        Some(Question::Double(number, reply)) => answer(&reply, 2 * number),
                        Some(Question::Panic) => panic!("as ordered by the test"),
                        Some(Question::Stop) => return,
                        None => thread::yield_now(),
                    }
                }
            })
        };
        let at_end = move || ended.store(true, Ordering::SeqCst);
        IoThread::start(
            "test",
            Question::Stop,
            vec!["early".to_owned()],
            work,
            at_end,
        )
        .unwrap()
    }

    #[test]
    fn it_answers_until_it_is_closed() {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = start(&ended);
        assert_eq!(thread.ask(|reply| Question::Double(21, reply)), Ok(42));
        assert!(!ended.load(Ordering::SeqCst));
        thread.close();
        thread.close();
        assert!(ended.load(Ordering::SeqCst));
        assert_eq!(
            thread.ask(|reply| Question::Double(21, reply)),
            Err(Stopped)
        );
        assert_eq!(thread.take_news().fault, None);
        assert_eq!(thread.warnings(), ["early", "late"]);
    }

    #[test]
    fn a_panic_is_noted_before_the_end_is_told() {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = start(&ended);
        thread.asker.tell(Question::Panic).unwrap();
        assert_eq!(thread.ask(|reply| Question::Double(1, reply)), Err(Stopped));
        thread.close();
        assert!(ended.load(Ordering::SeqCst));
        assert!(thread.take_news().fault.is_some());
    }

    #[test]
    fn dropping_it_ends_the_thread() {
        let ended = Arc::new(AtomicBool::new(false));
        drop(start(&ended));
        assert!(ended.load(Ordering::SeqCst));
    }
}
