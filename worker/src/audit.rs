//! The audit: whether a record is missing, asked all the time by one worker of the group.
//!
//! The partitions of `callbacks` are spread over the workers, and a hole shows only to who reads all of them. So one
//! worker reads everything once more, on a thread of its own (`audit/duty.rs` chooses which), and keeps the account of
//! it (`portcullis_schema::account`). It begins an hour back, or, after an outage, where a note of the auditor before
//! says that it had come to, up to a day; what is older is for `portcullis reconcile`.
//!
//! An entry of the ledger is a proof as soon as all is read that was there after it: entries that were read wait, the
//! ends of the other topics are asked for, and when these are passed the entries are heard (`audit/case.rs`).
//!
//! The audit commits nothing but that note, is no condition for being ready, and no trouble of Kafka's ends it: it begins
//! anew.

mod case;
mod client;
mod duty;
mod reading;

use std::time::{Duration, Instant};

use portcullis_schema::account::SLACK;
use portcullis_schema::{Standstill, Timestamp};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tracing::{debug, info, warn};

use crate::Config;
use crate::metrics::Metrics;
use crate::stream::Stop;
use case::Case;
use duty::Duty;
use reading::{Place, Reading, Trouble};

/// Who takes over reads again what the one before has read for so long: a worker is replaced in far less.
const BACK: Duration = Duration::from_secs(3_600);
/// How far back it goes when the auditor before had not come further, because Kafka was away or a receiver was silent:
/// what is lost in an outage is lost in it. Reading a day of 1,000 records a second takes a few minutes.
const BACK_MAX: Duration = Duration::from_secs(86_400);
const NOTE_EVERY: Duration = Duration::from_secs(30);
/// An account is whole from some time behind its beginning on, and from the first entry of a receiver after that.
const OVERLAP: Duration = Duration::from_secs(2 * SLACK.as_secs());
/// How many messages are taken between two looks at the group and at the stop: some milliseconds.
const BATCH_MAX: usize = 1_000;
const IDLE: Duration = Duration::from_millis(50);
/// How often the ends are asked for, a request for each partition: entries come every 10 s from each receiver.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// While entries wait for what was asked for before. Longer than nearly all of them do, so that it is rarely asked.
const LOOK_EVERY: Duration = Duration::from_secs(3);
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct Audit {
    config: Config,
    group: String,
    metrics: Metrics,
    stop: Stop,
    duty: Duty,
    standstill: Standstill<Place>,
    failing: bool,
}

impl Audit {
    pub(crate) fn new(config: Config, metrics: Metrics, stop: Stop) -> KafkaResult<Self> {
        let group = format!("{}-audit", config.group);
        Ok(Self {
            duty: Duty::new(&config.kafka, &group)?,
            config,
            group,
            metrics,
            stop,
            standstill: Standstill::default(),
            failing: false,
        })
    }

    /// Until the worker is stopped.
    pub(crate) fn run(mut self) {
        while !self.stop.is_asked() {
            self.duty.attend(IDLE);
            if !self.duty.is_on() {
                continue;
            }
            let outcome = self.audit();
            self.metrics.audit_ended();
            if let Err(trouble) = outcome {
                self.fails(&trouble);
                self.stop.wait(BEGIN_ANEW_AFTER);
            }
        }
    }

    /// As long as it is this worker's duty.
    fn audit(&mut self) -> Result<(), Trouble> {
        let now = Timestamp::now();
        let noted = self.duty.note()?.map_or(now, |noted| noted.before(OVERLAP));
        let from = noted.clamp(now.before(BACK_MAX), now.before(BACK));
        let mut reading = Reading::begin(&self.config.kafka, &self.group, from)?;
        let from = if reading.is_cut { Timestamp::now() } else { from };
        let mut case = Case::new(from);
        self.begins(from);
        let (mut sealed, mut noted) = (Instant::now(), Instant::now());
        let mut counted_repeats = 0;
        while self.duty.is_on() && !self.stop.is_asked() {
            self.duty.attend(Duration::ZERO);
            gather(&mut reading, &mut case)?;
            case.judge(|ends| reading.has_passed(ends));
            let pause = if case.wants_ends() { SEAL_EVERY } else { LOOK_EVERY };
            if case.is_waiting() && sealed.elapsed() >= pause {
                sealed = Instant::now();
                match reading.ends() {
                    Ok(ends) => {
                        reading.look(&ends, &mut self.standstill)?;
                        if case.wants_ends() {
                            case.seal(ends);
                        }
                    }
                    // They are asked for again.
                    Err(Trouble::Kafka(error)) => debug!(%error, "ends are not known"),
                    Err(trouble) => return Err(trouble),
                }
            }
            if noted.elapsed() >= NOTE_EVERY {
                noted = Instant::now();
                self.leave_note(&case);
            }
            let repeats = case.account.repeats();
            self.metrics
                .audited(case.account.missing_records(), repeats.saturating_sub(counted_repeats));
            counted_repeats = repeats;
        }
        if self.duty.is_on() {
            self.leave_note(&case);
        }
        info!("this worker audits no more");
        Ok(())
    }

    /// None before the first entry was heard: then the note of the auditor before still holds.
    fn leave_note(&self, case: &Case) {
        if let Some(until) = case.judged_until() {
            self.duty.leave_note(until);
        }
    }

    fn begins(&mut self, from: Timestamp) {
        self.failing = false;
        self.metrics.audit_began();
        info!(%from, "this worker audits: whether a record is missing, of all receivers");
    }

    fn fails(&mut self, trouble: &Trouble) {
        debug!(error = %trouble, "audit begins anew");
        if !std::mem::replace(&mut self.failing, true) {
            warn!(error = %trouble, "audit is interrupted, beginning anew");
        }
    }
}

/// However the thread ends, nobody is to believe that it goes on.
impl Drop for Audit {
    fn drop(&mut self) {
        self.metrics.audit_ended();
    }
}

fn gather(reading: &mut Reading, case: &mut Case) -> Result<(), KafkaError> {
    let mut wait = IDLE;
    for _ in 0..BATCH_MAX {
        match reading.poll(wait) {
            Some(Ok((topic, message))) => case.take(topic, &message),
            Some(Err(error)) if is_lasting(&error) => return Err(error),
            Some(Err(error)) => debug!(%error, "audit reads nothing"),
            None => break,
        }
        wait = Duration::ZERO;
    }
    Ok(())
}

/// Whether reading on would leave something out, or will never be possible.
fn is_lasting(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                Code::AutoOffsetReset
                    | Code::OffsetOutOfRange
                    | Code::UnknownTopic
                    | Code::UnknownPartition
                    | Code::UnknownTopicOrPartition
                    | Code::TopicAuthorizationFailed
            )
        )
}
