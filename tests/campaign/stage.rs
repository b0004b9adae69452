mod faults;
mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use portcullis_schema::Uuid;

use crate::book::Gate;
use crate::callers::{ABUSER, DENIED};
use crate::guard::Guard;
use crate::plan::{RECEIVERS, Target};
use crate::support::{Kafka, Portcullis, Process, Site, SmallDisk, Tampered, free_address};
use faults::{BROKER, FULL_DISK, SLOW_DISK};
use receiver::Receiver;

/// Time is short: a client that nobody answers gives up after 3 s instead of 60, and a killed worker leaves its group
/// after 6 s.
const PROPERTIES: [(&str, &str); 4] = [
    ("socket.timeout.ms", "3000"),
    ("reconnect.backoff.max.ms", "500"),
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "500"),
];
/// Lets the loop turn: one operator is refused, then and now.
const RULES: &str = r#"
[[rule]]
name = "topic-burst"
commands = ["Group.CallbackBeforeCreateTopic"]
when = 'operator == "abuser"'
by = "operator"
count = "records"
window = "60s"
threshold = 20
mode = "enforce"
verdict = { effect = "deny", code = 10102, text = "too many topics", for = "5s" }
"#;
/// In the site's folder.
const SMALL_DISK: &str = "small-disk";
/// Room for all that the journal may take, for the snapshot, and for nothing more.
const SMALL_DISK_BYTES: u64 = 96 << 20;

/// Everything that faults happen to: two receivers, a worker, a Kafka.
pub(crate) struct Stage {
    // Ended in this order.
    slowed: Vec<(Target, Tampered)>,
    receivers: Vec<Receiver>,
    worker: Option<Process>,
    disk: Option<SmallDisk>,
    _guard: Guard,
    pub(crate) site: Site,
    /// What cannot be done here, and why.
    pub(crate) skipped: BTreeMap<&'static str, String>,
    losses: Losses,
}

/// What was counted as lost, by receiver, boot and reason.
pub(crate) type Losses = BTreeMap<String, BTreeMap<Uuid, BTreeMap<String, u64>>>;

impl Stage {
    /// Starts everything; nothing is ready yet.
    pub(crate) fn start() -> Self {
        let mut skipped = BTreeMap::new();
        let kafka = Kafka::breakable();
        if !kafka.is_real() {
            let why = "the embedded broker is part of this process; tests/kafka/run brings a real one";
            skipped.insert(BROKER, why.to_owned());
        }
        if let Err(why) = Tampered::is_possible() {
            skipped.insert(SLOW_DISK, why);
        }
        let mut site = Site::with_properties(kafka, &PROPERTIES).rules(RULES);
        let small = site.folder().path().join(SMALL_DISK);
        let guard = Guard::of(site.folder().path()).expect("sh runs");
        let disk = match SmallDisk::mount(&small, SMALL_DISK_BYTES) {
            Ok(disk) => Some(disk),
            Err(why) => {
                skipped.insert(FULL_DISK, why);
                None
            }
        };
        site.moderate("deny", &["--operator", DENIED.0, "--code", &DENIED.1.to_string()]);
        let receivers = (1..=RECEIVERS).map(|number| Receiver {
            process: None,
            name: format!("receiver-{number}"),
            listen: free_address(),
            data: if number == RECEIVERS {
                format!("{SMALL_DISK}/data")
            } else {
                format!("data-{number}")
            },
            gate: Arc::default(),
        });
        let mut stage = Self {
            slowed: Vec::new(),
            receivers: receivers.collect(),
            worker: None,
            disk,
            _guard: guard,
            site,
            skipped,
            losses: Losses::new(),
        };
        assert!(
            RULES.contains(&ABUSER.1.to_string()),
            "the rule's code is what callers expect"
        );
        for receiver in &mut stage.receivers {
            receiver.start(&stage.site);
        }
        stage.start_worker();
        stage
    }

    /// Where callers post to.
    pub(crate) fn receivers(&self) -> Vec<(SocketAddr, Arc<Gate>)> {
        let both = |receiver: &Receiver| (receiver.listen, Arc::clone(&receiver.gate));
        self.receivers.iter().map(both).collect()
    }

    /// While the small disk is full, it stays so.
    pub(crate) fn keep_full(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.top_up();
        }
    }

    /// Whoever ended without being told to.
    pub(crate) fn ended(&mut self) -> Option<(String, ExitStatus)> {
        let receivers = self
            .receivers
            .iter_mut()
            .filter_map(|receiver| Some((receiver.name.clone(), receiver.process.as_mut()?)));
        let worker = self.worker.as_mut().map(|worker| ("worker".to_owned(), worker));
        let mut all = receivers.chain(worker);
        all.find_map(|(name, process)| Some((name, process.status()?)))
    }

    /// Whether all is as it was before the faults: everything is ready, and no answer is from memory only. Tells the
    /// callers of those that are.
    pub(crate) fn is_calm(&mut self) -> bool {
        let mut calm = self.worker().is_ready();
        for receiver in &self.receivers {
            let well = receiver.process().is_ready();
            if well && receiver.gate.calm().is_none() {
                receiver.gate.renew_connections();
                receiver.gate.calm_down();
            }
            let recorded = !receiver.gate.is_full() || receiver.process().metric("receiver_rung") == 0.0;
            if recorded {
                receiver.gate.free();
            }
            calm &= well && recorded;
        }
        calm
    }

    /// Records in the journals, and records that the worker has not read.
    pub(crate) fn backlog(&self) -> (f64, f64) {
        let journals = self.receivers.iter();
        let journals = journals.map(|receiver| receiver.process().metric("receiver_backlog_records"));
        (journals.sum(), self.worker().metric("worker_lag_records"))
    }

    /// What every start of every receiver has counted as lost by now.
    pub(crate) fn losses(&mut self) -> &Losses {
        for index in 0..self.receivers.len() {
            self.note_losses(index);
        }
        &self.losses
    }

    /// Asks everything to stop and waits for it; panics unless it ends in order.
    pub(crate) fn stop(&mut self) {
        let processes = self.receivers.iter_mut().filter_map(|receiver| receiver.process.take());
        let processes: Vec<Process> = processes.chain(self.worker.take()).collect();
        processes.iter().for_each(Process::ask_to_stop);
        processes.into_iter().for_each(|process| drop(process.stopped()));
    }

    /// A call of the binary with the configuration of all.
    pub(crate) fn call(&mut self, arguments: &[&str]) -> Portcullis {
        Portcullis::command(self.site.folder().path(), arguments)
    }

    /// Lets the folder with everybody's logs stay, and gives what is told in them that is no everyday
    /// matter, in the order of time.
    pub(crate) fn troubles(&mut self) -> (PathBuf, Vec<String>) {
        let folder = self.site.folder();
        folder.keep();
        let files = fs::read_dir(folder.path()).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with(".log"));
        let mut troubles = Vec::new();
        for log in logs {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let lines = text.lines().filter(|line| !line.contains("\"level\":\"INFO\""));
            troubles.extend(lines.map(|line| (line.to_owned(), log.file_name())));
        }
        // A line begins with its time.
        troubles.sort();
        let told = troubles
            .into_iter()
            .map(|(line, file)| format!("{}: {line}", file.display()));
        (folder.path().to_owned(), told.collect())
    }

    /// A counter begins anew with each start, so this is called before each end.
    fn note_losses(&mut self, index: usize) {
        let receiver = &self.receivers[index];
        if let Some((boot, counted)) = receiver.losses().filter(|(_, counted)| !counted.is_empty()) {
            let of_receiver = self.losses.entry(receiver.name.clone()).or_default();
            of_receiver.insert(boot, counted);
        }
    }

    fn worker(&self) -> &Process {
        self.worker.as_ref().expect("a worker that runs")
    }

    fn kill_worker(&mut self) {
        self.worker = None;
    }

    fn start_worker(&mut self) {
        self.worker = Some(self.site.worker("worker-1"));
    }
}
