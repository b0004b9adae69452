//! Watches how fast the journal fills, and says how long it lasts before that is over.

use std::path::Path;
use std::time::{Duration, Instant};

use super::block::Block;
use super::lasting::{Lasting, Warned};
use super::rate::Rate;
use super::store;

/// How often it looks: a sample and a question to the file system each time, well below a millisecond.
const EVERY: Duration = Duration::from_secs(1);
/// Before that a rate is a guess, good for a gauge and not for a message.
const SAY_AFTER: Duration = Duration::from_secs(10);
/// What a sample of the compression weighs when the next one comes.
const SAMPLE_FADES: f64 = 0.9;
/// The store's log may take as much again as it has, see [`super::Options::capacity`].
const LOG_GROWS_BYTES: u64 = 64 << 20;

/// Owned by the writer.
pub(super) struct Fill {
    rate: Rate,
    /// Blocks since it looked last, as they are in memory.
    blocks: u64,
    block_bytes: u64,
    /// Samples of blocks, as they are in memory and as the store keeps them.
    sampled: f64,
    sampled_stored: f64,
    looked: Instant,
    since: Instant,
    warned: Option<Warned>,
}

impl Fill {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: Rate::default(),
            blocks: 0,
            block_bytes: 0,
            sampled: 0.0,
            sampled_stored: 0.0,
            looked: now,
            since: now,
            warned: None,
        }
    }

    /// The block was appended.
    pub(super) fn add(&mut self, block: &Block, now: Instant) {
        if self.is_due(now) {
            let (bytes, stored) = (block.value().len() as f64, store::stored_bytes(block) as f64);
            self.sampled = self.sampled * SAMPLE_FADES + bytes;
            self.sampled_stored = self.sampled_stored * SAMPLE_FADES + stored;
        }
        self.blocks += 1;
        self.block_bytes += block.value().len() as u64;
    }

    /// How long the journal lasts with this much room up to its bound; `None` when it looked a moment ago. The disk
    /// may have less room than that, if others use it too.
    pub(super) fn look(&mut self, room_bytes: u64, directory: &Path, now: Instant) -> Option<Lasting> {
        if !self.is_due(now) {
            return None;
        }
        let stored_share = if self.sampled > 0.0 {
            self.sampled_stored / self.sampled
        } else {
            1.0
        };
        let bytes = self.block_bytes as f64 * stored_share + (self.blocks * store::BLOCK_OVERHEAD_BYTES) as f64;
        self.rate.observe(bytes as u64, now - self.looked);
        (self.blocks, self.block_bytes, self.looked) = (0, 0, now);
        let free_bytes = disk_free_bytes(directory).map_or(room_bytes, |disk| room_bytes.min(disk));
        let lasting = Lasting::new(free_bytes, self.rate.per_second());
        if now - self.since >= SAY_AFTER {
            self.say(lasting, free_bytes);
        }
        Some(lasting)
    }

    fn is_due(&self, now: Instant) -> bool {
        now - self.looked >= EVERY
    }

    fn say(&mut self, lasting: Lasting, free_bytes: u64) {
        let warned = self.warned.unwrap_or(Warned::Not).then(lasting);
        let first = self.warned.is_none();
        if (first && lasting == Lasting::FOR_EVER) || self.warned.replace(warned) == Some(warned) {
            return;
        }
        match warned {
            Warned::Not => tracing::info!(%lasting, free_bytes, "journal can bridge an outage of Kafka"),
            Warned::Short => {
                tracing::warn!(%lasting, free_bytes, "journal can bridge less than an hour of an outage of Kafka");
            }
            Warned::NearlyOver => tracing::error!(
                %lasting, free_bytes,
                "journal can bridge less than 10 minutes of an outage of Kafka: bring Kafka back, or give the journal more room"
            ),
        }
    }
}

/// What the journal may still take of the disk; `None` when the system does not say.
pub(super) fn disk_free_bytes(directory: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Some(free.saturating_sub(LOG_GROWS_BYTES))
}

#[cfg(test)]
mod tests {
    use super::super::Durability;
    use super::super::positions::Positions;
    use super::super::store::Store;
    use super::*;

    /// Blocks of 16 records as they come, which compress, and of bytes that do not.
    fn blocks(compressible: bool) -> Vec<Block> {
        let mut noise = 1u64;
        let mut entry = |number: u64| -> Vec<u8> {
            if compressible {
                return format!("{{\"number\":{number},\"body\":\"{}\"}}", "topic ".repeat(100)).into_bytes();
            }
            let bytes = std::iter::repeat_with(|| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            });
            bytes.take(600).collect()
        };
        let entries: Vec<Vec<u8>> = (0..16_000).map(&mut entry).collect();
        let groups = (0u64..).step_by(16).zip(entries.chunks(16));
        groups
            .map(|(first, group)| Block::encode(first, group.iter().map(Vec::as_slice)))
            .collect()
    }

    #[test]
    fn it_lasts_as_long_as_the_store_has_room_for_what_records_take_on_disk() {
        const ROOM: u64 = 1 << 20;
        let directory = tempfile::tempdir().expect("a temporary directory");
        for compressible in [true, false] {
            let journal = directory.path().join(compressible.to_string());
            let store = Store::open(&journal).expect("opens");
            let began = Instant::now();
            let mut fill = Fill::new(began);
            let mut lasting = None;
            for (number, block) in (1u32..).zip(blocks(compressible)) {
                store
                    .commit(&[], Some(&block), None, Durability::Process)
                    .expect("committed");
                // 100 blocks a second.
                let now = began + Duration::from_millis(10) * number;
                fill.add(&block, now);
                lasting = fill.look(ROOM, &journal, now).or(lasting);
            }
            store.flush().expect("flushed");
            while store.unflushed_bytes() > 0 || store.filed_bytes() == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(store.extent(Positions::default()).expect("readable").next, 16_000);

            let filled_in = ROOM as f64 / (store.filed_bytes() as f64 / 10.0);
            let told = lasting.expect("it looked").seconds();
            assert!((0.8..1.25).contains(&(told / filled_in)), "{told} s, not {filled_in} s");
        }
    }
}
