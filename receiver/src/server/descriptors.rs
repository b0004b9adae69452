//! Each connection takes a file descriptor, and a process has only so many. Without one nothing is accepted, and worse,
//! neither the admin address nor a reload has one: so connections leave some to the others.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tracing::warn;

/// What all else takes: 64 connections of the admin address, a connection to each broker for each of some ten clients of
/// Kafka, a dozen files of the journal.
const RESERVE: u64 = 200;
/// Without trouble for so long, it is over: an attack that takes each descriptor that comes back is one trouble.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// How many connections are held where `wanted` are configured: fewer where the process may not have the descriptors,
/// which is said with what to do.
pub(super) fn fitting(wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let held = within(limit, wanted);
    if held < wanted {
        warn!(
            connections_max = wanted,
            descriptors = limit,
            held,
            "fewer connections are held than receiver.connections_max, each takes a file descriptor, and {RESERVE} are for all else: raise the limit (ulimit -Hn, LimitNOFILE= of a systemd unit, nofile of a container), or lower receiver.connections_max"
        );
    }
    held
}

fn within(limit: u64, wanted: usize) -> usize {
    let left = usize::try_from(limit.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
    wanted.min(left).max(1)
}

/// Whether the process or the machine has no descriptor left.
pub(super) fn none_is_left(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// That connections cannot be accepted, from the first time to the last.
#[derive(Default)]
pub(super) struct Trouble {
    last: Option<Instant>,
}

impl Trouble {
    /// Whether it has begun.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        self.last.replace(now).is_none()
    }

    /// One was accepted: whether it is over.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.last.take_if(|last| now > *last + OVER_AFTER).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_others() {
        assert_eq!(within(65_536, 10_000), 10_000);
        assert_eq!(within(1_024, 10_000), 824);
        assert_eq!(within(100, 10_000), 1);
    }

    #[test]
    fn trouble_begins_once_and_ends_once() {
        let mut trouble = Trouble::default();
        let began = Instant::now();
        assert!(!trouble.is_over(began), "there was none");
        assert!(trouble.goes_on(began));
        assert!(!trouble.is_over(began + OVER_AFTER / 2));
        assert!(!trouble.goes_on(began + OVER_AFTER / 2), "it is the same");
        assert!(!trouble.is_over(began + OVER_AFTER));
        assert!(trouble.is_over(began + 2 * OVER_AFTER));
        assert!(!trouble.is_over(began + 2 * OVER_AFTER));
        assert!(trouble.goes_on(began + 2 * OVER_AFTER));
    }
}
