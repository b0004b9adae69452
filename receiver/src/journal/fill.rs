//! Watches how fast the journal fills, and says how long it lasts before that is over.

use std::path::Path;
use std::time::{Duration, Instant};

use super::lasting::{Lasting, Warned};
use super::rate::Rate;

/// How often it looks: a sample and a question to the file system each time, well below a millisecond.
const EVERY: Duration = Duration::from_secs(1);
/// Before that a rate is a guess, good for a gauge and not for a message.
const SAY_AFTER: Duration = Duration::from_secs(10);
/// Owned by the writer.
pub(super) struct Fill {
    rate: Rate,
    /// On disk since it looked last.
    bytes: u64,
    looked: Instant,
    since: Instant,
    warned: Option<Warned>,
}

impl Fill {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: Rate::default(),
            bytes: 0,
            looked: now,
            since: now,
            warned: None,
        }
    }

    /// So much was appended.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// How long the journal lasts with this much room up to its bound; `None` when it looked a moment ago. The disk
    /// may have less room than that, if others use it too.
    pub(super) fn look(&mut self, room_bytes: u64, directory: &Path, now: Instant) -> Option<Lasting> {
        if now - self.looked < EVERY {
            return None;
        }
        self.rate.observe(self.bytes, now - self.looked);
        (self.bytes, self.looked) = (0, now);
        let free_bytes = disk_free_bytes(directory).map_or(room_bytes, |disk| room_bytes.min(disk));
        let lasting = Lasting::new(free_bytes, self.rate.per_second());
        if now - self.since >= SAY_AFTER {
            self.say(lasting, free_bytes);
        }
        Some(lasting)
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
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_there_is_room_for_what_records_take_on_disk() {
        const ROOM: u64 = 3_600_000;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let began = Instant::now();
        let mut fill = Fill::new(began);
        let mut lasting = None;
        for number in 1..=1_000 {
            // 100 blocks a second.
            let now = began + Duration::from_millis(10) * number;
            fill.add(600);
            lasting = fill.look(ROOM, directory.path(), now).or(lasting);
        }
        let told = lasting.expect("it looked").seconds();
        assert!((59.0..61.0).contains(&told), "{told} s, not a minute");
    }
}
