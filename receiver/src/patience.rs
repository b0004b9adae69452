//! How long a callback is waited for: one timer for a connection's callbacks, one after the other.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is only ever put off. The runtime then changes a number in it, where a new one for each callback is
/// entered into a list and taken out again, under a lock that all connections share.
pub(crate) struct Patience(Pin<Box<Sleep>>);

/// The deadline came first.
pub(crate) struct Over;

impl Patience {
    /// Must be called within a runtime.
    pub(crate) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// For the next callback.
    pub(crate) fn lasts_until(&mut self, deadline: Instant) {
        self.0.as_mut().reset(deadline);
    }

    /// What is there by the deadline, also when both come at once.
    pub(crate) fn within<F: Future + Unpin>(
        &mut self,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, Over>> + use<'_, F> {
        poll_fn(move |context| match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.0.as_mut().poll(context).map(|()| Err(Over)),
        })
    }
}
