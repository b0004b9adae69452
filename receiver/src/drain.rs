use std::time::Duration;

/// How a receiver stops: what callers find at its address afterwards makes the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nobody accepts there. So it answers as long as anybody calls, within a bound, and publishes as much as it can,
    /// because nobody may start it again soon.
    Leaving,
    /// The socket stays with a supervisor who passes it to the next start. From the moment that this process accepts no
    /// more, callers wait for that start, and Chat waits 2 s: so it must go quickly, and the next start publishes the
    /// rest.
    HandingOver,
}

impl Drain {
    /// How long publishing goes on behind the last answer. Leaving: with the linger and the last answers below the 30 s
    /// that container runtimes wait before they kill. Handing over: what is on its way to a Kafka that answers is
    /// there within 50 ms, and of Chat's 2 s the last answers take up to 0.7 s and the next start half a second.
    pub(crate) fn catch_up(self) -> Duration {
        match self {
            Self::Leaving => Duration::from_secs(15),
            Self::HandingOver => Duration::from_millis(300),
        }
    }
}
