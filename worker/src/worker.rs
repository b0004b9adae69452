//! The worker as its owner sees it: started, asked how it is, drained.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portcullis_schema::Readiness;
use prometheus_client::registry::Registry;
use rdkafka::error::KafkaError;
use tracing::{info, warn};

use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::stream::{Ends, Stop, Stream};
use crate::{Capacity, Config, Rules};

/// Room for the deepest condition that its length allows: see `condition.rs`.
const STACK_BYTES: usize = 8 << 20;

/// A running worker: a thread of its own and one for the audit, until it is drained.
pub struct Worker {
    readiness: Readiness,
    metrics: Metrics,
    stop: Stop,
    thread: JoinHandle<()>,
    /// Closed when both threads have ended, however they do.
    ended: Receiver<()>,
}

/// Why a worker did not start. Kafka being away is no reason: the worker waits for it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A property of `[kafka]` does not exist, or has an impossible value.
    #[error("kafka client cannot be made; check [kafka] properties")]
    Client(#[source] KafkaError),
    /// The system gives no thread.
    #[error("worker thread cannot be started")]
    Thread(#[source] io::Error),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// What was in hand is written, the offsets are committed, the group was left.
    Left,
    /// The deadline came first. What was not committed is read again at the next start, and leads to the same
    /// findings.
    Cut,
}

impl Worker {
    /// Starts the thread.
    pub fn start(config: Config, rules: Rules) -> Result<Self, StartError> {
        announce(&config, &rules);
        let (readiness, metrics, stop) = (Readiness::default(), Metrics::new(), Stop::default());
        let audit = Audit::new(config.clone(), metrics.clone(), stop.clone()).map_err(StartError::Client)?;
        let asked =
            Ends::start(config.kafka.clone(), config.group.clone(), stop.clone()).map_err(StartError::Thread)?;
        let (stream, group) = Stream::new(config, rules, metrics.clone(), readiness.clone(), stop.clone(), asked)
            .map_err(StartError::Client)?;
        let (ends, ended) = channel();
        let audit_ends = ends.clone();
        let audit_body = move || {
            let _ends = audit_ends;
            audit.run();
        };
        let body = move || {
            // Dropped last, when the group was left.
            let _ends = ends;
            stream.run(group);
        };
        let thread = thread::Builder::new()
            .name("worker".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(body)
            .map_err(StartError::Thread)?;
        // Not waited for by itself: its end is in `ended`, and a worker goes on without it.
        let audit = thread::Builder::new().name("worker-audit".to_owned()).spawn(audit_body);
        if let Err(error) = audit {
            stop.by(Instant::now());
            return Err(StartError::Thread(error));
        }
        Ok(Self {
            readiness,
            metrics,
            stop,
            thread,
            ended,
        })
    }

    /// The latches `group`, partitions are assigned or were asked for in vain, and `output`, the last write was
    /// acknowledged.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Adds the worker's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Whether the thread still runs. It ends by itself only through a bug: the owner should stop the process then.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Finishes what is in hand, commits the offsets and leaves the group, within `deadline`. Without a broker the
    /// group cannot be left: then the thread is left behind and ends with the process.
    pub fn drain(self, deadline: Duration) -> Drained {
        let until = Instant::now() + deadline;
        self.stop.by(until);
        match self.ended.recv_timeout(deadline) {
            Err(RecvTimeoutError::Disconnected) if !self.stop.is_over() => Drained::Left,
            _ => {
                warn!("worker was cut before it had left its group");
                Drained::Cut
            }
        }
    }
}

/// Whoever lets go of a worker without draining it wants it gone: nothing is finished, nothing committed.
impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.by(Instant::now());
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Worker")
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

fn announce(config: &Config, rules: &Rules) {
    let Capacity {
        subjects_max,
        observations_max,
        ..
    } = Capacity::default();
    info!(
        subjects_max,
        observations_max,
        memory = Capacity::MEMORY,
        "windows are bounded"
    );
    for rule in rules.iter() {
        info!(%rule, "rule");
    }
    if rules.iter().next().is_none() {
        warn!("no rules: records are read and nothing is found");
    }
    if !config.automatic_verdicts {
        warn!("automatic verdicts are off: findings only");
    }
}
