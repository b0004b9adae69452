use bytes::Bytes;

use super::Position;

/// Consecutive entries that became durable together. Cheap to clone: the bytes are shared.
///
/// Value: version (1 byte), then for each entry its length (4 bytes, big-endian) and its bytes.
#[derive(Clone, Debug)]
pub struct Block {
    first: Position,
    count: u32,
    value: Bytes,
}

/// The value is not one that [`Block::encode`] has made.
#[derive(Debug, thiserror::Error)]
#[error("block at position {first} does not hold its {count} entries")]
pub(super) struct BlockError {
    first: Position,
    count: u32,
}

impl BlockError {
    pub(super) fn new(first: Position, count: u32) -> Self {
        Self { first, count }
    }
}

const VERSION: u8 = 1;
const LENGTH_BYTES: usize = size_of::<u32>();

impl Block {
    /// The position of the first entry.
    pub fn first(&self) -> Position {
        self.first
    }

    /// The position after the last entry, where the next block starts.
    pub fn end(&self) -> Position {
        self.first + u64::from(self.count)
    }

    /// The entries with their positions.
    pub fn entries(&self) -> impl Iterator<Item = (Position, &[u8])> {
        (self.first..).zip(Entries {
            rest: self.value.get(1..).unwrap_or_default(),
        })
    }

    pub(super) fn encode<'entry>(
        first: Position,
        entries: impl ExactSizeIterator<Item = &'entry [u8]> + Clone,
    ) -> Self {
        let bytes: usize = entries.clone().map(|entry| LENGTH_BYTES + entry.len()).sum();
        let mut value = Vec::with_capacity(1 + bytes);
        value.push(VERSION);
        let count = entries.len() as u32; // the queue hands out at most BLOCK_ENTRIES_MAX
        for entry in entries {
            value.extend_from_slice(&(entry.len() as u32).to_be_bytes()); // far below 4 GiB: the queue is
            value.extend_from_slice(entry);
        }
        Self {
            first,
            count,
            value: Bytes::from(value),
        }
    }

    pub(super) fn decode(first: Position, count: u32, value: Bytes) -> Result<Self, BlockError> {
        let mut entries = Entries {
            rest: value.get(1..).unwrap_or_default(),
        };
        let whole =
            value.first() == Some(&VERSION) && entries.by_ref().count() == count as usize && entries.rest.is_empty();
        if !whole {
            return Err(BlockError { first, count });
        }
        Ok(Self { first, count, value })
    }

    pub(super) fn value(&self) -> &Bytes {
        &self.value
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

struct Entries<'block> {
    rest: &'block [u8],
}

impl<'block> Iterator for Entries<'block> {
    type Item = &'block [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<LENGTH_BYTES>()?;
        let (entry, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.rest = rest;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_block_gives_back_its_entries(
            first in 0..u64::MAX / 2,
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..20),
        ) {
            let block = Block::encode(first, entries.iter().map(Vec::as_slice));
            let block = Block::decode(first, entries.len() as u32, block.value().clone()).expect("own encoding");
            prop_assert_eq!(block.end(), first + entries.len() as u64);
            let expected = (first..).zip(entries.iter().map(Vec::as_slice));
            prop_assert!(block.entries().eq(expected));
        }

        #[test]
        fn any_bytes_are_a_block_or_an_error(value in prop::collection::vec(any::<u8>(), 0..60), count in 0u32..5) {
            if let Ok(block) = Block::decode(7, count, Bytes::from(value)) {
                prop_assert_eq!(block.entries().count(), count as usize);
            }
        }
    }
}
