//! A record on its way into the journal, whoever still waits for it.

use crate::journal::{Append, AppendError};
use crate::loss::Loss;
use crate::metrics::Metrics;

/// Sees to it that a record which the journal refuses is counted as lost exactly once: also when the caller's deadline
/// is over or its connection broke, and nobody waits any more. Then a task follows it; there are at most as many as
/// entries in the journal's queue.
pub(crate) struct Recording {
    append: Option<Append>,
    metrics: Metrics,
}

impl Recording {
    pub(crate) fn of(append: Append, metrics: Metrics) -> Self {
        Self {
            append: Some(append),
            metrics,
        }
    }

    /// Until it is durable, or refused and counted.
    pub(crate) async fn written(mut self) {
        if let Some(append) = &mut self.append {
            let written = append.await;
            self.append = None;
            note(written.err(), &self.metrics);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(append) = self.append.take() else {
            return;
        };
        if append.refusal().is_some() {
            note(append.refusal().cloned(), &self.metrics);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let metrics = self.metrics.clone();
            runtime.spawn(async move { note(append.await.err(), &metrics) });
        }
    }
}

fn note(error: Option<AppendError>, metrics: &Metrics) {
    match error {
        None => {}
        Some(AppendError::Full { .. }) => metrics.lost(Loss::JournalFull),
        Some(AppendError::Broken(_)) => metrics.lost(Loss::JournalBroken),
        Some(AppendError::Overrun { .. }) => metrics.lost(Loss::JournalOverrun),
        Some(AppendError::Closing) => metrics.lost(Loss::Stopping),
    }
}
