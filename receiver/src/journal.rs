//! The journal: every record on disk before its callback is answered, and kept until Kafka has it.
//!
//! Constraints
//! - It is on the path of every answer, so an append costs the caller one short lock and never a wait for the disk.
//! - A sync costs the same for one record as for many and more than all else here, so one writer thread collects
//!   what waits while the last sync runs: under load the groups grow by themselves, and by a pace (`writer.rs`).
//! - Bounded in memory (the queue in front of the writer, the tail behind it) and on disk ([`Options::bytes_max`]).
//! - Nothing on disk is trusted. What cannot be read is skipped, is said aloud and counted, and never stops a start.
//!   What came back although it was trimmed is read once more: twice is better than not at all.
//! - Knows nothing of Kafka or of callbacks: an entry is bytes.
//!
//! Layout
//! - A position counts entries from 0 and never goes back while the directory lives, trimmed or not.
//! - A block is what one commit made durable: consecutive entries, one frame in a file. The frame's header has the
//!   position of its first entry and their number, so that positions and holes are known without reading a block.
//! - Frames stand in segments, files of up to 16 MiB (`store.rs` says why they are our own).
//! - A file beside the store, `journal.positions`, remembers what was trimmed and written, so that the number of entries
//!   that damage took is known though they are gone. Nothing is ever trimmed because of it.
//!
//! Durable means: [`Durability::Host`], fdatasync has returned, survives power loss; [`Durability::Process`], the
//! kernel has the bytes, survives `kill -9` but not power loss.
//!
//! The life of an entry: `append` puts it into the queue -> the writer encodes a block and commits it together with
//! how far all is trimmed -> whoever awaits it wakes with its position -> the publisher reads the block, from the tail
//! in memory when it keeps up, else from the store -> Kafka acknowledges it -> `trim` -> forgotten with the next commit
//! -> the space comes back when all of its segment is trimmed.
//!
//! When the disk refuses: what waits is held in the queue, callers are not waited for ([`State`]), and the store is
//! opened again until it works; it goes on where it was, with the same block. What does not fit into the queue meanwhile
//! is refused ([`AppendError`]), and whoever appended it counts it. While the disk hangs, the writer hangs with it: the
//! state is known and said without it ([`Journal::look`]), and a close leaves it behind. Where damage took blocks, the
//! reader meets the hole, counts it and passes over.
//!
//! Accounting: `used_bytes` is what stands in the segments that hold a record which is kept. A share of `bytes_max` is
//! kept free for what segments take beyond that, see [`Options::capacity`]. How long the journal lasts
//! ([`Journal::lasting`]) is what is free of it, or of the disk if that is less, divided by what entries took on disk in
//! the last minute or so.

mod append;
mod block;
mod condition;
mod fill;
mod frame;
mod lasting;
mod metrics;
mod positions;
mod queue;
mod rate;
mod recovery;
mod segment;
mod shared;
mod spare;
mod store;
mod tail;
mod waking;
mod writer;

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus_client::registry::Registry;

pub use append::{Append, AppendError};
pub use block::Block;
pub use condition::State;
pub use lasting::Lasting;
pub use recovery::{OpenError, Recovery};
pub use store::StoreError;

use shared::Shared;
use writer::Writer;

/// The place of an entry: how many were appended before it.
pub type Position = u64;

/// Where the journal lies and how much it may hold.
#[derive(Clone, Debug)]
pub struct Options {
    /// Owned by this journal alone; created where it is missing.
    pub directory: PathBuf,
    /// What the journal may take of the disk.
    pub bytes_max: u64,
    /// When an entry counts as written.
    pub durability: Durability,
}

/// When an entry counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk: survives power loss.
    Host,
    /// In the page cache: survives the death of the process.
    Process,
}

impl Options {
    /// What blocks may take of `bytes_max`. The rest is for what segments take beyond the blocks in them.
    pub fn capacity(&self) -> u64 {
        self.bytes_max
            .saturating_sub(spare::BEYOND_RECORDS * self.segment_bytes())
    }

    /// Of one file. Space comes back by whole files, so a small journal has small ones; 16 MiB are a few seconds of the
    /// highest load, and a moment of a start.
    fn segment_bytes(&self) -> u64 {
        const SEGMENTS: u64 = 64;
        (self.bytes_max / SEGMENTS).clamp(4 << 10, 16 << 20)
    }
}

/// A handle to the journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    writer: Arc<WriterThread>,
    recovery: Arc<Recovery>,
}

/// Closes the journal with the last handle, so that no thread and no lock outlives it, unless the disk holds them.
struct WriterThread {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Running {
    handle: JoinHandle<()>,
    /// Nothing is sent: its other side is gone when the thread is.
    ended: Receiver<()>,
}

/// How long a close waits for the disk. A disk that works writes what waits, 16 MiB at most, in less; one that is reset
/// or fails over may need seconds. With the last answers, 4 s, and publishing, 18 s, before it, a stop stays below the
/// 30 s after which container runtimes kill, and nobody would be told of what is lost.
const CLOSE_MAX: Duration = Duration::from_secs(6);

impl Journal {
    /// Opens or creates the journal. What is damaged is skipped; a full disk is waited for in the state `Broken`.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (store, recovery) = recovery::open(&options)?;
        let opened = store.is_some();
        let shared = Arc::new(Shared::new(&options, store, recovery.first, recovery.next));
        shared.tell_opened(&options, &recovery);
        let writer = Writer::new(options, Arc::clone(&shared));
        let (runs, ended) = mpsc::channel();
        let handle = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let _runs: mpsc::Sender<()> = runs;
                writer.run(opened);
            })
            .map_err(|source| OpenError::Thread { source })?;
        let writer = WriterThread {
            shared: Arc::clone(&shared),
            running: Mutex::new(Some(Running { handle, ended })),
        };
        Ok(Self {
            shared,
            writer: Arc::new(writer),
            recovery: Arc::new(recovery),
        })
    }

    /// Puts the entry into the queue, at once and without blocking. Await what is returned to know that it is durable,
    /// or drop it: the entry is written all the same.
    pub fn append(&self, entry: Vec<u8>) -> Append {
        self.append_with(|| entry)
    }

    /// The same for an entry that holds its own place among the entries: `entry` makes it, in their order and one at a
    /// time, so it must be quick. It is called for an entry that is refused as well.
    pub fn append_with(&self, entry: impl FnOnce() -> Vec<u8>) -> Append {
        self.shared.append(entry)
    }

    /// How well appending goes at present. A few atomic loads, and at most the time.
    pub fn state(&self) -> State {
        self.shared.condition.state()
    }

    /// Logs what has changed since it was last said. To be called every so often: while the disk hangs, the journal's
    /// own thread cannot.
    pub fn look(&self) {
        self.shared.look();
    }

    /// The block that starts at `from`, or the first one after it: blocks between were lost. `None` at the end, or
    /// where all behind `from` was lost. Blocks, may read the disk. `from` is 0 or the end of a block read before.
    pub fn read(&self, from: Position) -> Result<Option<Block>, StoreError> {
        self.shared.read(from)
    }

    /// The newest block. `None` in an empty journal. Blocks, may read the disk.
    pub fn last_block(&self) -> Result<Option<Block>, StoreError> {
        self.shared.last_block()
    }

    /// Blocks until the entry at `position` is durable; false when `timeout` was over first.
    pub fn wait_for(&self, position: Position, timeout: Duration) -> bool {
        self.shared.tail.wait_for(position, timeout)
    }

    /// Forgets all whole blocks before `before`.
    pub fn trim(&self, before: Position) {
        self.shared.queue.trim(before);
    }

    /// The oldest position that is kept.
    pub fn first_position(&self) -> Position {
        self.shared.tail.first()
    }

    /// The position that the next entry will get.
    pub fn next_position(&self) -> Position {
        self.shared.tail.next()
    }

    /// Entries that are kept.
    pub fn backlog_records(&self) -> u64 {
        let first = self.first_position();
        self.next_position().saturating_sub(first)
    }

    /// What counts against [`Journal::capacity_bytes`]; the module's header says how.
    pub fn used_bytes(&self) -> u64 {
        self.shared.condition.used_bytes()
    }

    /// From here on the journal is full.
    pub fn capacity_bytes(&self) -> u64 {
        self.shared.condition.capacity_bytes()
    }

    /// How long it still takes records at the present rate while nothing is trimmed.
    pub fn lasting(&self) -> Lasting {
        self.shared.condition.lasting()
    }

    /// What was found when the journal was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Puts the journal's metrics into the registry.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Refuses further entries. Those that wait are still written, read and trimmed, until [`Journal::close`].
    pub fn seal(&self) {
        self.shared.queue.seal();
    }

    /// Whether entries wait to be written or are being written. Asked before [`Journal::next_position`], it leaves none
    /// in between.
    pub fn has_waiting(&self) -> bool {
        self.shared.queue.has_unwritten()
    }

    /// Refuses further entries, writes what waits, joins the writer. Blocks, for at most 6 s: then the disk hangs, what
    /// waits is given up, and the writer is left behind. The second call has nothing to do.
    pub fn close(&self) {
        self.writer.close();
    }
}

impl WriterThread {
    fn close(&self) {
        self.shared.queue.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { handle, ended }) = running else {
            return;
        };
        if ended.recv_timeout(CLOSE_MAX) == Err(RecvTimeoutError::Timeout) {
            self.shared.give_up(AppendError::Broken(Arc::new(StoreError::Hangs)));
            return;
        }
        if handle.join().is_err() {
            tracing::error!("the journal's writer panicked");
        }
        self.shared.give_up(AppendError::Closing); // nothing, unless it panicked
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.close();
    }
}
