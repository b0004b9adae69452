use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Position;
use super::append::{Append, AppendError};
use super::waking::Waiter;

/// What waits for the writer. While the journal is full or broken this is also the last place a record has:
/// 16 MiB are some 20,000 records, a second of the highest load or a minute of a usual one.
const BYTES_MAX: usize = 16 << 20;
/// Entries carry a waiter each, so small ones are bounded by number.
const ENTRIES_MAX: usize = 32_768;

/// A block is the unit of reading, too: large enough that a sync is shared, small enough to pass through memory.
const BLOCK_BYTES_MAX: usize = 256 << 10;
const BLOCK_ENTRIES_MAX: usize = 512;

/// Between the callers and the writer: entries in order, how far to trim, and whether to stop.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Who waits for the block that the writer has taken and readers cannot see yet.
    in_hand: Vec<InHand>,
    trim_before: Position,
    sealed: Option<Instant>,
    closing: bool,
    /// The writer sleeps. Only then is it woken: a wake-up that nobody needs is a system call all the same.
    writer_waits: bool,
}

/// An entry, and who wants to know of it.
struct Waiting {
    entry: Vec<u8>,
    since: Instant,
    waiter: Waiter,
}

/// Who wants to know of an entry that the writer has.
pub(super) struct InHand {
    pub(super) since: Instant,
    pub(super) waiter: Waiter,
}

/// What the writer may do without waiting.
pub(super) struct Work {
    /// At most one block; empty when the writer wanted none.
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) trim_before: Position,
    pub(super) closing: bool,
}

/// Which entries the writer can take at present.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    Entries,
    NoEntries,
}

impl Queue {
    /// Takes the entry, or gives it up when the bounds are reached. `entry` is called either way, in the order in
    /// which entries are taken.
    pub(super) fn push(&self, entry: impl FnOnce() -> Vec<u8>) -> Append {
        let mut inner = self.lock();
        let entry = entry();
        if inner.sealed.is_some() {
            return Append::refused(AppendError::Closing);
        }
        let (entries, bytes) = (inner.waiting.len(), inner.bytes);
        if entries >= ENTRIES_MAX || bytes + entry.len() > BYTES_MAX {
            return Append::refused(AppendError::Overrun { entries, bytes });
        }
        let (waiter, receiver) = oneshot::channel();
        inner.bytes += entry.len();
        inner.waiting.push_back(Waiting {
            entry,
            since: Instant::now(),
            waiter,
        });
        self.wake_writer(inner);
        Append::waiting(receiver)
    }

    pub(super) fn trim(&self, before: Position) {
        let mut inner = self.lock();
        if before > inner.trim_before {
            inner.trim_before = before;
            self.wake_writer(inner);
        }
    }

    /// Takes no more entries; the writer goes on.
    pub(super) fn seal(&self) {
        self.lock().seal();
    }

    /// Whether entries wait, or are in the writer's hand.
    pub(super) fn has_unwritten(&self) -> bool {
        let inner = self.lock();
        inner.unwritten() > 0
    }

    /// Whether half of it is free. Less, and a disk that takes records by fits and starts would have it full and not full
    /// many times a second.
    pub(super) fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.bytes <= BYTES_MAX / 2 && inner.waiting.len() <= ENTRIES_MAX / 2
    }

    /// Entries that are not written though the queue was sealed before `sealed_before`.
    pub(super) fn overdue(&self, sealed_before: Instant) -> usize {
        let inner = self.lock();
        match inner.sealed {
            Some(sealed) if sealed < sealed_before => inner.unwritten(),
            _ => 0,
        }
    }

    /// What the writer took last can be read now.
    pub(super) fn written(&self) -> Vec<InHand> {
        std::mem::take(&mut self.lock().in_hand)
    }

    /// Gives up all that waits and what the writer has in its hand; gives who has to be told.
    pub(super) fn give_up(&self) -> Vec<Waiter> {
        let mut inner = self.lock();
        inner.bytes = 0;
        let in_hand = std::mem::take(&mut inner.in_hand);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        let in_hand = in_hand.into_iter().map(|entry| entry.waiter);
        in_hand.chain(waiting.into_iter().map(|entry| entry.waiter)).collect()
    }

    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.seal();
        inner.closing = true;
        self.wake_writer(inner);
    }

    /// Waits until there is something that the writer wants, or `timeout` is over.
    ///
    /// Entries come in bursts, and the first of one wakes the writer. Where all cores are busy it would run at once, before
    /// the others are in the queue, and again for each of them: two switches of threads and a write for one entry. So it
    /// gives way once. Measured on one core that answers without a pause, durability process: 23 us of processor time a
    /// callback instead of 32. Where a core is free, giving way costs nothing.
    pub(super) fn collect(&self, wants: Wants, trimmed_before: Position, timeout: Duration) -> Work {
        let mut inner = self.lock();
        let idle = |inner: &mut Inner| {
            let wanted = wants == Wants::Entries && !inner.waiting.is_empty();
            !(wanted || inner.closing || inner.trim_before > trimmed_before)
        };
        if idle(&mut inner) {
            drop(self.wait_while(inner, timeout, idle));
            thread::yield_now();
            inner = self.lock();
        }
        let entries = match wants {
            Wants::Entries => inner.take_block(),
            Wants::NoEntries => Vec::new(),
        };
        Work {
            entries,
            trim_before: inner.trim_before,
            closing: inner.closing,
        }
    }

    /// Waits out a pause between two tries, shorter when the journal is closed meanwhile; says whether it is.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        self.wait_while(self.lock(), pause, |inner| !inner.closing).closing
    }

    fn wait_while<'queue>(
        &'queue self,
        inner: MutexGuard<'queue, Inner>,
        timeout: Duration,
        mut condition: impl FnMut(&mut Inner) -> bool,
    ) -> MutexGuard<'queue, Inner> {
        let waited = self.changed.wait_timeout_while(inner, timeout, |inner| {
            inner.writer_waits = condition(inner);
            inner.writer_waits
        });
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.writer_waits = false;
        inner
    }

    /// Once, however many come before it has woken.
    fn wake_writer(&self, mut inner: MutexGuard<'_, Inner>) {
        let waits = std::mem::take(&mut inner.writer_waits);
        drop(inner);
        if waits {
            self.changed.notify_one();
        }
    }

    /// A thread that panicked while it held the lock has left whole entries: every change is one step.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn seal(&mut self) {
        self.sealed.get_or_insert_with(Instant::now);
    }

    fn unwritten(&self) -> usize {
        self.in_hand.len() + self.waiting.len()
    }

    fn take_block(&mut self) -> Vec<Vec<u8>> {
        let (mut entries, mut in_hand) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let one_more = bytes + next.entry.len();
            if !entries.is_empty() && (entries.len() == BLOCK_ENTRIES_MAX || one_more > BLOCK_BYTES_MAX) {
                break;
            }
            bytes = one_more;
            if let Some(Waiting { entry, since, waiter }) = self.waiting.pop_front() {
                entries.push(entry);
                in_hand.push(InHand { since, waiter });
            }
        }
        self.bytes -= bytes;
        // One that was taken before, and of which a panic left nothing to write, goes: nobody may be told that it is durable.
        self.in_hand = in_hand;
        entries
    }
}
