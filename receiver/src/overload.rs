//! The last rung: more is asked than this machine can compute in time.
//!
//! What is measured is how late the runtime runs what is due, since a callback waits the same way for each of its turns:
//! a probe that sleeps [`PROBE_EVERY`] and looks how much longer it took. That is true wherever the computing went: to too
//! many callbacks, to a neighbour, to the quota of a container. One late probe is a pause and passes by itself; only a
//! delay that stands, each probe late in a row, says that more comes in than goes out (as CoDel tells a standing queue
//! from a burst, RFC 8289, 3.1).
//!
//! Then a callback is answered with its command's fallback: no look-up, no wait for the disk. It is recorded and counted
//! like any other. Since nobody is refused by a verdict meanwhile, this is entered late, when answers are about to miss
//! their deadline, and left soon, and both are said.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Seldom enough to cost nothing, often enough to see a delay that stands within half a second.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// A third of the reply's deadline: a callback waits two or three times for its turn.
const LATE_SHARE: u32 = 3;
/// A tenth of what is late is calm again; in between, whatever holds stays.
const CALM_SHARE: u32 = 30;
/// So many late in a row are no pause: at the least delay that counts they take more than a second.
const LATE_IN_A_ROW: u32 = 8;
/// So many calm ones, a quarter of a second, are no gap.
const CALM_IN_A_ROW: u32 = 5;

/// Whether it is overloaded now, for those who answer.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    now: AtomicBool,
    answered: AtomicU64,
}

impl Overload {
    pub(crate) fn is_now(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    /// One more callback was answered without a look-up.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Probes on the runtime that answers, for as long as it is polled; calls `looked` each time.
    pub(crate) async fn watch(&self, reply_deadline: Duration, looked: impl Fn()) {
        let mut load = Load::new(reply_deadline);
        let mut since = Instant::now();
        loop {
            let began = Instant::now();
            sleep(PROBE_EVERY).await;
            let delay = began.elapsed().saturating_sub(PROBE_EVERY);
            if let Some(overloaded) = load.observe(delay) {
                self.now.store(overloaded, Ordering::Relaxed);
                self.tell(overloaded, delay, since.elapsed());
                since = Instant::now();
            }
            looked();
        }
    }

    fn tell(&self, overloaded: bool, delay: Duration, lasted: Duration) {
        let answered = self.answered.swap(0, Ordering::Relaxed);
        if overloaded {
            warn!(
                ?delay,
                "overloaded: callbacks are answered with receiver.fallback and no verdict is looked up; give the receiver more processor time, or spread the callbacks over more receivers"
            );
        } else {
            info!(
                ?lasted,
                answered,
                "not overloaded any more: verdicts are looked up again; so many callbacks were answered without"
            );
        }
    }
}

/// Tells a delay that stands from one that passes.
#[derive(Debug)]
struct Load {
    late_above: Duration,
    calm_below: Duration,
    overloaded: bool,
    in_a_row: u32,
}

impl Load {
    fn new(reply_deadline: Duration) -> Self {
        Self {
            late_above: reply_deadline / LATE_SHARE,
            calm_below: reply_deadline / CALM_SHARE,
            overloaded: false,
            in_a_row: 0,
        }
    }

    /// Takes how late a probe was; whether it is overloaded, when that has changed.
    fn observe(&mut self, delay: Duration) -> Option<bool> {
        let (otherwise, needed) = match self.overloaded {
            false => (delay > self.late_above, LATE_IN_A_ROW),
            true => (delay < self.calm_below, CALM_IN_A_ROW),
        };
        self.in_a_row = if otherwise { self.in_a_row + 1 } else { 0 };
        if self.in_a_row < needed {
            return None;
        }
        self.in_a_row = 0;
        self.overloaded = !self.overloaded;
        Some(self.overloaded)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(300);
    const LATE: Duration = Duration::from_millis(101);
    const BETWEEN: Duration = Duration::from_millis(50);
    const CALM: Duration = Duration::from_millis(9);

    #[test]
    fn only_a_delay_that_stands_is_an_overload_and_only_calm_that_stands_ends_it() {
        let mut load = Load::new(DEADLINE);
        let mut observe =
            |delay: Duration, times: u32| -> Vec<bool> { (0..times).filter_map(|_| load.observe(delay)).collect() };
        let nothing: Vec<bool> = Vec::new();
        assert_eq!(observe(LATE, LATE_IN_A_ROW - 1), nothing);
        assert_eq!(observe(BETWEEN, 1), nothing);
        assert_eq!(observe(LATE, LATE_IN_A_ROW - 1), nothing);
        assert_eq!(observe(LATE, 1), [true]);
        assert_eq!(observe(LATE, 100), nothing);
        assert_eq!(observe(BETWEEN, 100), nothing, "in between it stays");
        assert_eq!(observe(CALM, CALM_IN_A_ROW - 1), nothing);
        assert_eq!(observe(BETWEEN, 1), nothing);
        assert_eq!(observe(CALM, CALM_IN_A_ROW), [false]);
        assert_eq!(observe(BETWEEN, 100), nothing);
    }

    proptest! {
        #[test]
        fn it_changes_only_after_as_many_in_a_row_as_that_takes(delays in prop::collection::vec(0..200_u64, 0..200)) {
            let mut load = Load::new(DEADLINE);
            let delays: Vec<Duration> = delays.into_iter().map(Duration::from_millis).collect();
            for (index, delay) in delays.iter().enumerate() {
                let Some(overloaded) = load.observe(*delay) else {
                    continue;
                };
                let in_a_row = if overloaded { LATE_IN_A_ROW } else { CALM_IN_A_ROW } as usize;
                prop_assert!(index + 1 >= in_a_row);
                let last = &delays[index + 1 - in_a_row..=index];
                let (late, calm) = (DEADLINE / LATE_SHARE, DEADLINE / CALM_SHARE);
                let all_so = last.iter().all(|delay| if overloaded { *delay > late } else { *delay < calm });
                prop_assert!(all_so);
            }
        }
    }
}
