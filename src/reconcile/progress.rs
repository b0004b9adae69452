use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::words::grouped;

const EVERY: Duration = Duration::from_millis(500);
/// A clock reading for each message would be a good part of the work.
const STEPS: u64 = 1_000;

/// Says on a terminal how far the reading is; nothing anywhere else.
pub(super) struct Progress {
    what: &'static str,
    of: u64,
    read: u64,
    began: Instant,
    told: Instant,
    on_terminal: bool,
    line_open: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str, of: u64) -> Self {
        let now = Instant::now();
        Self {
            what,
            of,
            read: 0,
            began: now,
            told: now,
            on_terminal: stderr().is_terminal(),
            line_open: false,
        }
    }

    pub(super) fn step(&mut self) {
        self.read += 1;
        if self.on_terminal && self.read.is_multiple_of(STEPS) && self.told.elapsed() >= EVERY {
            self.tell();
        }
    }

    /// Ends the line, where one was begun.
    pub(super) fn done(&mut self) {
        if self.line_open {
            self.tell();
            eprintln!();
        }
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        self.line_open = true;
        let share = self.read.saturating_mul(100) / self.of.max(1);
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = self.read.saturating_mul(1_000) / millis.max(1);
        let (read, of, rate) = (grouped(self.read), grouped(self.of), grouped(rate));
        // Whoever closed stderr wants no progress.
        let _ = write!(
            stderr(),
            "\r{read} of {of} {} read, {share} %, {rate}/s \x1b[K",
            self.what
        );
    }
}
