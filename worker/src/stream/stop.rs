use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether the worker is to stop, and until when it may take for it. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    deadline: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Stop {
    /// From now on the worker is to stop.
    pub(crate) fn by(&self, deadline: Instant) {
        *self.deadline() = Some(deadline);
        self.0.changed.notify_all();
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.deadline().is_some()
    }

    /// Whether the time for stopping is over.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits `pause`, but not beyond the deadline for stopping. May return early.
    pub(crate) fn wait(&self, pause: Duration) {
        let deadline = self.deadline();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let pause = left.map_or(pause, |left| left.min(pause));
        drop(self.0.changed.wait_timeout(deadline, pause));
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
