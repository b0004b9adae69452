use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tracing::{error, info, warn};

use super::client::{self, FLIGHT_BYTES_MAX, FLIGHT_RECORDS_MAX, Reports, Tag};
use super::failed::Failed;
use super::flight::Flight;
use super::health::Health;
use super::message;
use super::proofs::Proofs;
use super::tail::{Stopped, Tail};
use super::{PublisherMetrics, Stop};
use crate::entry::{Entry, Kind};
use crate::journal::{Block, Journal, Position};
use crate::loss::Loss;

/// How long the thread waits for the journal while acknowledgements are awaited: the delay of a trim.
const AWAIT_ACKNOWLEDGED: Duration = Duration::from_millis(5);
/// The same when nothing is in flight: the bound on noticing a stop.
const AWAIT_IDLE: Duration = Duration::from_millis(100);
/// Before a failed client is replaced: from the first to the most, doubled each time it fails again at once.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After this time a client counts as good, and the next failure as a first one.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// How often a client is asked whether it failed for good, which no report may say when nothing is in flight.
const FATAL_CHECK_EVERY: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct Follower {
    kafka: Kafka,
    source: String,
    journal: Journal,
    metrics: PublisherMetrics,
    stop: Arc<Stop>,
    /// The next position to hand over.
    next: Position,
    /// What is missing before it was trimmed once, or is counted as lost already.
    accounted_before: Position,
    flight: Flight,
    proofs: Proofs,
    /// The ledger takes nothing at present.
    ledger_refuses: bool,
    /// What lies before was handed over, by this client or an old one, or by a former start as far as is known.
    handed_over: Position,
    tail: Tail,
    /// The journal cannot be read at present.
    journal_away: bool,
    health: Health,
}

impl Follower {
    pub(super) fn new(
        kafka: Kafka,
        instance: &str,
        journal: Journal,
        metrics: PublisherMetrics,
        stop: Arc<Stop>,
    ) -> Self {
        Self {
            source: format!("/receivers/{instance}"),
            next: journal.first_position(),
            accounted_before: journal.recovery().trimmed_before,
            flight: Flight::default(),
            proofs: Proofs::default(),
            ledger_refuses: false,
            handed_over: journal.next_position(),
            tail: Tail::new(kafka.clone()),
            journal_away: false,
            health: Health::new(kafka.clone()),
            kafka,
            journal,
            metrics,
            stop,
        }
    }

    /// One client after the other until the stop.
    pub(super) fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        let backlog = self.journal.backlog_records();
        if backlog > 0 {
            info!(backlog, "publishing what the former start left");
        }
        while self.compare().is_ok() {
            let began = Instant::now();
            let Err(failed) = self.follow() else {
                return;
            };
            if began.elapsed() > GOOD_AFTER {
                pause = PAUSE_FIRST;
            }
            self.metrics.failed(self.flight.records() as u64);
            self.handed_over = self.handed_over.max(self.next);
            self.next = self.flight.abandon().unwrap_or(self.next);
            self.proofs.abandon();
            self.health.failed(&failed, self.journal.backlog_records());
            let resume = Instant::now() + pause;
            while Instant::now() < resume {
                if self.stop.is_due(false) {
                    return;
                }
                std::thread::sleep(AWAIT_IDLE.min(pause));
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Finds out what an old client or a former start has published without seeing its acknowledgement.
    fn compare(&mut self) -> Result<(), Stopped> {
        let Self {
            tail,
            journal,
            metrics,
            health,
            stop,
            ..
        } = self;
        let mut goes_on = || {
            let backlog = journal.backlog_records();
            metrics.backlog(backlog);
            health.waits(backlog, journal.lasting(), None);
            !stop.is_due(false)
        };
        tail.compare(journal, self.next..self.handed_over, &mut goes_on)
    }

    /// With one client until it fails or all is done and the stop is asked for.
    fn follow(&mut self) -> Result<(), Failed> {
        let producer = client::new(&self.kafka).map_err(Failed::Client)?;
        let mut fatal_checked = Instant::now();
        loop {
            self.hand_over(&producer)?;
            producer.poll(Duration::ZERO);
            self.settle(&producer)?;
            self.metrics.backlog(self.journal.backlog_records());
            if self.stop.is_due(self.is_done()) {
                return Ok(());
            }
            if fatal_checked.elapsed() >= FATAL_CHECK_EVERY {
                fatal_checked = Instant::now();
                if let Some((code, text)) = producer.client().fatal_error() {
                    return Err(Failed::Fatal(code, text));
                }
            }
            self.wait(&producer);
        }
    }

    /// Hands over all that the journal has, as far as the bounds of the flight allow.
    fn hand_over(&mut self, producer: &BaseProducer<Reports>) -> Result<(), Failed> {
        while self.has_room() {
            let end = self.journal.next_position();
            let block = match self.journal.read(self.next) {
                Ok(block) => block,
                // It is being opened again, and says so itself; this client is as good as before.
                Err(_) => {
                    self.journal_away = true;
                    return Ok(());
                }
            };
            self.journal_away = false;
            self.pass_over(block.as_ref().map_or(end, Block::first));
            let Some(block) = block else {
                return Ok(());
            };
            let bytes = block.entries().map(|(_, entry)| entry.len()).sum();
            self.flight.add(block.first(), block.end(), bytes);
            for (position, entry) in block.entries() {
                self.hand_over_entry(producer, position, entry)?;
            }
            self.next = block.end();
        }
        Ok(())
    }

    /// Positions without a block: damage took them.
    fn pass_over(&mut self, to: Position) {
        if to > self.next {
            let lost = to.saturating_sub(self.next.max(self.accounted_before));
            if lost > 0 {
                error!(from = self.next, lost, "records in the journal are lost to damage");
                self.metrics.lost(Loss::JournalDamaged, lost);
            }
            self.accounted_before = to;
            self.next = to;
            if self.flight.is_empty() {
                self.journal.trim(to);
            }
        }
    }

    fn hand_over_entry(
        &mut self,
        producer: &BaseProducer<Reports>,
        position: Position,
        bytes: &[u8],
    ) -> Result<(), Failed> {
        let entry = match Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                error!(position, %error, "an entry of the journal is passed over");
                self.metrics.lost(Loss::Undecodable, 1);
                self.flight.settle(position);
                return Ok(());
            }
        };
        if entry.kind == Kind::Ledger {
            self.proofs.hold(position, entry);
            return Ok(());
        }
        if self.tail.takes(&entry.id) {
            self.metrics.found();
            self.flight.settle(position);
            return Ok(());
        }
        let topic = &self.kafka.topics.callbacks;
        let record = BaseRecord::with_opaque_to(topic, Tag::Record(position).to_opaque())
            .key(&entry.key)
            .payload(&entry.payload)
            .timestamp(entry.received_at.as_millis())
            .headers(message::record_headers(&entry, &self.source));
        match send(producer, record) {
            Err(error) if is_too_large(&error) => self.bury(producer, position, &entry, &[Form::Whole, Form::Bare]),
            sent => sent.map_err(|source| refused(topic, source)),
        }
    }

    /// Sends a record that is over the broker's limit to the dead letters, in the first of `forms` that fits.
    fn bury(
        &mut self,
        producer: &BaseProducer<Reports>,
        position: Position,
        entry: &Entry,
        forms: &[Form],
    ) -> Result<(), Failed> {
        for form in forms {
            let (tag, payload) = match form {
                Form::Whole => (Tag::DeadWhole(position), Some(entry.payload.clone())),
                Form::Bare => (Tag::DeadBare(position), message::without_body(entry)),
            };
            let Some(payload) = payload else {
                continue;
            };
            let topics = &self.kafka.topics;
            let letter = BaseRecord::with_opaque_to(&topics.dead_letters, tag.to_opaque())
                .key(&entry.key)
                .payload(&payload)
                .timestamp(entry.received_at.as_millis())
                .headers(message::dead_letter_headers(entry, &self.source, &topics.callbacks));
            match send(producer, letter) {
                Err(error) if is_too_large(&error) => {}
                sent => return sent.map_err(|source| refused(&topics.dead_letters, source)),
            }
        }
        error!(position, id = %entry.id, bytes = entry.payload.len(), "record is too large even for dead-letters, lost");
        self.metrics.lost(Loss::TooLargeForBroker, 1);
        self.flight.settle(position);
        Ok(())
    }

    /// Takes the delivery reports, and trims what is acknowledged.
    fn settle(&mut self, producer: &BaseProducer<Reports>) -> Result<(), Failed> {
        let mut delivered = 0;
        let mut acknowledged = false;
        for (tag, report) in producer.context().take() {
            acknowledged |= report.is_ok();
            match (tag, report) {
                (Tag::Record(position), Ok(())) => {
                    delivered += 1;
                    self.flight.settle(position);
                }
                (Tag::DeadWhole(position) | Tag::DeadBare(position), Ok(())) => {
                    warn!(position, "a record over the broker's limit went to the dead letters");
                    self.metrics.dead_letter();
                    self.flight.settle(position);
                }
                (Tag::Record(position), Err(error)) if is_too_large(&error) => {
                    self.bury_again(producer, position, &[Form::Whole, Form::Bare])?;
                }
                (Tag::DeadWhole(position), Err(error)) if is_too_large(&error) => {
                    self.bury_again(producer, position, &[Form::Bare])?;
                }
                (Tag::DeadBare(position), Err(error)) if is_too_large(&error) => {
                    self.bury_again(producer, position, &[])?;
                }
                (Tag::Ledger(position), report) => self.settle_proof(position, report),
                (Tag::Record(_), Err(error)) => return Err(refused(&self.kafka.topics.callbacks, error)),
                (_, Err(error)) => return Err(refused(&self.kafka.topics.dead_letters, error)),
            }
        }
        self.send_proofs(producer);
        self.metrics.delivered(delivered);
        if let Some(end) = self.flight.landed() {
            // Behind the last of them may be what was passed over.
            self.journal.trim(if self.flight.is_empty() { self.next } else { end });
        }
        self.tell_health(acknowledged, producer);
        Ok(())
    }

    /// Sends the ledger entries whose turn has come.
    fn send_proofs(&mut self, producer: &BaseProducer<Reports>) {
        let now = Instant::now();
        while let Some((block, open)) = self.flight.front()
            && let Some((position, entry)) = self.proofs.next(&block, open, now)
        {
            let entry = BaseRecord::with_opaque_to(&self.kafka.topics.ledger, Tag::Ledger(position).to_opaque())
                .key(&entry.key)
                .payload(&entry.payload)
                .timestamp(entry.received_at.as_millis())
                .headers(message::ledger_headers());
            if let Err((error, _)) = producer.send(entry) {
                self.settle_proof(position, Err(error));
            }
        }
        if let Some(position) = self.proofs.overdue(now) {
            self.flight.settle(position);
        }
    }

    /// A ledger entry is there or is left out: the next one proves as much, and no record may wait for it.
    fn settle_proof(&mut self, position: Position, report: Result<(), KafkaError>) {
        if self.proofs.settle(position) {
            self.flight.settle(position);
        }
        let topic = &self.kafka.topics.ledger;
        match report {
            Ok(()) if std::mem::take(&mut self.ledger_refuses) => info!(topic, "Kafka takes ledger entries again"),
            Ok(()) => {}
            Err(error) if !std::mem::replace(&mut self.ledger_refuses, true) => error!(
                topic,
                %error,
                "Kafka refuses ledger entries, nobody can prove what is missing: `portcullis topics check` tells whether the topic is there, else the right to write it is missing"
            ),
            Err(_) => {}
        }
    }

    fn tell_health(&mut self, acknowledged: bool, producer: &BaseProducer<Reports>) {
        let backlog = self.journal.backlog_records();
        if acknowledged || (backlog == 0 && self.flight.is_empty()) {
            self.health.is_well(backlog);
        } else if self.flight.is_empty() {
            self.health.is_idle();
        } else {
            self.health
                .waits(backlog, self.journal.lasting(), producer.context().heard());
        }
    }

    /// [`Follower::bury`] of a record that was handed over before and is read once more.
    fn bury_again(
        &mut self,
        producer: &BaseProducer<Reports>,
        position: Position,
        forms: &[Form],
    ) -> Result<(), Failed> {
        let Some(first) = self.flight.block_of(position) else {
            return Ok(());
        };
        let Ok(block) = self.journal.read(first) else {
            // Sent again, and buried again, when the journal can be read.
            return Err(Failed::Away);
        };
        let bytes = block
            .as_ref()
            .and_then(|block| block.entries().find(|(at, _)| *at == position));
        match bytes.map(|(_, bytes)| Entry::decode(bytes)) {
            Some(Ok(entry)) => self.bury(producer, position, &entry, forms),
            Some(Err(_)) | None => {
                self.metrics.lost(Loss::Undecodable, 1);
                self.flight.settle(position);
                Ok(())
            }
        }
    }

    /// Until there is something to hand over, or reports may have come.
    fn wait(&self, producer: &BaseProducer<Reports>) {
        if !self.has_room() || self.journal_away {
            producer.poll(AWAIT_ACKNOWLEDGED);
            return;
        }
        let timeout = if self.flight.is_empty() {
            AWAIT_IDLE
        } else {
            AWAIT_ACKNOWLEDGED
        };
        self.journal.wait_for(self.next, timeout);
    }

    fn has_room(&self) -> bool {
        self.flight.records() < FLIGHT_RECORDS_MAX && self.flight.bytes() < FLIGHT_BYTES_MAX
    }

    fn is_done(&self) -> bool {
        self.flight.is_empty() && !self.journal.has_waiting() && self.next >= self.journal.next_position()
    }
}

/// A dead letter's form.
#[derive(Clone, Copy)]
enum Form {
    Whole,
    Bare,
}

/// Hands a message over, however long the client's own queue is full: it is larger than the flight, so it is full only
/// while what an old client left is being given up.
fn send(
    producer: &BaseProducer<Reports>,
    mut record: BaseRecord<'_, String, Vec<u8>, usize>,
) -> Result<(), KafkaError> {
    let patience = Instant::now() + PAUSE_MAX;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < patience => {
                record = back;
                producer.poll(AWAIT_ACKNOWLEDGED);
            }
            Err((error, _)) => return Err(error),
        }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

fn refused(topic: &str, source: KafkaError) -> Failed {
    let topic = topic.to_owned();
    Failed::Refused { topic, source }
}
