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
    /// The writer has taken a block, and readers cannot see it yet.
    in_hand: bool,
    trim_before: Position,
    sealed: bool,
    closing: bool,
    /// The writer sleeps. Only then is it woken: a wake-up that nobody needs is a system call all the same.
    writer_waits: bool,
}

/// An entry, and who wants to know of it.
pub(super) struct Waiting {
    pub(super) entry: Vec<u8>,
    pub(super) since: Instant,
    pub(super) waiter: Waiter,
}

/// What the writer may do without waiting.
pub(super) struct Work {
    /// At most one block; empty when the writer wanted none.
    pub(super) entries: Vec<Waiting>,
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
        if inner.sealed {
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
        self.lock().sealed = true;
    }

    /// Whether entries wait, or are in the writer's hand.
    pub(super) fn has_unwritten(&self) -> bool {
        let inner = self.lock();
        inner.in_hand || !inner.waiting.is_empty()
    }

    /// What the writer took last can be read now, or is given up.
    pub(super) fn written(&self) {
        self.lock().in_hand = false;
    }

    pub(super) fn close(&self) {
        let mut inner = self.lock();
        (inner.sealed, inner.closing) = (true, true);
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
    fn take_block(&mut self) -> Vec<Waiting> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let one_more = bytes + next.entry.len();
            if !entries.is_empty() && (entries.len() == BLOCK_ENTRIES_MAX || one_more > BLOCK_BYTES_MAX) {
                break;
            }
            bytes = one_more;
            entries.extend(self.waiting.pop_front());
        }
        self.bytes -= bytes;
        self.in_hand |= !entries.is_empty();
        entries
    }
}
