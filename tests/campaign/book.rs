use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one caller has posted and what came of it, its callbacks numbered from 0: a byte for each.
#[derive(Default)]
pub(crate) struct Page {
    fates: Vec<Fate>,
    /// Where an answer was owed and did not come in time, in the contract, or as the verdicts say.
    pub(crate) broken: Vec<String>,
    /// The longest time until an answer that was owed.
    pub(crate) slowest: Duration,
}

/// What came of one callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody promised anything.
    Unanswered,
    /// Answered before the reply's deadline: it was on disk by then.
    Answered,
    /// Answered when the deadline was over: the record follows, and is gone if the receiver is killed first.
    AnsweredLate,
    /// Answered by a receiver with a full disk: the record is in memory, or was counted as lost.
    AnsweredFromMemory,
}

/// Of so many broken answers each caller keeps the text: one is enough to fail.
const BROKEN_MAX: usize = 5;

impl Page {
    pub(crate) fn add(&mut self, fate: Fate) {
        self.fates.push(fate);
    }

    /// The number of the next callback.
    pub(crate) fn next(&self) -> usize {
        self.fates.len()
    }

    pub(crate) fn fates(&self) -> &[Fate] {
        &self.fates
    }

    pub(crate) fn broke(&mut self, what: String) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(what);
        }
    }
}

/// How one receiver is at present, as its callers must know.
#[derive(Default)]
pub(crate) struct Gate {
    /// Odd from before a fault that silences the receiver until it is ready again.
    disturbed: AtomicU64,
    /// Grows when connections may be gone that nobody has noticed yet.
    connections: AtomicU64,
    full_disk: AtomicBool,
    /// Of callbacks, beyond the usual ones'.
    bytes: AtomicUsize,
}

impl Gate {
    /// Whether an answer is owed: `None` if not, else a number that changes when that ends.
    pub(crate) fn calm(&self) -> Option<u64> {
        let disturbed = self.disturbed.load(Ordering::SeqCst);
        disturbed.is_multiple_of(2).then_some(disturbed)
    }

    pub(crate) fn disturb(&self) {
        if self.calm().is_some() {
            self.disturbed.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn calm_down(&self) {
        if self.calm().is_none() {
            self.disturbed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// From here on callers connect anew.
    pub(crate) fn renew_connections(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// From here on the disk is full, and callbacks have so many `bytes` more.
    pub(crate) fn fill(&self, bytes: usize) {
        self.full_disk.store(true, Ordering::SeqCst);
        self.bytes.store(bytes, Ordering::SeqCst);
    }

    /// No large ones any more, since the disk is free; what is answered may still be in memory only.
    pub(crate) fn relieve(&self) {
        self.bytes.store(0, Ordering::SeqCst);
    }

    /// What is answered is on disk again.
    pub(crate) fn free(&self) {
        self.full_disk.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full_disk.load(Ordering::SeqCst)
    }

    pub(crate) fn more_bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

/// A lock whose holder may have panicked: what it holds is whole after every step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
