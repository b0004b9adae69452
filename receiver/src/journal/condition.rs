use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lasting::Lasting;
use super::store::StoreError;

/// How well appending goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Entries are durable soon.
    Normal,
    /// The disk is slow at present: an entry may take longer than a reply can wait.
    Slow,
    /// The bound is reached: what comes now waits in a bounded queue for trimming.
    Full,
    /// The disk refuses: what comes now waits in a bounded queue for another try.
    Broken,
}

/// A third of the default reply deadline: beyond it the next entry may miss the deadline.
const SLOW_ABOVE: Duration = Duration::from_millis(100);
/// Once slow, this long without a slow commit before it is called normal again; one stalled sync seldom comes alone.
const SLOW_FOR: Duration = Duration::from_secs(2);
/// Once full, room for this share of the capacity before entries are taken again, so that it does not flap.
const ROOM_SHARE: u64 = 16;

/// What callers may know of the journal without a lock. Only the writer changes it.
pub(super) struct Condition {
    state: AtomicU8,
    used_bytes: AtomicU64,
    capacity_bytes: u64,
    /// The bits of the seconds of a [`Lasting`].
    lasting: AtomicU64,
    /// Microseconds since `epoch` at which the commit that runs now began; 0 when none runs.
    commit_began: AtomicU64,
    slow_until: AtomicU64,
    epoch: Instant,
    error: Mutex<Option<Arc<StoreError>>>,
}

impl Condition {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            state: AtomicU8::new(State::Normal as u8),
            used_bytes: AtomicU64::new(0),
            capacity_bytes,
            lasting: AtomicU64::new(Lasting::FOR_EVER.seconds().to_bits()),
            commit_began: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
            epoch: Instant::now(),
            error: Mutex::new(None),
        }
    }

    /// A commit that hangs makes the journal slow while it hangs, not only afterwards.
    pub(super) fn state(&self) -> State {
        let state = match self.state.load(Ordering::Relaxed) {
            0 => State::Normal,
            1 => State::Slow,
            2 => State::Full,
            _ => State::Broken,
        };
        let began = self.commit_began.load(Ordering::Relaxed);
        if state == State::Normal && began != 0 && self.now().saturating_sub(began) > micros(SLOW_ABOVE) {
            return State::Slow;
        }
        state
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    pub(super) fn lasting(&self) -> Lasting {
        Lasting::of_seconds(f64::from_bits(self.lasting.load(Ordering::Relaxed)))
    }

    pub(super) fn lasts(&self, lasting: Lasting) {
        self.lasting.store(lasting.seconds().to_bits(), Ordering::Relaxed);
    }

    pub(super) fn error(&self) -> Option<Arc<StoreError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn commit_begins(&self) {
        self.commit_began.store(self.now().max(1), Ordering::Relaxed);
    }

    pub(super) fn commit_ended(&self) {
        let took = self.now().saturating_sub(self.commit_began.swap(0, Ordering::Relaxed));
        if took > micros(SLOW_ABOVE) {
            self.slow_until.store(self.now() + micros(SLOW_FOR), Ordering::Relaxed);
        }
    }

    pub(super) fn broke(&self, error: StoreError) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        self.enter(State::Broken);
    }

    /// The store works and holds this much.
    pub(super) fn works(&self, used_bytes: u64) {
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        let was_full = self.state() == State::Full;
        let full_at = if was_full {
            self.capacity_bytes - self.capacity_bytes / ROOM_SHARE
        } else {
            self.capacity_bytes
        };
        if used_bytes >= full_at {
            self.enter(State::Full);
        } else if self.now() < self.slow_until.load(Ordering::Relaxed) {
            self.enter(State::Slow);
        } else {
            self.enter(State::Normal);
        }
    }

    fn enter(&self, state: State) {
        let before = self.state.swap(state as u8, Ordering::Relaxed);
        if before == state as u8 {
            return;
        }
        let (used_bytes, capacity_bytes) = (self.used_bytes(), self.capacity_bytes);
        match state {
            State::Normal => tracing::info!(used_bytes, "journal is normal again"),
            State::Slow => tracing::warn!("journal is slow"),
            State::Full => tracing::error!(used_bytes, capacity_bytes, "journal is full: records wait in memory"),
            State::Broken => {
                let error = self.error();
                let error = error.as_deref().map(tracing::field::display);
                tracing::error!(
                    error,
                    "journal cannot be written: records wait in memory, it goes on by itself when the disk takes them"
                );
            }
        }
    }

    fn now(&self) -> u64 {
        micros(self.epoch.elapsed())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
