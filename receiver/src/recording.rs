//! A record on its way into the journal, whoever still waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::journal::{Append, AppendError};
use crate::loss::{Loss, Losses};

/// Resolves when the record is durable, or refused and counted as lost. That is counted exactly once, also when the
/// caller's deadline is over or its connection broke, and nobody waits any more: then a task follows it; there are at
/// most as many as entries in the journal's queue.
pub(crate) struct Recording {
    append: Option<Append>,
    losses: Losses,
}

impl Recording {
    pub(crate) fn of(append: Append, losses: Losses) -> Self {
        Self {
            append: Some(append),
            losses,
        }
    }
}

impl Future for Recording {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(append) = &mut self.append {
            let written = ready!(Pin::new(append).poll(context));
            self.append = None;
            note(written.err(), &self.losses);
        }
        Poll::Ready(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(append) = self.append.take() else {
            return;
        };
        if append.refusal().is_some() {
            note(append.refusal().cloned(), &self.losses);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let losses = self.losses.clone();
            runtime.spawn(async move { note(append.await.err(), &losses) });
        }
    }
}

fn note(error: Option<AppendError>, losses: &Losses) {
    match error {
        None => {}
        Some(AppendError::Full { .. }) => losses.count(Loss::JournalFull, 1),
        Some(AppendError::Broken(_)) => losses.count(Loss::JournalBroken, 1),
        Some(AppendError::Overrun { .. }) => losses.count(Loss::JournalOverrun, 1),
        Some(AppendError::Closing) => losses.count(Loss::Stopping, 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::journal::{Durability, Journal, Options, State};

    /// Far beyond what is waited for.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_record_that_waits_when_a_broken_journal_closes_is_counted_as_lost_whoever_waits_for_it() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let directory = folder.path().join("journal");
        let journal = Journal::open(Options {
            directory: directory.clone(),
            bytes_max: 1 << 30,
            durability: Durability::Process,
        })
        .expect("opens");
        eventually("a file stands in its place", || {
            let _ = fs::remove_dir_all(&directory);
            fs::write(&directory, b"").is_ok()
        });
        eventually("it is noticed", || journal.state() == State::Broken);
        let losses = Losses::default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _within = runtime.enter();
        let awaited = runtime.spawn(Recording::of(journal.append(b"awaited".to_vec()), losses.clone()));
        drop(Recording::of(
            journal.append(b"its caller is gone".to_vec()),
            losses.clone(),
        ));

        journal.close();

        runtime.block_on(awaited).expect("no panic");
        eventually("both are counted", || {
            losses.so_far() == BTreeMap::from([(Loss::JournalBroken.name().to_owned(), 2)])
        });
    }
}
