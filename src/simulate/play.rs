//! Sends callbacks at times that are fixed beforehand. A thread for each connection takes the next callback, waits for
//! its time, sends it and checks the answer; while all are busy the callbacks wait, and their latency grows.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use portcullis_schema::Timestamp;
use ureq::tls::{RootCerts, TlsConfig};

use super::call::Call;
use super::contract::{Answer, check};
use super::scenario::{Scenario, Stage};
use super::tally::{Tally, Told};
use super::target::Target;

/// Longer than Chat waits, to tell a late answer from none.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A callback whose connection comes free later than that is not sent any more: Chat would have given it up, and the
/// play must end.
const UNSENT_AFTER: Duration = Duration::from_secs(5);
/// Of an answer: a thousand times the usual one.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How soon a stop is seen.
const NAP: Duration = Duration::from_millis(50);

/// What is played.
pub(super) struct Plan {
    pub(super) target: Target,
    /// In turn; at least one.
    pub(super) scenarios: Vec<Scenario>,
    pub(super) stage: Stage,
    pub(super) lasts: Duration,
    pub(super) connections: usize,
}

/// The threads that play it.
pub(super) struct Play {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    plan: Plan,
    began: Instant,
    /// The number of the next callback.
    next: AtomicU64,
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

    fn call(&self, number: u64) -> (Scenario, Call) {
        let kinds = self.scenarios.len().max(1) as u64;
        let turn = usize::try_from(number % kinds).unwrap_or(0);
        let scenario = self.scenarios.get(turn).copied().unwrap_or(Scenario::Mixed);
        (scenario, scenario.call(&self.stage, number / kinds))
    }
}

impl Play {
    pub(super) fn start(plan: Plan) -> io::Result<Self> {
        let connections = plan.connections;
        let shared = Arc::new(Shared {
            plan,
            began: Instant::now(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            tally: Mutex::default(),
        });
        let thread = |number: usize| {
            let shared = Arc::clone(&shared);
            Builder::new()
                .name(format!("connection-{number}"))
                .spawn(move || shared.play())
        };
        let threads = (0..connections).map(thread).collect::<io::Result<_>>()?;
        Ok(Self { shared, threads })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// So far.
    pub(super) fn tally(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
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
    fn play(&self) {
        let (agent, total) = (agent(self.plan.target.roots()), self.plan.total());
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                return;
            }
            let (scenario, call) = self.plan.call(number);
            let due = self.began + self.plan.at(number);
            if !self.wait_until(due) {
                return;
            }
            let told = match due.elapsed() > UNSENT_AFTER {
                true => Told::Unsent,
                false => post(&agent, &self.plan.target, &call),
            };
            let took = due.elapsed();
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.count(scenario, call.asked.command.name(), told, took);
        }
    }

    /// False when the play is stopped first.
    fn wait_until(&self, moment: Instant) -> bool {
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return false;
            }
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            sleep(left.min(NAP));
        }
    }
}

/// One connection, which is kept. Each step has its own limit: with one for the whole, a thread would be started for each
/// callback to look the address up.
fn agent(roots: RootCerts) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_connect(Some(ANSWER_MAX))
        .timeout_send_request(Some(ANSWER_MAX))
        .timeout_send_body(Some(ANSWER_MAX))
        .timeout_recv_response(Some(ANSWER_MAX))
        .timeout_recv_body(Some(ANSWER_MAX))
        .max_idle_connections(1)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None);
    config.build().new_agent()
}

fn post(agent: &ureq::Agent, target: &Target, call: &Call) -> Told {
    let exchange = || -> Result<Answer, ureq::Error> {
        let url = target.of(call, Timestamp::now());
        let mut answer = agent
            .post(url)
            .content_type("application/json")
            .send(call.body.as_slice())?;
        let content_type = answer.headers().get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(Answer {
            status: answer.status().as_u16(),
            content_type: content_type.to_owned(),
            body: answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?,
        })
    };
    match exchange() {
        Ok(answer) => Told::Answered(check(&call.asked, &answer)),
        Err(error) => Told::NoAnswer(error.to_string()),
    }
}
