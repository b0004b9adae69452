use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::append::AppendError;
use super::block::Block;
use super::condition::OfStore;
use super::fill::Fill;
use super::lasting::Lasting;
use super::positions::{Positions, PositionsFile};
use super::queue::Wants;
use super::shared::Shared;
use super::store::{Extent, Store, StoreError, Trim};
use super::{Durability, Options, Position, recovery};

/// A turn at least this often, so that an idle journal notices that space came back.
const TURN: Duration = Duration::from_secs(1);
/// How often it is looked whether the files are where a start would look for them: what is written in between to a
/// directory that was moved away is not found after a crash.
const PLACE_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// Headers read in one turn to find where trimming ends: a millisecond or two, so that no entry waits long for it.
const TRIM_HEADERS_MAX: usize = 1024;
/// Where entries come faster than that, blocks begin at least a pace apart. A block costs as much processor time as
/// answering several callbacks, whatever it makes durable, so under load it is shared by more.
const PACED_PER_SECOND: f64 = 10_000.0;
/// How long that is looked at: a short burst never waits for company.
const PACE_LOOKED_AT: Duration = Duration::from_millis(10);
/// Not behind a block of so many: more hardly save anything, and where the processor is busy blocks grow by themselves.
const SHARED_BY: usize = 32;
/// What pacing adds to an answer, at most, where a block is synced; the reply's deadline is 300 ms. At 30,000 callbacks a
/// second 40 share a sync. Twice as long saves nothing more: measured with 64 callers and with 256, side by side.
const PACE_HOST: Duration = Duration::from_millis(1);
/// The same where it is not.
const PACE_PROCESS: Duration = Duration::from_micros(500);
/// Between two tries to open a broken store: soon enough not to lose records, seldom enough not to fill the log.
const RETRY_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// The one thread that writes. Owns the order of entries, so nothing else needs to.
pub(super) struct Writer {
    options: Options,
    shared: Arc<Shared>,
    /// The store holds `first..next`.
    first: Position,
    next: Position,
    positions: PositionsFile,
    place_looked_at: Instant,
    fill: Fill,
    trim_before: Position,
    more_to_trim: bool,
    /// The block being written. The same one until it is durable, so that a second try replaces what the first may have
    /// left.
    held: Option<Block>,
    tries: usize,
    /// Entries that were taken since.
    taken: usize,
    taken_since: Instant,
    crowded: bool,
    /// No block is taken before.
    paced_until: Option<Instant>,
}

impl Writer {
    pub(super) fn new(options: Options, shared: Arc<Shared>) -> Self {
        let (first, next) = (shared.tail.first(), shared.tail.next());
        Self {
            options,
            shared,
            first,
            next,
            positions: PositionsFile::closed(),
            place_looked_at: Instant::now(),
            fill: Fill::new(Instant::now()),
            trim_before: 0,
            more_to_trim: false,
            held: None,
            tries: 0,
            taken: 0,
            taken_since: Instant::now(),
            crowded: false,
            paced_until: None,
        }
    }

    pub(super) fn run(mut self, opened: bool) {
        let mut goes_on = opened || self.recover(StoreError::Away);
        while goes_on {
            // Whatever is wrong in here, the entries that wait must not die of it.
            let turn = panic::catch_unwind(AssertUnwindSafe(|| self.take_turn()));
            self.shared.condition.leaves_disk();
            goes_on = match turn {
                Ok(Ok(goes_on)) => goes_on,
                Ok(Err(error @ StoreError::NoRoom(_))) => self.wait_for_room(error),
                Ok(Err(error)) => self.recover(error),
                Err(_) => self.recover(StoreError::Panicked),
            };
        }
        self.put_store(None);
    }

    /// Collects, commits, tells. False when there is nothing left to do.
    fn take_turn(&mut self) -> Result<bool, StoreError> {
        let full = self.shared.condition.of_store() == OfStore::Full;
        let holding = self.held.is_some();
        let wants = if holding || full {
            Wants::NoEntries
        } else {
            Wants::Entries
        };
        let patience = if holding || self.more_to_trim {
            Duration::ZERO
        } else {
            TURN
        };
        self.keep_pace();
        let mut work = self.shared.queue.collect(wants, self.trim_before, patience);
        if work.closing && full && !holding {
            // What waits when the journal closes is written even if it is full: it is bounded by the queue.
            work = self
                .shared
                .queue
                .collect(Wants::Entries, self.trim_before, Duration::ZERO);
        }
        self.trim_before = self.trim_before.max(work.trim_before);
        let last = work.closing && !holding && work.entries.is_empty();
        // All that follows: each part of it may hang, and then answers must not wait for the next turn.
        self.shared.condition.turns_to_disk();
        self.hold(&work.entries);
        if self.shared.condition.is_overrun() && self.shared.queue.has_room() {
            self.shared.condition.overrun_ends();
        }
        self.commit()?;
        Ok(!last || self.more_to_trim)
    }

    fn keep_pace(&mut self) {
        if let Some(until) = self.paced_until.take() {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// So many entries were taken just now.
    fn set_pace(&mut self, entries: usize) {
        let now = Instant::now();
        self.taken += entries;
        let looked_at = now.duration_since(self.taken_since);
        if looked_at >= PACE_LOOKED_AT {
            self.crowded = self.taken as f64 > PACED_PER_SECOND * looked_at.as_secs_f64();
            (self.taken, self.taken_since) = (0, now);
        }
        let pace = match self.options.durability {
            Durability::Host => PACE_HOST,
            Durability::Process => PACE_PROCESS,
        };
        self.paced_until = (self.crowded && entries < SHARED_BY).then(|| now + pace);
    }

    fn hold(&mut self, entries: &[Vec<u8>]) {
        if entries.is_empty() {
            return;
        }
        self.set_pace(entries.len());
        self.held = Some(Block::encode(self.next, entries.iter().map(Vec::as_slice)));
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let store = shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let store = store.as_ref().ok_or(StoreError::Away)?;
        if shared.doubted.swap(false, Ordering::Relaxed) {
            return Err(StoreError::Doubted);
        }

        store.check()?;
        if self.place_looked_at.elapsed() >= PLACE_LOOKED_AT_EVERY {
            self.place_looked_at = Instant::now();
            store.check_place()?;
        }
        let Trim { first, more } = self.trimmable(store)?;
        let block = self.held.as_ref();
        if first > self.first {
            shared.tail.trim(first); // before the store does, so that no reader takes what is trimmed for lost
        }
        if block.is_some() || first > self.first {
            self.fill
                .add(store.commit(first, self.next, block, self.options.durability)?);
        }
        (self.first, self.more_to_trim) = (first, more);
        self.tell();
        self.remember();
        self.tries = 0;
        shared.tell_fill(store);
        self.tell_lasting();
        Ok(())
    }

    /// Whoever waits has been told by then, so what the file says is never more than the store holds.
    fn remember(&mut self) {
        let (first, next) = (self.first, self.next);
        self.positions.write(&self.options.directory, Positions { first, next });
    }

    fn tell_lasting(&mut self) {
        let condition = &self.shared.condition;
        let room_bytes = match condition.of_store() {
            OfStore::Works => condition.capacity_bytes().saturating_sub(condition.used_bytes()),
            OfStore::Full | OfStore::Broken => 0,
        };
        if let Some(lasting) = self.fill.look(room_bytes, &self.options.directory, Instant::now()) {
            self.shared.tell_lasting(lasting);
        }
    }

    fn trimmable(&self, store: &Store) -> Result<Trim, StoreError> {
        let before = self.trim_before.min(self.next);
        let in_memory = if before <= self.first {
            Some(self.first)
        } else {
            self.shared.tail.trimmable(before)
        };
        match in_memory {
            Some(first) => Ok(Trim { first, more: false }),
            None => store.trimmable(self.first, before, TRIM_HEADERS_MAX),
        }
    }

    /// The block is durable: readers first, then those who wait for it.
    fn tell(&mut self) {
        let Some(block) = self.held.take() else {
            self.shared.tail.trim(self.first);
            return;
        };
        debug_assert_eq!(block.first(), self.next, "positions are dense");
        self.next = block.end();
        self.shared.tail.advance(block.clone());
        let written = self.shared.queue.written();
        let now = Instant::now();
        for entry in &written {
            let took = now.saturating_duration_since(entry.since);
            self.shared.metrics.append_seconds.observe(took.as_secs_f64());
        }
        let waiters = written.into_iter().map(|entry| entry.waiter).collect();
        self.shared.waking.tell(block.first(), waiters);
    }

    /// After a failed write nobody knows what is in the file, so the store is opened anew, until that works; what was to
    /// be written is held. False when the journal is closed meanwhile: then the loss is said, and the process may end.
    fn recover(&mut self, error: StoreError) -> bool {
        self.shared.condition.broke(error);
        self.shared.tell_lasting(Lasting::OVER);
        self.put_store(None);
        loop {
            if !self.pauses() {
                return false;
            }
            let (first, next) = (self.first, self.next);
            match recovery::reopen(&self.options, Positions { first, next }) {
                Ok((store, extent)) => {
                    self.resume(store, extent);
                    return true;
                }
                Err(error) => self.shared.condition.broke(error),
            }
        }
    }

    /// Nothing was written, so the store stays open: what is read from it can be published and trimmed, and that makes
    /// room. False as in [`Writer::recover`].
    fn wait_for_room(&mut self, error: StoreError) -> bool {
        self.shared.condition.broke(error);
        self.shared.tell_lasting(Lasting::OVER);
        self.pauses()
    }

    fn pauses(&mut self) -> bool {
        let pause = RETRY_PAUSES[self.tries.min(RETRY_PAUSES.len() - 1)];
        let closing = self.shared.queue.pause(pause);
        self.tries += 1;
        let goes_on = !closing || self.tries < RETRY_PAUSES.len();
        if !goes_on {
            let error = self.shared.condition.error();
            self.shared
                .give_up(error.map_or(AppendError::Closing, AppendError::Broken));
        }
        goes_on
    }

    /// Positions that were given out are never given again, whatever was found when the store was opened
    /// again.
    fn resume(&mut self, store: Store, extent: Extent) {
        if self.held.is_none() {
            self.next = self.next.max(extent.next);
        }
        self.first = if extent.first == extent.next {
            self.next
        } else {
            extent.first.min(self.next)
        };
        self.shared.tail.reset(self.first, self.next);
        self.positions = PositionsFile::closed(); // it may have been moved away with all else
        self.put_store(Some(store));
        tracing::debug!(first = self.first, next = self.next, "journal was opened again");
    }

    fn put_store(&self, store: Option<Store>) {
        let mut held = self.shared.store.write().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *held, store);
        drop(held);
        drop(former); // may wait for the disk, and no reader has to wait with it
    }
}
