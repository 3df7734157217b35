//! What passes between an I/O thread and the threads that hold its handle.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::EventFd;

/// Why nobody answers any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The I/O thread was closed, or has ended by a fault that it reported.
    #[error("the I/O thread has stopped")]
    Stopped,
    #[error("the I/O thread hangs")]
    Hung,
}

/// Events that may wait in a queue; further ones stay in the engine, which knows how to bound them.
const MAX_WAITING_EVENTS: usize = 4_096;

/// The asking end: questions wake the thread, answers come when it has acted.
#[derive(Debug)]
pub struct Asker<Q> {
    questions: Mutex<Sender<Q>>,
    wake: Arc<EventFd>,
}

/// The answering end, held by the thread.
#[derive(Debug)]
pub struct Asked<Q> {
    questions: Receiver<Q>,
    wake: Arc<EventFd>,
}

pub fn mailbox<Q>() -> io::Result<(Asker<Q>, Asked<Q>)> {
    let wake = Arc::new(EventFd::new()?);
    let (sender, receiver) = mpsc::channel();
    let asker = Asker {
        questions: Mutex::new(sender),
        wake: wake.clone(),
    };
    let asked = Asked {
        questions: receiver,
        wake,
    };
    Ok((asker, asked))
}

impl<Q> Asker<Q> {
    /// Ask; the answer comes, or nobody holds the other end any more.
    pub fn ask<A>(
        &self,
        question: impl FnOnce(SyncSender<A>) -> Q,
    ) -> Result<Receiver<A>, NoAnswer> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.tell(question(reply))?;
        Ok(answer)
    }

    /// Say something that has no answer.
    pub fn tell(&self, question: Q) -> Result<(), NoAnswer> {
        lock(&self.questions)
            .send(question)
            .map_err(|_| NoAnswer::Stopped)?;
        self.wake.raise();
        Ok(())
    }

    /// Wake the thread without a question.
    pub fn wake(&self) {
        self.wake.raise();
    }
}

impl<Q> Asked<Q> {
    /// Readable when there may be questions.
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    pub fn next(&self) -> Option<Q> {
        self.questions.try_recv().ok()
    }
}

/// Events on their way out of the thread, behind one descriptor that is readable while any wait.
#[derive(Debug)]
pub struct EventQueue<E> {
    events: Mutex<VecDeque<E>>,
    readable: EventFd,
}

impl<E> EventQueue<E> {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            events: Mutex::new(VecDeque::new()),
            readable: EventFd::new()?,
        })
    }

    /// Take events from `poll`, which hears how many wait, until there are none or the queue is full.
    pub fn fill(&self, mut poll: impl FnMut(usize) -> Option<E>) {
        let mut events = lock(&self.events);
        let before = events.len();
        while events.len() < MAX_WAITING_EVENTS
            && let Some(event) = poll(events.len())
        {
            events.push_back(event);
        }
        if events.len() > before {
            self.readable.raise();
        }
    }

    /// Everything that waits, and whether the queue was full.
    pub fn drain(&self) -> (Vec<E>, bool) {
        let mut events = lock(&self.events);
        self.readable.clear();
        let full = events.len() >= MAX_WAITING_EVENTS;
        (events.drain(..).collect(), full)
    }

    /// Make the descriptor readable though nothing waits, so that a listener notices that the thread has ended.
    pub fn raise(&self) {
        self.readable.raise();
    }

    /// Readable while events wait.
    pub fn readable(&self) -> &EventFd {
        &self.readable
    }
}

/// Lock; a panic elsewhere leaves these queues whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_to_the_one_who_asked() {
        let (asker, asked) = mailbox::<SyncSender<u32>>().unwrap();
        let thread = std::thread::spawn(move || {
            loop {
                if let Some(reply) = asked.next() {
                    reply.send(7).unwrap();
                    return;
                }
                std::thread::yield_now();
            }
        });
        assert_eq!(asker.ask(|reply| reply).unwrap().recv(), Ok(7));
        thread.join().unwrap();
        assert_eq!(asker.ask(|reply| reply).err(), Some(NoAnswer::Stopped));
    }

    #[test]
    fn a_full_queue_leaves_events_where_they_are() {
        let queue = EventQueue::new().unwrap();
        let mut events = 0..MAX_WAITING_EVENTS + 10;
        queue.fill(|_| events.next());
        queue.fill(|_| events.next());
        let (drained, full) = queue.drain();
        assert_eq!(drained.len(), MAX_WAITING_EVENTS);
        assert!(full);
        queue.fill(|_| events.next());
        assert_eq!(
            queue.drain(),
            (
                (MAX_WAITING_EVENTS..MAX_WAITING_EVENTS + 10).collect(),
                false
            )
        );
    }
}
