use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use super::{PATIENCE, Running, wait_until};

/// Container runtimes kill a process that has not ended by then, and so does this.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A receiver or a worker that runs.
pub(crate) struct Process {
    running: Running,
    admin: SocketAddr,
}

impl Process {
    pub(crate) fn new(running: Running, admin: SocketAddr) -> Self {
        Self { running, admin }
    }

    /// Returns when `/ready` says so.
    pub(crate) fn ready(self) -> Self {
        wait_until("the process is ready", PATIENCE, || self.is_ready());
        self
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness().is_some_and(|(status, _)| status == 200)
    }

    /// Status and body of `/ready`; `None` while nobody listens there.
    pub(crate) fn readiness(&self) -> Option<(u16, Value)> {
        let (status, body) = self.get("/ready")?;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["ready"], Value::Bool(status == 200), "{body}");
        Some((status, body))
    }

    /// Why it is ready, or not, as the latch of that name tells.
    pub(crate) fn reason(&self, latch: &str) -> String {
        let (_, body) = self.readiness().expect("it listens");
        body["latches"][latch]["reason"].as_str().expect("a reason").to_owned()
    }

    /// The whole of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let (status, text) = self.get("/metrics").expect("it listens");
        assert_eq!(status, 200);
        text
    }

    /// The sum of all samples that begin with `name`, labels included.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        let samples = metrics.lines().filter(|line| line.starts_with(name));
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The process, for those who look at it from outside.
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }

    /// How it ended, if it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.running.status()
    }

    /// Sends a signal such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// It stands still, its connections stay.
    pub(crate) fn freeze(&self) {
        self.running.signal("STOP");
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.running.signal("CONT");
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Ends it with SIGTERM; panics unless it ends in order.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.ask_to_stop();
        self.stopped();
    }

    /// Asks it to stop, and does not wait.
    pub(crate) fn ask_to_stop(&self) {
        self.running.signal("TERM");
    }

    /// Waits for the end of a process that was asked to stop, and gives what it printed; panics unless the end comes in
    /// time, with exit code 0.
    #[track_caller]
    pub(crate) fn stopped(mut self) -> String {
        let status = self.running.wait(STOP_MAX);
        assert_eq!(status.code(), Some(0), "{}", self.running.log());
        self.running.log()
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut answer = agent.get(format!("http://{}{path}", self.admin)).call().ok()?;
        let body = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), body))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the process at {} printed:\n{}", self.admin, self.running.log());
        }
    }
}
