//! The journal's only contact with fjall: its settings, and the few operations that are used.
//!
//! Why these settings. Values stand apart from keys (`KvSeparationOptions`), because only then does fjall give the
//! space of a trimmed backlog back; blocks are trimmed in order, so a file of values dies as a whole and is dropped
//! unread, and rewriting half-dead ones (`age_cutoff`) would be work for nothing. A first level that merges at once
//! (`l0_threshold` 1) finds dead files after one flush; it moves keys only. Memory: a small memtable and nearly no
//! cache, because the publisher reads in order and once.
//!
//! Why this module rotates the memtable itself instead of leaving it to fjall: every commit beyond fjall's limit puts
//! a request into a queue of 1,000 that its worker both reads and writes, so a long merge with one worker would end
//! in a deadlock, and with two of them one spins. And an idle journal would never merge, so never shrink.

use std::path::Path;
use std::sync::Arc;
use std::{panic, thread};

use fjall::compaction::Leveled;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::block::{Block, BlockError};
use super::positions::Positions;
use super::{Durability, Position};
use crate::priority;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// fjall says so.
    #[error("{0}")]
    Fjall(#[from] fjall::Error),
    /// fjall panicked over what it found on disk.
    #[error("the store panicked while it was opened")]
    Panicked,
    /// A key that is none of ours.
    #[error("the store holds a key that is not a block's")]
    Key,
    /// A value that is none of ours.
    #[error(transparent)]
    Block(BlockError),
    /// A reader met damage; opening again shows what can be kept.
    #[error("a part of the store cannot be read")]
    Doubted,
    /// It is not open at present; try again.
    #[error("the store is not open")]
    Away,
}

/// The positions that the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: Position,
    pub(super) next: Position,
    /// Positions in between that were not trimmed and for which there is no block.
    pub(super) missing: u64,
    /// Positions for which there is a block, though they were trimmed once.
    pub(super) again: u64,
}

/// What is to be removed.
pub(super) struct Trim {
    pub(super) blocks: Vec<(Position, u32)>,
    /// The oldest position that is kept then.
    pub(super) first: Position,
}

pub(super) struct Store {
    database: Database,
    blocks: Keyspace,
}

const KEY_BYTES: usize = 12;
/// Remembers the next position while there is no block. Sorts behind all of them.
const MARK: [u8; KEY_BYTES + 1] = [u8::MAX; KEY_BYTES + 1];

/// What a block adds to [`Store::filed_bytes`] beside its value: its entry in a table, whose keys share their beginning.
pub(super) const BLOCK_OVERHEAD_BYTES: u64 = 25;

/// What one flush writes becomes one file of values. Larger means more memory, smaller means more files.
pub(super) const UNFLUSHED_BYTES_MAX: u64 = 16 << 20;
const CACHE_BYTES: u64 = 1 << 20;
/// 4 GiB of backlog are 256 files of values; a reader in order needs one of them.
const OPEN_FILES_MAX: usize = 64;

impl Store {
    /// On a thread of its own, whose priority fjall's worker inherits.
    pub(super) fn open(directory: &Path) -> fjall::Result<Self> {
        let opened = thread::scope(|scope| {
            let opening = scope.spawn(|| {
                priority::give_way(priority::STORING);
                Self::open_here(directory)
            });
            opening.join()
        });
        opened.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    fn open_here(directory: &Path) -> fjall::Result<Self> {
        let database = Database::builder(directory)
            .worker_threads(1) // merging is rare and small, and one thread cannot spin on another
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .journal_compression(CompressionType::None) // on the path of an answer
            .max_journaling_size(64 << 20) // the least that fjall allows
            .manual_journal_persist(true)
            .open()?;
        let values = KvSeparationOptions::default()
            .compression(CompressionType::Lz4) // off the path, and an outage may last three times longer
            .file_target_size(UNFLUSHED_BYTES_MAX)
            .separation_threshold(256)
            .age_cutoff(0.0);
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(1)))
                .with_kv_separation(Some(values))
        };
        let blocks = database.keyspace("blocks", options)?;
        Ok(Self { database, blocks })
    }

    /// Walks over all keys, which also proves that they can be read. What `known` says of them is what they are
    /// measured by.
    pub(super) fn extent(&self, known: Positions) -> Result<Extent, StoreError> {
        let mut extent: Option<Extent> = None;
        for guard in self.blocks.range([0; KEY_BYTES]..=[u8::MAX; KEY_BYTES]) {
            let (first, count) = parse_key(&guard.key()?)?;
            let end = first + u64::from(count);
            let extent = extent.get_or_insert(Extent {
                first,
                next: first,
                ..Extent::default()
            });
            extent.missing += first.saturating_sub(extent.next.max(known.first));
            extent.again += end.min(known.first).saturating_sub(first);
            extent.next = end;
        }
        let mark = self.blocks.get(MARK)?;
        let mark = mark
            .and_then(|mark| mark.as_ref().try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let mut extent = extent.unwrap_or_else(|| {
            let first = mark.max(known.first);
            Extent {
                first,
                next: first,
                ..Extent::default()
            }
        });
        extent.next = extent.next.max(mark);
        extent.missing += known.next.saturating_sub(extent.next.max(known.first));
        extent.next = extent.next.max(known.next);
        Ok(extent)
    }

    /// In one batch: removes `trimmed`, adds `block`, remembers `mark`. Durable when it returns.
    pub(super) fn commit(
        &self,
        trimmed: &[(Position, u32)],
        block: Option<&Block>,
        mark: Option<Position>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(match durability {
            Durability::Host => PersistMode::SyncData,
            Durability::Process => PersistMode::Buffer,
        }));
        for &(first, count) in trimmed {
            batch.remove(&self.blocks, key(first, count));
        }
        if let Some(block) = block {
            batch.insert(&self.blocks, key(block.first(), block.count()), block.value().clone());
        }
        if let Some(mark) = mark {
            batch.insert(&self.blocks, MARK, mark.to_be_bytes());
        }
        batch.commit()?;
        Ok(())
    }

    /// Whether fjall's own thread still works; a failed flush shows here or at the next commit, not by itself.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        Ok(self.database.persist(PersistMode::Buffer)?)
    }

    /// The first block at or after `from` that can be read. One that cannot is skipped: it is the reader who knows
    /// what is missing, by the position. A key that cannot be read is an error: who knows what comes after it.
    pub(super) fn block_from(&self, from: Position) -> Result<Option<Block>, StoreError> {
        for guard in self.blocks.range(key(from, 0)..=[u8::MAX; KEY_BYTES]) {
            let block_key = guard.key()?;
            let (first, count) = parse_key(&block_key)?;
            match self.block(&block_key, first, count) {
                Ok(Some(block)) => return Ok(Some(block)),
                Ok(None) => {} // trimmed meanwhile
                Err(error) => {
                    tracing::error!(first, count, error = %error, "a block cannot be read, its records are lost")
                }
            }
        }
        Ok(None)
    }

    /// The newest block.
    pub(super) fn last_block(&self) -> Result<Option<Block>, StoreError> {
        let Some(guard) = self.blocks.range([0; KEY_BYTES]..=[u8::MAX; KEY_BYTES]).next_back() else {
            return Ok(None);
        };
        let block_key = guard.key()?;
        let (first, count) = parse_key(&block_key)?;
        self.block(&block_key, first, count)
    }

    fn block(&self, block_key: &[u8], first: Position, count: u32) -> Result<Option<Block>, StoreError> {
        let value = self.blocks.get(block_key)?;
        value
            .map(|value| Block::decode(first, count, value).map_err(StoreError::Block))
            .transpose()
    }

    /// The blocks from `first` on that end at or before `before`, at most `max`.
    pub(super) fn trimmable(&self, first: Position, before: Position, max: usize) -> Result<Trim, StoreError> {
        let mut blocks = Vec::new();
        for guard in self.blocks.range(key(first, 0)..key(before, 0)) {
            let (first, count) = parse_key(&guard.key()?)?;
            if blocks.len() == max || first + u64::from(count) > before {
                return Ok(Trim { blocks, first });
            }
            blocks.push((first, count));
        }
        // Nothing is left before it, also where damage left a hole.
        Ok(Trim { blocks, first: before })
    }

    /// What counts against the journal's capacity.
    pub(super) fn used_bytes(&self) -> u64 {
        self.filed_bytes() + self.unflushed_bytes()
    }

    /// What has been written but not yet into files of its own: it stands in the log and in memory.
    pub(super) fn unflushed_bytes(&self) -> u64 {
        self.database.write_buffer_size()
    }

    /// What the files hold, trimmed blocks included until the next merge.
    pub(super) fn filed_bytes(&self) -> u64 {
        self.blocks.disk_space()
    }

    /// What could be given back at once, had fjall a reason to.
    pub(super) fn dead_bytes(&self) -> u64 {
        self.blocks.fragmented_blob_bytes()
    }

    /// Has what is in memory written into files, on fjall's own thread. False while the last time still runs, so
    /// that at most two memtables exist.
    pub(super) fn flush(&self) -> Result<bool, StoreError> {
        Ok(self.blocks.sealed_memtable_count() == 0 && self.blocks.rotate_memtable()?)
    }

    /// Flushes so that fjall merges keys and drops files. It finds the dead ones in one merge and drops them in the
    /// next, and merges only tables that overlap: the mark, written each time, makes sure that they do.
    pub(super) fn merge(&self, next: Position) -> Result<bool, StoreError> {
        self.commit(&[], None, Some(next), Durability::Process)?;
        self.flush()
    }
}

/// What the block's value takes on disk.
pub(super) fn stored_bytes(block: &Block) -> usize {
    lz4_flex::compress(block.value()).len()
}

fn key(first: Position, count: u32) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&count.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Result<(Position, u32), StoreError> {
    let (first, count) = key.split_first_chunk().ok_or(StoreError::Key)?;
    let count = count.try_into().map_err(|_| StoreError::Key)?;
    Ok((u64::from_be_bytes(*first), u32::from_be_bytes(count)))
}
