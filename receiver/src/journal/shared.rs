use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::append::{Append, AppendError};
use super::block::Block;
use super::condition::{Condition, OfStore};
use super::lasting::Lasting;
use super::metrics::Metrics;
use super::queue::Queue;
use super::store::{Store, StoreError};
use super::tail::{Found, Tail};
use super::waking::Waking;
use super::{Options, Position, Recovery, fill};

/// A disk that works has written what waits when the journal is sealed, or soon will have.
const STOP_SAID_AFTER: Duration = Duration::from_secs(1);

/// What the handles, the reader and the writer share. The writer alone changes the store, the tail and the condition.
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) tail: Tail,
    pub(super) condition: Condition,
    pub(super) metrics: Metrics,
    pub(super) waking: Waking,
    /// Empty while the store cannot be opened. Locked for writing only to replace it.
    pub(super) store: RwLock<Option<Store>>,
    /// Set by a reader whom the disk refused: the writer opens the store again.
    pub(super) doubted: AtomicBool,
    /// That a stop waits for the disk.
    stop_said: AtomicBool,
}

impl Shared {
    pub(super) fn new(options: &Options, store: Option<Store>, first: Position, next: Position) -> Self {
        Self {
            queue: Queue::default(),
            tail: Tail::new(first, next),
            condition: Condition::new(options.capacity()),
            metrics: Metrics::new(),
            waking: Waking::new(),
            store: RwLock::new(store),
            doubted: AtomicBool::new(false),
            stop_said: AtomicBool::new(false),
        }
    }

    pub(super) fn append(&self, entry: impl FnOnce() -> Vec<u8>) -> Append {
        let append = self.queue.push(entry);
        match append.refusal() {
            Some(AppendError::Overrun { .. }) => self.name_cause(append),
            _ => append,
        }
    }

    pub(super) fn last_block(&self) -> Result<Option<Block>, StoreError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().ok_or(StoreError::Away)?.last_block()
    }

    pub(super) fn read(&self, from: Position) -> Result<Option<Block>, StoreError> {
        match self.tail.find(from) {
            Found::Here(block) => Ok(Some(block)),
            Found::Nowhere => Ok(None),
            Found::InStore => match self.store.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
                Some(store) => store
                    .block_from(from)
                    .inspect_err(|_| self.doubted.store(true, Ordering::Relaxed)),
                None => Err(StoreError::Away),
            },
        }
    }

    /// Nothing is known of the rate yet, so how long it lasts is said later.
    pub(super) fn tell_opened(&self, options: &Options, recovery: &Recovery) {
        self.tell_lasting(Lasting::FOR_EVER);
        let Recovery { first, next, bytes, .. } = recovery;
        self.metrics.fill(*bytes, self.condition.capacity_bytes());
        let (directory, records) = (options.directory.display(), next - first);
        let (bytes_max, free_bytes) = (options.bytes_max, fill::disk_free_bytes(&options.directory));
        tracing::info!(%directory, bytes_max, used_bytes = bytes, records, "journal is open");
        let room_bytes = self.condition.capacity_bytes().saturating_sub(*bytes);
        if let Some(free_bytes) = free_bytes.filter(|free| *free < room_bytes) {
            tracing::warn!(
                %directory, free_bytes, room_bytes,
                "the disk has less room than the journal may take: it will be full before the journal is"
            );
        }
    }

    /// Says what is another than it was, also while the writer hangs.
    pub(super) fn look(&self) {
        self.condition.tell();
        let Some(sealed_before) = Instant::now().checked_sub(STOP_SAID_AFTER) else {
            return;
        };
        let records = self.queue.overdue(sealed_before);
        if records > 0 && !self.stop_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                records,
                "stopping waits for the disk, which has not taken these records yet"
            );
        }
    }

    /// Nothing is written any more: whoever waits is told so, and all are told how many.
    pub(super) fn give_up(&self, error: AppendError) {
        let waiters = self.queue.give_up();
        if waiters.is_empty() {
            return;
        }
        let (entries, cause) = (waiters.len(), error.source().map(tracing::field::display));
        tracing::error!(
            entries,
            cause,
            "journal is closed while it cannot be written: these entries are lost"
        );
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone())); // nobody may want to know
        }
    }

    /// What the store takes of the disk, for all who ask.
    pub(super) fn tell_fill(&self, store: &Store) {
        let used_bytes = store.used_bytes();
        self.condition.works(used_bytes);
        self.metrics.fill(used_bytes, self.condition.capacity_bytes());
    }

    pub(super) fn tell_lasting(&self, lasting: Lasting) {
        self.condition.lasts(lasting);
        self.metrics.lasts(lasting);
    }

    /// The queue overruns because the disk is slow, full or broken; the last two can be named.
    fn name_cause(&self, append: Append) -> Append {
        let cause = match self.condition.of_store() {
            OfStore::Full => Some(AppendError::Full {
                used: self.condition.used_bytes(),
                capacity: self.condition.capacity_bytes(),
            }),
            OfStore::Broken => self.condition.error().map(AppendError::Broken),
            OfStore::Works => {
                self.condition.overruns();
                None
            }
        };
        cause.map_or(append, Append::refused)
    }
}
