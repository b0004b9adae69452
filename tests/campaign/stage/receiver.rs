use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_schema::Uuid;
use serde_json::Value;

use crate::book::Gate;
use crate::support::{Process, Site};

/// Far below the small disk, far above what waits in an outage.
const JOURNAL_BYTES_MAX: &str = "64MiB";

/// One receiver, whichever process it is at present.
pub(super) struct Receiver {
    pub(super) process: Option<Process>,
    pub(super) name: String,
    pub(super) listen: SocketAddr,
    pub(super) data: String,
    pub(super) gate: Arc<Gate>,
}

impl Receiver {
    pub(super) fn start(&mut self, site: &Site) {
        self.gate.disturb();
        let listen = self.listen.to_string();
        self.process = Some(site.receiver_with(&[
            ("PORTCULLIS__RECEIVER__INSTANCE", &self.name),
            ("PORTCULLIS__RECEIVER__LISTEN", &listen),
            ("PORTCULLIS__RECEIVER__DATA", &self.data),
            ("PORTCULLIS__RECEIVER__JOURNAL__BYTES_MAX", JOURNAL_BYTES_MAX),
        ]));
    }

    pub(super) fn process(&self) -> &Process {
        self.process.as_ref().expect("a receiver that runs")
    }

    /// What its present start has counted as lost, by reason; `None` before it has told which start it is.
    pub(super) fn losses(&self) -> Option<(Uuid, BTreeMap<String, u64>)> {
        let process = self.process();
        let boot = boot(&process.log())?;
        let metrics = process.metrics();
        let counted = metrics.lines().filter_map(|line| {
            let (reason, count) = line.strip_prefix("receiver_lost_total{reason=\"")?.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().ok()?))
        });
        Some((boot, counted.filter(|(_, count)| *count > 0).collect()))
    }
}

/// The start that a receiver's log tells of.
fn boot(log: &str) -> Option<Uuid> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut boots = lines.filter_map(|line| line["boot"].as_str()?.parse().ok());
    boots.next()
}
