//! Sends callbacks at times that are fixed beforehand. Each connection takes the next callback as it is due, sends it and
//! checks the answer; while all are busy the callbacks wait, and their latency grows.
//!
//! Connections are tasks and not threads: hundreds of threads would wait for each other on a machine's few cores, and that
//! would be measured as the receiver's latency.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use super::call::Call;
use super::connection::Connection;
use super::contract::check;
use super::scenario::{Scenario, Stage};
use super::tally::{Tally, Told};
use super::target::Target;

/// A callback whose connection comes free later than that is not sent any more: Chat would have given it up, and the
/// play must end.
const UNSENT_AFTER: Duration = Duration::from_secs(5);
/// How soon a stop is seen.
const NAP: Duration = Duration::from_millis(50);
/// Callbacks that are due closer together are sent together: there would be nothing but waking up.
const PACE_MIN: Duration = Duration::from_micros(100);

/// What is played.
pub(super) struct Plan {
    pub(super) target: Target,
    /// In turn; at least one.
    pub(super) scenarios: Vec<Scenario>,
    pub(super) stage: Stage,
    pub(super) lasts: Duration,
    pub(super) connections: usize,
    /// By which an answer must be there, from the time at which its callback was to be sent.
    pub(super) deadline: Duration,
}

/// The play under way.
pub(super) struct Play {
    shared: Arc<Shared>,
    playing: JoinHandle<()>,
}

struct Shared {
    plan: Plan,
    began: Instant,
    /// The number of the next callback.
    next: AtomicU64,
    /// A permit for each callback that is due and not taken.
    due: Semaphore,
    clock: Notify,
    stopped: AtomicBool,
    tally: Mutex<Tally>,
}

impl Plan {
    /// How many callbacks there are: at least one, however short it is.
    pub(super) fn total(&self) -> u64 {
        let total = (self.lasts.as_millis() * u128::from(self.stage.rate)).div_ceil(1_000);
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    /// When the callback of this number is to be sent, since the beginning.
    fn at(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.stage.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many callbacks are due so long after the beginning.
    fn due_within(&self, elapsed: Duration) -> u64 {
        let begun = elapsed.as_nanos() * u128::from(self.stage.rate) / 1_000_000_000;
        u64::try_from(begun)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
            .min(self.total())
    }

    fn call(&self, number: u64) -> (Scenario, Call) {
        let kinds = self.scenarios.len().max(1) as u64;
        let turn = usize::try_from(number % kinds).unwrap_or(0);
        let scenario = self.scenarios.get(turn).copied().unwrap_or(Scenario::Mixed);
        (scenario, scenario.call(&self.stage, number / kinds))
    }
}

impl Play {
    /// Begins when all connections are made, as Chat's are there before a callback is: a machine that is called a hundred
    /// times at once for the first time answers later than ever after.
    pub(super) async fn start(plan: Plan) -> io::Result<Self> {
        let mut opening = JoinSet::new();
        for _ in 0..plan.connections {
            let target = plan.target.clone();
            opening.spawn(async move { Connection::open(&target).await });
        }
        let connections = opening.join_all().await;
        let tally = Mutex::new(Tally::new(plan.deadline));
        let shared = Arc::new(Shared {
            plan,
            began: Instant::now(),
            next: AtomicU64::new(0),
            due: Semaphore::new(0),
            clock: Notify::new(),
            stopped: AtomicBool::new(false),
            tally,
        });
        let ticking = Arc::clone(&shared);
        Builder::new().name("clock".to_owned()).spawn(move || ticking.tick())?;
        let playing = tokio::spawn(Arc::clone(&shared).play(connections));
        Ok(Self { shared, playing })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// So far.
    pub(super) fn tally(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.playing.is_finished()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// No callback is begun any more.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    async fn play(self: Arc<Self>, connections: Vec<Connection>) {
        let mut calling = JoinSet::new();
        for connection in connections {
            calling.spawn(Arc::clone(&self).call(connection));
        }
        self.keep_time().await;
        calling.join_all().await;
    }

    async fn call(self: Arc<Self>, mut connection: Connection) {
        // The semaphore is never closed.
        while let Ok(permit) = self.due.acquire().await {
            permit.forget();
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.total() || self.is_stopped() {
                return;
            }
            let (scenario, call) = self.plan.call(number);
            let due = self.began + self.plan.at(number);
            let told = match due.elapsed() > UNSENT_AFTER {
                true => Told::Unsent,
                false => match connection.post(&self.plan.target, &call).await {
                    Ok(answer) => Told::Answered(check(&call.asked, &answer)),
                    Err(error) => Told::NoAnswer(error.to_string()),
                },
            };
            let took = due.elapsed();
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.count(scenario, call.asked.command.name(), told, took);
        }
    }

    /// Lets callbacks become due until the end, and then every connection once more, to see the end.
    async fn keep_time(&self) {
        let (mut issued, total) = (0, self.plan.total());
        while issued < total && !self.is_stopped() {
            self.clock.notified().await;
            let due = self.plan.due_within(self.began.elapsed());
            let permits = usize::try_from(due.saturating_sub(issued)).unwrap_or(Semaphore::MAX_PERMITS);
            self.due.add_permits(permits);
            issued = due;
        }
        self.due.add_permits(self.plan.connections);
    }

    /// Tells when callbacks are due: a timer of the runtime knows whole milliseconds, a sleeping thread wakes within
    /// 0.1 ms. Blocks until the end.
    fn tick(&self) {
        let (mut due, total) = (0, self.plan.total());
        while due < total && !self.is_stopped() {
            let pause = self.plan.at(due).saturating_sub(self.began.elapsed());
            sleep(pause.clamp(PACE_MIN, NAP));
            due = self.plan.due_within(self.began.elapsed());
            self.clock.notify_one();
        }
        self.clock.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
