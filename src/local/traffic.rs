//! Plays Chat: posts the acts of the play to the receiver, each at its time, over one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_schema::AppId;
use serde_json::json;

use super::cast::{self, Act, ROUND};

/// Chat's own patience.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often the thread looks whether it should stop.
const NAP: Duration = Duration::from_millis(20);

/// The thread that posts.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

/// What came back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) refused: u64,
    /// Without an answer that Chat would take for one.
    pub(crate) unanswered: u64,
    pub(crate) slowest: Duration,
}

impl Traffic {
    pub(crate) fn start(receiver: SocketAddr, app: AppId) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("traffic".to_owned())
            .spawn(move || play(receiver, app, &stopped))?;
        Ok(Self { stop, thread })
    }

    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn play(receiver: SocketAddr, app: AppId, stopped: &AtomicBool) -> Tally {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut tally = Tally::default();
    for round in 0.. {
        let began = Instant::now();
        for act in cast::acts(round) {
            if !wait_until(began + act.at, stopped) {
                return tally;
            }
            let sent = Instant::now();
            tally.count(post(&agent, receiver, app, &act), sent.elapsed());
        }
        if !wait_until(began + ROUND, stopped) {
            return tally;
        }
    }
    tally
}

impl Tally {
    fn count(&mut self, code: Option<i64>, took: Duration) {
        match code {
            Some(0) => self.allowed += 1,
            Some(_) => self.refused += 1,
            None => self.unanswered += 1,
        }
        self.slowest = self.slowest.max(took);
    }
}

/// The `ErrorCode` of the reply.
fn post(agent: &ureq::Agent, receiver: SocketAddr, app: AppId, act: &Act) -> Option<i64> {
    let command = "Group.CallbackBeforeCreateTopic";
    let url = format!(
        "http://{receiver}/?SdkAppid={app}&CallbackCommand={command}&contenttype=json&ClientIP={}&OptPlatform=iOS",
        act.address
    );
    let body = json!({
        "CallbackCommand": command,
        "Operator_Account": act.operator,
        "Type": "Community",
        "Name": act.name,
    });
    let mut reply = agent.post(url).send(body.to_string()).ok()?;
    if reply.status() != 200 {
        return None;
    }
    let reply: serde_json::Value = serde_json::from_str(&reply.body_mut().read_to_string().ok()?).ok()?;
    reply.get("ErrorCode")?.as_i64()
}

/// False when the play is stopped first.
fn wait_until(moment: Instant, stopped: &AtomicBool) -> bool {
    loop {
        if stopped.load(Ordering::Relaxed) {
            return false;
        }
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(NAP));
    }
}
