//! Datagrams on their way out, gathered into batches that one segmented send carries (data-plane §7.3).
//!
//! A datagram joins the newest batch of its (source, destination, ECN), if that batch still takes it: no longer than the
//! first, none shorter before it, at most 64 segments and 65,507 bytes. Engines seal in place, so a payload is written here
//! once and read by the kernel. Batches leave in the order in which they were begun; what one socket cannot take waits in a
//! queue of that socket, in memory of its own size, and is not looked at again before [`GsoOutbox::retry`]: others are not
//! held up, and a flush costs the same however much waits. Beyond [`MAX_WAITING`] bytes further datagrams are dropped and
//! counted, and before that those of a socket that holds more than what is still free, so that no socket fills the whole.
//! Only answers to what the network sent can get that far, since the TUN device is not read while anything waits.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use wardgate_datapath::Outbox;

/// The kernel's limit is 128 since Linux 6.9, 64 before.
pub const MAX_SEGMENTS: usize = 64;
/// Largest UDP payload over IPv4.
pub const MAX_BATCH: usize = 65_507;
/// Bytes that may wait for blocked sockets, [`BATCH_COST`] for each batch included.
pub const MAX_WAITING: usize = 8 << 20;

/// What a batch takes beside its bytes, roughly.
const BATCH_COST: usize = 256;
const BUFFER_SIZE: usize = 65_536;
/// Buffers with room for a whole segmented send. Batches begun while all are in use start with room for one datagram, and
/// grow.
const MAX_LARGE: usize = 64;
/// Batches looked through for one to join; older ones are left alone, which costs a send and nothing else.
const SEARCH_DEPTH: usize = 32;

/// One segmented send: datagrams of one size, the last possibly shorter.
#[derive(Debug)]
pub struct Batch {
    pub local: Option<SocketAddr>,
    pub remote: SocketAddr,
    /// Codepoint of the outer header.
    pub ecn: u8,
    buffer: Vec<u8>,
    /// Bytes at the front that have been sent already.
    sent: usize,
    len: usize,
    /// Bytes of each datagram but the last.
    segment: usize,
    segments: usize,
    takes_more: bool,
}

impl Batch {
    /// What is still to be sent.
    pub fn contents(&self) -> &[u8] {
        &self.buffer[self.sent..self.len]
    }

    pub fn segment_size(&self) -> usize {
        self.segment
    }

    /// Datagrams still to be sent.
    pub fn datagrams(&self) -> usize {
        self.contents().len().div_ceil(self.segment.max(1)).max(1)
    }

    /// Move what is still to be sent to memory of its size; the large buffer, if it had one.
    fn shrink(&mut self) -> Option<Vec<u8>> {
        if self.buffer.len() != BUFFER_SIZE {
            return None;
        }
        let contents = self.contents().to_vec();
        self.len = contents.len();
        self.sent = 0;
        Some(std::mem::replace(&mut self.buffer, contents))
    }

    /// Note that one datagram has gone out by itself.
    pub fn advance(&mut self) {
        self.sent = self.len.min(self.sent + self.segment);
        self.takes_more = false;
    }

    fn admits(
        &self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
        max_segments: usize,
    ) -> Option<bool> {
        (self.remote == remote && self.local == local && self.ecn == ecn).then_some(
            self.takes_more
                && len <= self.segment
                && self.segments < max_segments
                && self.len + len <= MAX_BATCH,
        )
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent, or given up: its buffer may be reused.
    Done,
    /// Its socket takes nothing at present; the batch stays.
    Blocked,
}

/// The batches of one I/O thread.
#[derive(Debug, Default)]
pub struct GsoOutbox {
    batches: VecDeque<Batch>,
    /// Large buffers that are free.
    pool: Vec<Vec<u8>>,
    /// Large buffers in `batches`.
    large: usize,
    /// Bytes in `batches` and `stalled`.
    waiting: usize,
    /// What waits for a blocked socket, by its address.
    stalled: HashMap<Option<SocketAddr>, Stalled>,
    /// Batches in `stalled`.
    stalled_batches: usize,
    /// Sockets in `stalled` that may take something again.
    retries: Vec<Option<SocketAddr>>,
    reserved: Option<Reserved>,
    /// Where datagrams are written that are beyond the limit.
    waste: Vec<u8>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Stalled {
    queue: VecDeque<Batch>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Reserved {
    /// `None`: in `waste`.
    index: Option<usize>,
    len: usize,
    took_more: bool,
}

impl GsoOutbox {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.stalled.is_empty()
    }

    /// Bytes not yet sent.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Something waits for a blocked socket.
    pub fn is_blocked(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// The socket of this address may take something again, or is gone: the next flush tries.
    pub fn retry(&mut self, local: Option<SocketAddr>) {
        if self.stalled.contains_key(&local) && !self.retries.contains(&local) {
            self.retries.push(local);
        }
    }

    /// As [`GsoOutbox::retry`], for every address.
    pub fn retry_all(&mut self) {
        self.retries = self.stalled.keys().copied().collect();
    }

    /// Datagrams dropped since the start because too much waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Hand every batch to `send`, oldest first. One that is [`Outcome::Blocked`] stays, and so do those behind it of the
    /// same socket.
    pub fn flush(&mut self, mut send: impl FnMut(&mut Batch) -> Outcome) {
        self.reserved = None;
        for local in std::mem::take(&mut self.retries) {
            self.send_stalled(local, &mut send);
        }
        while let Some(mut batch) = self.batches.pop_front() {
            if self.stalled.contains_key(&batch.local) {
                self.stall(batch);
                continue;
            }
            let before = batch.contents().len();
            match send(&mut batch) {
                Outcome::Done => {
                    self.waiting -= before;
                    self.recycle(batch.buffer);
                }
                Outcome::Blocked => {
                    self.waiting -= before - batch.contents().len();
                    self.stall(batch);
                }
            }
        }
    }

    fn stall(&mut self, mut batch: Batch) {
        if let Some(buffer) = batch.shrink() {
            self.recycle(buffer);
        }
        let stalled = self.stalled.entry(batch.local).or_default();
        stalled.bytes += batch.contents().len();
        stalled.queue.push_back(batch);
        self.stalled_batches += 1;
    }

    fn send_stalled(
        &mut self,
        local: Option<SocketAddr>,
        send: &mut impl FnMut(&mut Batch) -> Outcome,
    ) {
        let Some(stalled) = self.stalled.get_mut(&local) else {
            return;
        };
        while let Some(batch) = stalled.queue.front_mut() {
            let before = batch.contents().len();
            let outcome = send(batch);
            let left = match outcome {
                Outcome::Done => 0,
                Outcome::Blocked => batch.contents().len(),
            };
            self.waiting -= before - left;
            stalled.bytes -= before - left;
            if outcome == Outcome::Blocked {
                return;
            }
            stalled.queue.pop_front();
            self.stalled_batches -= 1;
        }
        self.stalled.remove(&local);
    }

    /// Forget everything that waits (the sockets are being replaced).
    pub fn clear(&mut self) {
        self.reserved = None;
        self.waiting = 0;
        self.stalled.clear();
        self.stalled_batches = 0;
        self.retries.clear();
        while let Some(batch) = self.batches.pop_front() {
            self.recycle(batch.buffer);
        }
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if buffer.len() == BUFFER_SIZE {
            self.large -= 1;
            self.pool.push(buffer);
        }
    }

    fn new_buffer(&mut self, len: usize) -> Vec<u8> {
        let pooled = self.pool.pop();
        if pooled.is_none() && self.large >= MAX_LARGE {
            return vec![0; len];
        }
        self.large += 1;
        pooled.unwrap_or_else(|| vec![0; BUFFER_SIZE])
    }

    /// Whether there is room for this datagram, and for a batch of its own.
    fn has_room(&self, local: Option<SocketAddr>, len: usize) -> bool {
        let batches = self.batches.len() + self.stalled_batches + 1;
        let used = self.waiting + batches * BATCH_COST;
        let held = if self.stalled.is_empty() {
            0
        } else {
            self.stalled.get(&local).map_or(0, |stalled| stalled.bytes)
        };
        MAX_WAITING
            .checked_sub(used)
            .is_some_and(|free| held + len <= free)
    }

    /// The index of the batch that takes this datagram, begun anew if need be.
    fn batch_for(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> usize {
        let newest = self
            .batches
            .iter()
            .enumerate()
            .rev()
            .take(SEARCH_DEPTH)
            .find_map(|(index, batch)| {
                batch
                    .admits(local, remote, ecn, len, MAX_SEGMENTS)
                    .map(|admits| (index, admits))
            });
        if let Some((index, true)) = newest {
            return index;
        }
        let buffer = self.new_buffer(len);
        self.batches.push_back(Batch {
            local,
            remote,
            ecn,
            buffer,
            sent: 0,
            len: 0,
            segment: len,
            segments: 0,
            takes_more: true,
        });
        self.batches.len() - 1
    }
}

impl Outbox for GsoOutbox {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        // The kernel answers port 0 with EINVAL, which looks like a refusal of segmentation.
        if len > MAX_BATCH || remote.port() == 0 || !self.has_room(local, len) {
            self.dropped += 1;
            self.reserved = Some(Reserved {
                index: None,
                len,
                took_more: false,
            });
            self.waste.resize(len, 0);
            return &mut self.waste;
        }
        let index = self.batch_for(local, remote, ecn, len);
        let batch = &mut self.batches[index];
        let start = batch.len;
        self.reserved = Some(Reserved {
            index: Some(index),
            len,
            took_more: batch.takes_more,
        });
        batch.len += len;
        batch.segments += 1;
        batch.takes_more = len == batch.segment && len > 0;
        self.waiting += len;
        if batch.buffer.len() < batch.len {
            batch.buffer.resize(batch.len, 0);
        }
        &mut batch.buffer[start..start + len]
    }

    fn rollback(&mut self) {
        let Some(reserved) = self.reserved.take() else {
            return;
        };
        let Some(index) = reserved.index else {
            self.dropped -= 1;
            return;
        };
        self.waiting -= reserved.len;
        let batch = &mut self.batches[index];
        batch.len -= reserved.len;
        batch.segments -= 1;
        batch.takes_more = reserved.took_more;
        if batch.segments == 0
            && let Some(batch) = self.batches.remove(index)
        {
            self.recycle(batch.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    const BOB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);

    /// The socket towards ALICE, where it matters.
    const ALICES: Option<SocketAddr> = Some(ALICE);

    /// Whoever fills a socket must not make every flush walk over what it has there.
    #[test]
    fn what_is_stalled_is_not_touched_by_the_traffic_of_others() {
        let mut outbox = GsoOutbox::new();
        for port in 1..=10_000 {
            let remote = SocketAddr::new(BOB.ip(), port);
            outbox.reserve(ALICES, remote, 0, 10);
        }
        let mut calls = 0;
        let mut flush = |outbox: &mut GsoOutbox| {
            outbox.flush(|batch| {
                calls += 1;
                match batch.local {
                    ALICES => Outcome::Blocked,
                    _ => Outcome::Done,
                }
            });
        };
        flush(&mut outbox);
        for _ in 0..100 {
            outbox.reserve(None, BOB, 0, 10);
            flush(&mut outbox);
        }
        outbox.retry(ALICES);
        outbox.retry(ALICES);
        flush(&mut outbox);
        assert_eq!(calls, 1 + 100 + 1);
    }

    #[test]
    fn datagrams_of_one_size_to_one_address_share_a_batch() {
        let mut outbox = GsoOutbox::new();
        for mark in 1..=3 {
            outbox.reserve(None, ALICE, 0, 100).fill(mark);
        }
        outbox.reserve(None, ALICE, 0, 40).fill(4);
        let batches = sent(&mut outbox);
        assert_eq!(batches, [(ALICE, 100, vec![1, 2, 3, 4])]);
        assert!(outbox.is_empty());
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_longer_datagram_or_one_after_a_shorter_begins_a_batch() {
        let mut outbox = GsoOutbox::new();
        outbox.reserve(None, ALICE, 0, 50).fill(1);
        outbox.reserve(None, ALICE, 0, 60).fill(2);
        outbox.reserve(None, ALICE, 0, 50).fill(3);
        outbox.reserve(None, ALICE, 0, 50).fill(4);
        assert_eq!(
            sent(&mut outbox),
            [
                (ALICE, 50, vec![1]),
                (ALICE, 60, vec![2, 3]),
                (ALICE, 50, vec![4])
            ]
        );
    }

    #[test]
    fn addresses_and_congestion_marks_are_kept_apart_and_order_kept() {
        let mut outbox = GsoOutbox::new();
        outbox.reserve(None, ALICE, 0, 10).fill(1);
        outbox.reserve(None, BOB, 0, 10).fill(2);
        outbox.reserve(None, ALICE, 3, 10).fill(3);
        outbox.reserve(Some(BOB), ALICE, 0, 10).fill(4);
        outbox.reserve(None, ALICE, 0, 10).fill(5);
        assert_eq!(
            sent(&mut outbox),
            [
                (ALICE, 10, vec![1, 5]),
                (BOB, 10, vec![2]),
                (ALICE, 10, vec![3]),
                (ALICE, 10, vec![4])
            ]
        );
    }

    #[test]
    fn a_batch_ends_at_64_segments_and_at_the_largest_datagram() {
        let mut outbox = GsoOutbox::new();
        for _ in 0..65 {
            outbox.reserve(None, ALICE, 0, 10);
        }
        for _ in 0..50 {
            outbox.reserve(None, BOB, 0, 1_312);
        }
        let mut datagrams = Vec::new();
        outbox.flush(|batch| {
            assert!(batch.contents().len() <= MAX_BATCH);
            datagrams.push(batch.datagrams());
            Outcome::Done
        });
        assert_eq!(datagrams, [64, 1, 49, 1]);
    }

    #[test]
    fn what_is_rolled_back_is_not_sent_and_leaves_the_batch_open() {
        let mut outbox = GsoOutbox::new();
        outbox.reserve(None, ALICE, 0, 10).fill(1);
        outbox.reserve(None, ALICE, 0, 5).fill(2);
        outbox.rollback();
        outbox.reserve(None, ALICE, 0, 10).fill(3);
        outbox.reserve(None, BOB, 0, 10);
        outbox.rollback();
        assert_eq!(sent(&mut outbox), [(ALICE, 10, vec![1, 3])]);
    }

    #[test]
    fn a_blocked_batch_waits_in_its_place_and_does_not_hold_up_others() {
        let mut outbox = GsoOutbox::new();
        outbox.reserve(ALICES, ALICE, 0, 10).fill(1);
        outbox.reserve(ALICES, ALICE, 0, 20).fill(2);
        outbox.reserve(None, BOB, 0, 10).fill(3);
        outbox.flush(|batch| match batch.remote {
            ALICE => Outcome::Blocked,
            _ => Outcome::Done,
        });
        assert!(outbox.is_blocked());
        assert_eq!(outbox.waiting(), 30);
        outbox.reserve(ALICES, ALICE, 0, 20).fill(4);
        assert_eq!(sent(&mut outbox), [], "nobody said that it takes something");
        outbox.retry(ALICES);
        assert_eq!(
            sent(&mut outbox),
            [
                (ALICE, 10, vec![1]),
                (ALICE, 20, vec![2]),
                (ALICE, 20, vec![4])
            ]
        );
        assert!(!outbox.is_blocked());
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_half_sent_batch_goes_on_where_it_stopped() {
        let mut outbox = GsoOutbox::new();
        for mark in 1..=3 {
            outbox.reserve(None, ALICE, 0, 10).fill(mark);
        }
        outbox.flush(|batch| {
            batch.advance();
            Outcome::Blocked
        });
        assert_eq!(outbox.waiting(), 20);
        outbox.retry_all();
        assert_eq!(sent(&mut outbox), [(ALICE, 10, vec![2, 3])]);
    }

    #[test]
    fn drops_and_counts_what_is_beyond_the_limit() {
        let mut outbox = GsoOutbox::new();
        for _ in 0..MAX_WAITING / 1_024 {
            assert_eq!(outbox.reserve(None, ALICE, 0, 1_024).len(), 1_024);
            if outbox.dropped() > 0 {
                break;
            }
        }
        let waiting = outbox.waiting();
        assert!(waiting <= MAX_WAITING && waiting > MAX_WAITING * 95 / 100);
        assert_eq!(outbox.reserve(None, ALICE, 0, 1_024).len(), 1_024);
        assert_eq!(outbox.dropped(), 2);
        outbox.rollback();
        assert_eq!(outbox.dropped(), 1, "rolled back, hence not dropped");
        assert_eq!(outbox.waiting(), waiting);
    }

    /// Whatever the size of datagrams, and whether sockets are blocked before they come or afterwards.
    #[test]
    fn a_full_outbox_takes_little_more_memory_than_its_limit() {
        for len in [0, 1, 32, 148, 1_312, 9_000, 60_000] {
            for blocks_first in [false, true] {
                let mut outbox = GsoOutbox::new();
                let mut local = BOB;
                // Twice what there is room for.
                for _ in 0..=2 * MAX_WAITING / (600 * (len + BATCH_COST)) {
                    for port in 1..=600 {
                        // A few sockets, each with datagrams for many peers.
                        local.set_port(1 + port % 50);
                        let remote = SocketAddr::new(ALICE.ip(), port);
                        outbox.reserve(Some(local), remote, 0, len).fill(1);
                    }
                    if blocks_first {
                        outbox.flush(|_| Outcome::Blocked);
                    }
                }
                assert!(outbox.dropped() > 0, "all datagrams of {len} were taken");
                outbox.flush(|_| Outcome::Blocked);
                assert!(outbox.batches.is_empty());
                let memory = memory_of(&outbox);
                let most = 2 * MAX_WAITING + MAX_LARGE * BUFFER_SIZE;
                assert!(memory <= most, "{memory} bytes for datagrams of {len}");
                outbox.retry_all();
                outbox.flush(|_| Outcome::Done);
                assert_eq!((outbox.waiting(), outbox.stalled_batches), (0, 0));
                assert!(outbox.pool.len() <= MAX_LARGE);
            }
        }
    }

    #[test]
    fn a_blocked_socket_leaves_room_for_the_others() {
        let mut outbox = GsoOutbox::new();
        let socket = |port| Some(SocketAddr::new(ALICE.ip(), port));
        for hog in 1..=4 {
            for _ in 0..20_000 {
                outbox.reserve(socket(hog), BOB, 0, 1_000);
                outbox.flush(|_| Outcome::Blocked);
            }
        }
        let before = outbox.dropped();
        assert!(before > 40_000, "{before}");
        for _ in 0..200 {
            outbox.reserve(socket(9), BOB, 0, 1_000);
        }
        assert_eq!(outbox.dropped(), before);
    }

    #[test]
    fn what_waits_goes_out_whole_from_wherever_it_was_moved_to() {
        let mut outbox = GsoOutbox::new();
        for mark in 0..200_u8 {
            let remote = SocketAddr::new(ALICE.ip(), 1 + u16::from(mark % 100));
            outbox.reserve(None, remote, 0, 700).fill(mark);
        }
        let mut first = true;
        outbox.flush(|batch| {
            if std::mem::take(&mut first) {
                batch.advance();
            }
            Outcome::Blocked
        });
        outbox
            .reserve(None, SocketAddr::new(ALICE.ip(), 100), 0, 700)
            .fill(200);
        outbox.retry_all();
        let mut marks: Vec<u8> = Vec::new();
        outbox.flush(|batch| {
            for datagram in batch.contents().chunks(batch.segment_size()) {
                assert_eq!(datagram, [datagram[0]; 700]);
                marks.push(datagram[0]);
            }
            Outcome::Done
        });
        marks.sort_unstable();
        assert_eq!(marks, (1..=200).collect::<Vec<u8>>());
    }

    fn memory_of(outbox: &GsoOutbox) -> usize {
        let stalled = outbox.stalled.values().flat_map(|stalled| &stalled.queue);
        let batches = outbox.batches.iter().chain(stalled);
        let buffers = batches.map(|batch| batch.buffer.capacity());
        let pooled = outbox.pool.iter().map(Vec::capacity);
        let slots = outbox
            .stalled
            .values()
            .map(|stalled| stalled.queue.capacity());
        let slots = outbox.batches.capacity() + slots.sum::<usize>();
        buffers.chain(pooled).sum::<usize>() + slots * std::mem::size_of::<Batch>()
    }

    #[test]
    fn never_sends_to_port_zero() {
        let mut outbox = GsoOutbox::new();
        outbox.reserve(None, SocketAddr::new(ALICE.ip(), 0), 0, 10);
        assert!(outbox.is_empty());
        assert_eq!(outbox.dropped(), 1);
    }

    /// Flush everything; of each datagram its first byte.
    fn sent(outbox: &mut GsoOutbox) -> Vec<(SocketAddr, usize, Vec<u8>)> {
        let mut batches = Vec::new();
        outbox.flush(|batch| {
            let marks = batch
                .contents()
                .chunks(batch.segment_size())
                .map(|datagram| datagram[0])
                .collect();
            batches.push((batch.remote, batch.segment_size(), marks));
            Outcome::Done
        });
        batches
    }
}
