use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::Position;
use super::store::StoreError;

/// An entry on its way to the disk. Resolves when it is durable; dropping it changes nothing for the entry.
#[must_use = "the entry is in the queue, but whether it was refused is said here"]
pub struct Append(Inner);

enum Inner {
    Refused(Option<AppendError>),
    Waiting(oneshot::Receiver<Result<Position, AppendError>>),
}

/// Why an entry is not promised. After `Broken` it may still be found on disk.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Trim, or give it more room.
    #[error("journal is full: {used} of {capacity} bytes")]
    Full {
        /// Bytes that count against the capacity.
        used: u64,
        /// The bound on them.
        capacity: u64,
    },
    /// The writer keeps trying; later entries may succeed.
    #[error("journal cannot be written")]
    Broken(#[source] Arc<StoreError>),
    /// Entries come faster than the disk takes them.
    #[error("journal queue is full: {entries} entries, {bytes} bytes wait")]
    Overrun {
        /// Entries in the queue.
        entries: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The process is stopping.
    #[error("journal is closing")]
    Closing,
}

impl Append {
    pub(super) fn refused(error: AppendError) -> Self {
        Self(Inner::Refused(Some(error)))
    }

    pub(super) fn waiting(receiver: oneshot::Receiver<Result<Position, AppendError>>) -> Self {
        Self(Inner::Waiting(receiver))
    }

    /// Why the entry was not even put into the queue; known without awaiting.
    pub fn refusal(&self) -> Option<&AppendError> {
        match &self.0 {
            Inner::Refused(error) => error.as_ref(),
            Inner::Waiting(_) => None,
        }
    }
}

impl Future for Append {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(AppendError::Closing))),
            // The writer answers everything it took before it ends, so a lost sender means that it died.
            Inner::Waiting(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or(Err(AppendError::Closing))),
        }
    }
}
