use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Position;
use super::block::Block;

/// A publisher that keeps up is behind by one round trip to Kafka: at 20,000 records a second and 100 ms, 1.5 MiB.
/// Beyond this it reads from the store, which is as quick, only not free.
const BYTES_MAX: usize = 4 << 20;

/// The end of the journal in memory: the latest blocks that are durable and not trimmed, and the positions.
pub(super) struct Tail {
    inner: Mutex<Inner>,
    grown: Condvar,
}

struct Inner {
    first: Position,
    next: Position,
    blocks: VecDeque<Block>,
    bytes: usize,
}

/// Where the block asked for is.
pub(super) enum Found {
    Here(Block),
    InStore,
    Nowhere,
}

impl Tail {
    pub(super) fn new(first: Position, next: Position) -> Self {
        Self {
            inner: Mutex::new(Inner {
                first,
                next,
                blocks: VecDeque::new(),
                bytes: 0,
            }),
            grown: Condvar::new(),
        }
    }

    pub(super) fn first(&self) -> Position {
        self.lock().first
    }

    pub(super) fn next(&self) -> Position {
        self.lock().next
    }

    pub(super) fn find(&self, from: Position) -> Found {
        let inner = self.lock();
        if from >= inner.next {
            return Found::Nowhere;
        }
        match inner.blocks.binary_search_by_key(&from, Block::first) {
            Ok(found) => Found::Here(inner.blocks[found].clone()),
            Err(_) => Found::InStore,
        }
    }

    pub(super) fn wait_for(&self, position: Position, timeout: Duration) -> bool {
        let inner = self.lock();
        match self
            .grown
            .wait_timeout_while(inner, timeout, |inner| inner.next <= position)
        {
            Ok((inner, _)) => inner.next > position,
            Err(poisoned) => poisoned.into_inner().0.next > position,
        }
    }

    /// Where the blocks end that end at or before `before`; `None` when older ones are in the store only.
    pub(super) fn trimmable(&self, before: Position) -> Option<Position> {
        let inner = self.lock();
        let oldest = inner.blocks.front()?;
        if oldest.first() > inner.first {
            return None;
        }
        let trimmed = inner.blocks.iter().take_while(|block| block.end() <= before);
        Some(trimmed.last().map_or(inner.first, Block::end))
    }

    /// All before `first` is forgotten.
    pub(super) fn trim(&self, first: Position) {
        let mut inner = self.lock();
        inner.first = first;
        inner.shrink(|inner, oldest| oldest.end() <= inner.first);
    }

    /// The store holds this block at its end.
    pub(super) fn advance(&self, block: Block) {
        let mut inner = self.lock();
        debug_assert_eq!(block.first(), inner.next, "positions are dense");
        inner.next = block.end();
        inner.bytes += block.value().len();
        inner.blocks.push_back(block);
        inner.shrink(|inner, _| inner.bytes > BYTES_MAX);
        drop(inner);
        self.grown.notify_all();
    }

    /// The store was opened again and holds `first..next`.
    pub(super) fn reset(&self, first: Position, next: Position) {
        let mut inner = self.lock();
        *inner = Inner {
            first,
            next,
            blocks: VecDeque::new(),
            bytes: 0,
        };
        drop(inner);
        self.grown.notify_all();
    }

    /// A thread that panicked while it held the lock cannot have left a block half in.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Drops the oldest block while it may go.
    fn shrink(&mut self, may_go: impl Fn(&Self, &Block) -> bool) {
        while let Some(oldest) = self.blocks.front()
            && may_go(self, oldest)
        {
            self.bytes -= oldest.value().len();
            self.blocks.pop_front();
        }
    }
}
