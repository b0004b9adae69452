//! How long a callback is waited for: one timer for a connection's callbacks, one after the other.

use std::future::Future;
use std::pin::{Pin, pin};

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
    pub(crate) async fn within<F: Future>(&mut self, future: F) -> Result<F::Output, Over> {
        tokio::select! {
            biased;
            output = pin!(future) => Ok(output),
            () = &mut self.0 => Err(Over),
        }
    }
}
