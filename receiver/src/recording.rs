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
