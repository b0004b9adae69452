use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
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
    /// The disk is so slow that the queue is full: what finds no room in it is refused.
    Overrun,
    /// The bound is reached: what comes now waits in a bounded queue for trimming.
    Full,
    /// The disk refuses: what comes now waits in a bounded queue for another try.
    Broken,
}

/// A third of the default reply deadline: beyond it the next entry may miss the deadline.
const SLOW_ABOVE: Duration = Duration::from_millis(100);
/// Once slow, this long without a slow turn before it is called normal again; one stalled sync seldom comes alone.
const SLOW_FOR: Duration = Duration::from_secs(2);
/// Once full, room for this share of the capacity before entries are taken again, so that it does not flap.
const ROOM_SHARE: u64 = 16;

/// What callers may know of the journal without a lock. Only the writer changes it, but for an overrun, which whoever
/// meets it notes: the writer may hang meanwhile.
pub(super) struct Condition {
    store: AtomicU8,
    used_bytes: AtomicU64,
    capacity_bytes: u64,
    /// The bits of the seconds of a [`Lasting`].
    lasting: AtomicU64,
    /// Microseconds since `epoch` at which the writer last turned to the disk; 0 while it does not need it.
    at_disk_since: AtomicU64,
    /// In the same way; 0 when that is over.
    slow_until: AtomicU64,
    overrun: AtomicBool,
    epoch: Instant,
    error: Mutex<Option<Arc<StoreError>>>,
    told: Mutex<State>,
}

/// How the writer found the store last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OfStore {
    Works,
    Full,
    Broken,
}

impl Condition {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            store: AtomicU8::new(OfStore::Works as u8),
            used_bytes: AtomicU64::new(0),
            capacity_bytes,
            lasting: AtomicU64::new(Lasting::FOR_EVER.seconds().to_bits()),
            at_disk_since: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
            overrun: AtomicBool::new(false),
            epoch: Instant::now(),
            error: Mutex::new(None),
            told: Mutex::new(State::Normal),
        }
    }

    /// A disk that hangs makes the journal slow while it hangs, not only afterwards.
    pub(super) fn state(&self) -> State {
        match self.of_store() {
            OfStore::Broken => State::Broken,
            OfStore::Full => State::Full,
            OfStore::Works if self.is_overrun() => State::Overrun,
            OfStore::Works if self.is_slow() => State::Slow,
            OfStore::Works => State::Normal,
        }
    }

    pub(super) fn of_store(&self) -> OfStore {
        match self.store.load(Ordering::Relaxed) {
            0 => OfStore::Works,
            1 => OfStore::Full,
            _ => OfStore::Broken,
        }
    }

    fn is_slow(&self) -> bool {
        let since = self.at_disk_since.load(Ordering::Relaxed);
        let until = self.slow_until.load(Ordering::Relaxed);
        if since == 0 && until == 0 {
            return false;
        }
        let now = self.now();
        now < until || (since != 0 && now.saturating_sub(since) > micros(SLOW_ABOVE))
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

    /// What the writer does from here on may wait for the disk.
    pub(super) fn turns_to_disk(&self) {
        self.at_disk_since.store(self.now().max(1), Ordering::Relaxed);
    }

    pub(super) fn leaves_disk(&self) {
        let since = self.at_disk_since.swap(0, Ordering::Relaxed);
        let now = self.now();
        if since != 0 && now.saturating_sub(since) > micros(SLOW_ABOVE) {
            self.slow_until.store(now + micros(SLOW_FOR), Ordering::Relaxed);
        } else if now >= self.slow_until.load(Ordering::Relaxed) {
            self.slow_until.store(0, Ordering::Relaxed);
        }
    }

    /// An entry found no room in the queue.
    pub(super) fn overruns(&self) {
        self.overrun.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_overrun(&self) -> bool {
        self.overrun.load(Ordering::Relaxed)
    }

    /// The queue has room again.
    pub(super) fn overrun_ends(&self) {
        self.overrun.store(false, Ordering::Relaxed);
    }

    pub(super) fn broke(&self, error: StoreError) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        self.store.store(OfStore::Broken as u8, Ordering::Relaxed);
        self.tell();
    }

    /// The store works and holds this much.
    pub(super) fn works(&self, used_bytes: u64) {
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        let full_at = match self.of_store() {
            OfStore::Full => self.capacity_bytes - self.capacity_bytes / ROOM_SHARE,
            OfStore::Works | OfStore::Broken => self.capacity_bytes,
        };
        let found = if used_bytes >= full_at {
            OfStore::Full
        } else {
            OfStore::Works
        };
        self.store.store(found as u8, Ordering::Relaxed);
        self.tell();
    }

    /// Says what the state is, once it is another: by whoever looks first, because the writer cannot while the disk
    /// holds it.
    pub(super) fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        if std::mem::replace(&mut *told, state) == state {
            return;
        }
        let (used_bytes, capacity_bytes) = (self.used_bytes(), self.capacity_bytes);
        match state {
            State::Normal => tracing::info!(used_bytes, "journal is normal again"),
            State::Slow => {
                tracing::warn!("journal is slow: the disk lets it wait, answers go first and their records follow")
            }
            State::Overrun => tracing::error!(
                "journal is overrun: more records wait in memory for the disk than have room there, what comes beyond is lost; see to the disk, it goes on by itself"
            ),
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
