//! What stands in a segment: frames, one behind the other, and four zero bytes behind the last.
//!
//! A frame is a header of 40 bytes (little-endian) and a stored block:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 4 | magic | not in any text, so no record holds one as it came |
//! | 4 | header's CRC-32 | of what follows up to the block, begun with the segment's salt |
//! | 4 | block's CRC-32 | of what is stored, begun with the salt |
//! | 4 | count | entries of the block; 0 in a mark, which tells positions and holds nothing |
//! | 8 | first | position of the first entry |
//! | 8 | trimmed before | all positions before it were trimmed when this was written |
//! | 4 | length | of the block |
//! | 4 | stored | of what is stored: less than the length means lz4, as much means the block as it is |
//!
//! The salt is another one in each life of a file, and nobody outside knows it. So what a recycled file held before, and
//! a frame that somebody put into a record, is never taken for a frame.

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into, compress_into_with_table, get_maximum_output_size};

use super::Position;
use super::block::{Block, BlockError};

pub(super) const HEADER_BYTES: usize = 40;
/// Behind the last frame: what is not zero there is a write that was not finished.
pub(super) const END: [u8; 4] = [0; 4];
/// A mark takes so much with its end.
pub(super) const MARK_BYTES: u64 = (HEADER_BYTES + END.len()) as u64;
pub(super) const MAGIC: [u8; 4] = [0xff, 0x00, b'J', 0xfe];
/// Where what the header's checksum covers begins.
const COVERED_FROM: usize = 8;
/// Twice what the journal's queue holds: no block is larger, whatever a header says.
const BLOCK_BYTES_MAX: u32 = 32 << 20;
/// From there on lz4_flex takes a table of twice the size, and would keep it for every small block behind.
const SMALL_TABLE_BYTES_MAX: usize = u16::MAX as usize;
/// A block of the usual bound, 256 KiB, and what lz4 may need beyond; one huge entry does not keep its megabytes.
const BUFFER_BYTES_KEPT: usize = 320 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) first: Position,
    pub(super) count: u32,
    pub(super) trimmed_before: Position,
    length: u32,
    stored: u32,
    checksum: u32,
}

impl Header {
    /// `None` for what is no header of a segment with this salt.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES], salt: u32) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (header_checksum, covered) = rest.split_first_chunk::<4>()?;
        if *magic != MAGIC || u32::from_le_bytes(*header_checksum) != checksum(salt, covered) {
            return None;
        }
        let (checksum, rest) = covered.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (first, rest) = rest.split_first_chunk()?;
        let (trimmed_before, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (stored, _) = rest.split_first_chunk()?;
        let header = Self {
            first: u64::from_le_bytes(*first),
            count: u32::from_le_bytes(*count),
            trimmed_before: u64::from_le_bytes(*trimmed_before),
            length: u32::from_le_bytes(*length),
            stored: u32::from_le_bytes(*stored),
            checksum: u32::from_le_bytes(*checksum),
        };
        let possible = header.length <= BLOCK_BYTES_MAX
            && header.stored <= header.length
            && header.first.checked_add(u64::from(header.count)).is_some();
        possible.then_some(header)
    }

    /// The position after its last entry.
    pub(super) fn end(&self) -> Position {
        self.first + u64::from(self.count)
    }

    pub(super) fn is_mark(&self) -> bool {
        self.count == 0
    }

    /// Of what is stored behind the header.
    pub(super) fn stored_bytes(&self) -> usize {
        self.stored as usize
    }

    /// Of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.stored)
    }

    pub(super) fn is_whole(&self, stored: &[u8], salt: u32) -> bool {
        stored.len() == self.stored_bytes() && checksum(salt, stored) == self.checksum
    }

    /// The block, of stored bytes that are whole.
    pub(super) fn block(&self, stored: Vec<u8>) -> Result<Block, BlockError> {
        let value = if self.stored == self.length {
            stored
        } else {
            lz4_flex::decompress(&stored, self.length as usize).map_err(|_| BlockError::new(self.first, self.count))?
        };
        Block::decode(self.first, self.count, Bytes::from(value))
    }
}

/// Makes frames in one buffer, which is neither emptied nor filled with zeros in between: only what a frame needs of it is
/// touched. The same for lz4's table.
#[derive(Default)]
pub(super) struct Frames {
    /// As long as the longest frame so far may have become.
    buffer: Vec<u8>,
    table: CompressTable,
}

impl Frames {
    /// The frame of the block, or the mark that says `next` is the next position; and the end behind it.
    pub(super) fn make(&mut self, block: Option<&Block>, next: Position, trimmed_before: Position, salt: u32) -> &[u8] {
        match block {
            Some(block) => self.of_block(block, trimmed_before, salt),
            None => self.of_mark(next, trimmed_before, salt),
        }
    }

    fn of_block(&mut self, block: &Block, trimmed_before: Position, salt: u32) -> &[u8] {
        let value = block.value();
        self.make_room(get_maximum_output_size(value.len()));
        let room = &mut self.buffer[HEADER_BYTES..];
        let compressed = match value.len() < SMALL_TABLE_BYTES_MAX {
            true => compress_into_with_table(value, room, &mut self.table),
            false => compress_into(value, room),
        };
        let stored = match compressed {
            Ok(stored) if stored < value.len() => stored,
            _ => {
                room[..value.len()].copy_from_slice(value);
                value.len()
            }
        };
        self.finish(block.first(), block.count(), trimmed_before, value.len(), stored, salt)
    }

    fn of_mark(&mut self, next: Position, trimmed_before: Position, salt: u32) -> &[u8] {
        self.make_room(0);
        self.finish(next, 0, trimmed_before, 0, 0, salt)
    }

    /// For a frame of so many stored bytes, at most 32 MiB: the queue holds less.
    fn make_room(&mut self, stored: usize) {
        let frame_bytes = HEADER_BYTES + stored + END.len();
        if self.buffer.len() < frame_bytes {
            self.buffer.resize(frame_bytes, 0);
        } else if self.buffer.len() > BUFFER_BYTES_KEPT {
            self.buffer.truncate(BUFFER_BYTES_KEPT.max(frame_bytes));
            self.buffer.shrink_to_fit();
        }
    }

    fn finish(
        &mut self,
        first: Position,
        count: u32,
        trimmed_before: Position,
        length: usize,
        stored: usize,
        salt: u32,
    ) -> &[u8] {
        let (header, rest) = self.buffer.split_at_mut(HEADER_BYTES);
        let (stored, rest) = rest.split_at_mut(stored);
        let mut covered = [0; HEADER_BYTES - COVERED_FROM];
        covered[..4].copy_from_slice(&checksum(salt, stored).to_le_bytes());
        covered[4..8].copy_from_slice(&count.to_le_bytes());
        covered[8..16].copy_from_slice(&first.to_le_bytes());
        covered[16..24].copy_from_slice(&trimmed_before.to_le_bytes());
        covered[24..28].copy_from_slice(&(length as u32).to_le_bytes()); // far below 4 GiB, see `make_room`
        covered[28..].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        header[..4].copy_from_slice(&MAGIC);
        header[4..COVERED_FROM].copy_from_slice(&checksum(salt, &covered).to_le_bytes());
        header[COVERED_FROM..].copy_from_slice(&covered);
        rest[..END.len()].copy_from_slice(&END);
        let frame_bytes = HEADER_BYTES + stored.len() + END.len();
        &self.buffer[..frame_bytes]
    }
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken_apart(frame: &[u8], salt: u32) -> Option<(Header, Option<Block>)> {
        let (header, rest) = frame.split_first_chunk()?;
        let header = Header::parse(header, salt)?;
        let stored = rest.get(..header.stored_bytes())?;
        let whole = header.is_whole(stored, salt);
        Some((header, whole.then(|| header.block(stored.to_vec()).expect("a block"))))
    }

    proptest! {
        #[test]
        fn a_frame_gives_back_its_block_and_nothing_else_does(
            first in 0..u64::MAX / 2,
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20),
            repeated in 1usize..40,
            (place, bit) in (any::<prop::sample::Index>(), 0..8),
            salt in any::<u32>(),
        ) {
            let entries: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.repeat(repeated)).collect();
            let block = Block::encode(first, entries.iter().map(Vec::as_slice));
            let frame = Frames::default().of_block(&block, first / 2, salt).to_vec();
            prop_assert!(frame.ends_with(&END));

            let (header, kept) = taken_apart(&frame, salt).expect("a frame");
            prop_assert_eq!((header.trimmed_before, header.frame_bytes()), (first / 2, (frame.len() - END.len()) as u64));
            let kept = kept.expect("whole");
            prop_assert!(kept.entries().eq(block.entries()));

            prop_assert!(taken_apart(&frame, salt.wrapping_add(1)).is_none());
            let mut altered = frame.clone();
            altered[place.index(frame.len() - END.len())] ^= 1u8 << bit;
            prop_assert!(taken_apart(&altered, salt).is_none_or(|(_, block)| block.is_none()));
        }
    }

    #[test]
    fn a_mark_tells_positions_and_holds_no_entry() {
        let frame = Frames::default().of_mark(17, 9, 5).to_vec();
        let header = frame.first_chunk().and_then(|header| Header::parse(header, 5));
        let header = header.expect("a header");
        assert!(header.is_mark() && frame[HEADER_BYTES..] == END);
        assert_eq!((header.first, header.end(), header.trimmed_before), (17, 17, 9));
    }
}
