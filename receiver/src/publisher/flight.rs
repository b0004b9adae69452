use std::collections::VecDeque;
use std::ops::Range;

use crate::journal::Position;

/// The blocks that are handed over and not wholly acknowledged, in the journal's order. Knows nothing of Kafka.
#[derive(Debug, Default)]
pub(super) struct Flight {
    blocks: VecDeque<Airborne>,
    records: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Airborne {
    first: Position,
    end: Position,
    /// Entries without an acknowledgement; the block is done at 0.
    open: usize,
    bytes: usize,
}

impl Flight {
    /// A block whose entries, all but those settled at once, await an acknowledgement.
    pub(super) fn add(&mut self, first: Position, end: Position, bytes: usize) {
        debug_assert!(
            self.blocks.back().is_none_or(|last| last.end <= first),
            "blocks follow each other"
        );
        let open = usize::try_from(end - first).unwrap_or(usize::MAX);
        self.records += open;
        self.bytes += bytes;
        self.blocks.push_back(Airborne {
            first,
            end,
            open,
            bytes,
        });
    }

    /// The entry at `position` needs nothing more. A position that is not in flight is an old client's, and nothing.
    pub(super) fn settle(&mut self, position: Position) {
        let index = self.blocks.partition_point(|block| block.end <= position);
        if let Some(block) = self
            .blocks
            .get_mut(index)
            .filter(|block| block.first <= position && block.open > 0)
        {
            block.open -= 1;
            self.records -= 1;
        }
    }

    /// The first position of the block that holds `position`.
    pub(super) fn block_of(&self, position: Position) -> Option<Position> {
        let index = self.blocks.partition_point(|block| block.end <= position);
        let block = self.blocks.get(index).filter(|block| block.first <= position)?;
        Some(block.first)
    }

    /// The oldest block, and how many of its entries have no acknowledgement.
    pub(super) fn front(&self) -> Option<(Range<Position>, usize)> {
        let block = self.blocks.front()?;
        Some((block.first..block.end, block.open))
    }

    /// Where the journal may be trimmed to, when a block at the front is done.
    pub(super) fn landed(&mut self) -> Option<Position> {
        let mut end = None;
        while let Some(block) = self.blocks.pop_front_if(|block| block.open == 0) {
            self.bytes -= block.bytes;
            end = Some(block.end);
        }
        end
    }

    /// Entries without an acknowledgement.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The bytes of their blocks.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Forgets all: they are handed to another client. Gives the first position that must be handed over again.
    pub(super) fn abandon(&mut self) -> Option<Position> {
        let first = self.blocks.front().map(|block| block.first);
        *self = Self::default();
        first
    }
}

#[cfg(test)]
mod tests {
    use super::Flight;

    #[test]
    fn only_a_run_of_done_blocks_at_the_front_may_be_trimmed() {
        let mut flight = Flight::default();
        flight.add(0, 2, 20);
        flight.add(2, 3, 10);
        flight.add(5, 7, 20);
        for position in [2, 5, 6] {
            flight.settle(position);
        }
        assert_eq!(flight.landed(), None);
        flight.settle(1);
        assert_eq!(flight.landed(), None);
        flight.settle(0);
        assert_eq!(flight.landed(), Some(7));
        assert!(flight.is_empty());
        assert_eq!((flight.records(), flight.bytes()), (0, 0));
    }

    #[test]
    fn acknowledgements_of_an_abandoned_client_change_nothing() {
        let mut flight = Flight::default();
        flight.add(10, 12, 20);
        flight.settle(9);
        flight.settle(12);
        assert_eq!(flight.records(), 2);
        assert_eq!(flight.abandon(), Some(10));
        flight.settle(10);
        assert_eq!(flight.landed(), None);
    }
}
