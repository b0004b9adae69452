mod sending;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Reached, Standstill};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;
use tracing::{error, info};

use super::client::{Client, FLIGHT_BYTES_MAX, FLIGHT_RECORDS_MAX, Tag};
use super::failed::Failed;
use super::flight::Flight;
use super::health::Health;
use super::message::{self, RecordHeaders};
use super::proofs::Proofs;
use super::tail::{Stopped, Tail};
use super::witness::Witness;
use super::{PublisherMetrics, Stop};
use crate::entry::{Entry, Kind};
use crate::journal::{Block, Journal, Position};
use crate::loss::Loss;
use sending::is_too_large;

/// How long the thread sleeps while acknowledgements are awaited: the delay of a trim, and the most by which a record is
/// handed over later. Not woken by each block in between: what comes in such a time is handed over at once, so that its
/// batches are due together, and one wake-up of librdkafka's thread sends them all.
const AWAIT_ACKNOWLEDGED: Duration = Duration::from_millis(5);
/// The same where records crowd: four times as many share a request, each partition's own, and a request costs client and
/// broker more than the records in it. A verdict still takes effect well within the tenth of a second that is promised.
const AWAIT_CROWDED: Duration = Duration::from_millis(20);
/// They do from so many a second on: 4 for each of 12 partitions in [`AWAIT_ACKNOWLEDGED`].
const CROWDED_PER_SECOND: u32 = 10_000;
/// The same when nothing is in flight: the bound on noticing a stop.
const AWAIT_IDLE: Duration = Duration::from_millis(100);
/// So many records are handed over at a time, some half a millisecond's work: where one core does all, answers wait for
/// what runs, and while a backlog is published there is always more to hand over.
const BITE_RECORDS: u32 = 512;
/// Between two bites. So at most some 300,000 records a second are handed over, which is more than a core can do.
const BITE_PAUSE: Duration = Duration::from_millis(1);
/// Before a failed client is replaced: from the first to the most, doubled each time it fails again at once.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After this time a client counts as good, and the next failure as a first one.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// A client that gets no acknowledgement for so long though Kafka answers others is given up. One that is well may wait
/// for half a minute, until Kafka gives up a replica that is gone (`replica.lag.time.max.ms`), and what it has sent could
/// not be seen in the topic before.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// The same where it had no connection left: one that is well is back within `reconnect.backoff.max.ms` and a moment.
const CUT_OFF_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked whether a client failed for good, or has lost Kafka, which no report may say.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct Follower {
    kafka: Kafka,
    headers: RecordHeaders,
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
    /// What Kafka has acknowledged, whichever client's.
    acknowledged: i64,
    lost: Standstill<()>,
    cut_off: Standstill<()>,
    /// Asked while acknowledgements are awaited for long.
    witness: Option<Witness>,
    /// Entries handed over since `waited`.
    handed: u32,
    /// When the thread last slept.
    waited: Instant,
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
            headers: RecordHeaders::new(&format!("/receivers/{instance}")),
            next: journal.first_position(),
            accounted_before: journal.recovery().trimmed_before,
            flight: Flight::default(),
            proofs: Proofs::default(),
            ledger_refuses: false,
            handed_over: journal.next_position(),
            tail: Tail::new(kafka.clone()),
            journal_away: false,
            health: Health::new(kafka.clone()),
            acknowledged: 0,
            lost: Standstill::after(LOST_AFTER),
            cut_off: Standstill::after(CUT_OFF_AFTER),
            witness: None,
            handed: 0,
            waited: Instant::now(),
            kafka,
            journal,
            metrics,
            stop,
        }
    }

    /// One client after the other until the stop.
    pub(super) fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        let found = self.journal.recovery();
        let backlog = found.next.saturating_sub(found.first);
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
                self.metrics.backlog(self.journal.backlog_records());
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
        let mut client = Client::new(&self.kafka).map_err(Failed::Client)?;
        let mut looked = Instant::now();
        loop {
            self.hand_over(&mut client)?;
            client.poll();
            self.settle(&mut client)?;
            self.metrics.backlog(self.journal.backlog_records());
            if self.stop.is_due(self.is_done()) {
                return Ok(());
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                if let Some((code, text)) = client.fatal_error() {
                    return Err(Failed::Fatal(code, text));
                }
                if self.has_lost_kafka(&client) {
                    client.close_aside();
                    return Err(Failed::Lost);
                }
            }
            self.wait();
        }
    }

    /// Whether Kafka answers others for a while, and acknowledges nothing of this client.
    fn has_lost_kafka(&mut self, client: &Client) -> bool {
        if self.flight.records() == 0 || !self.health.is_stalled() {
            self.witness = None;
            return false;
        }
        let witness = self.witness.get_or_insert_with(|| Witness::start(self.kafka.clone()));
        let awaited = i64::try_from(self.flight.records()).unwrap_or(i64::MAX);
        let reached = Reached {
            partition: (),
            next: self.acknowledged,
            end: self.acknowledged.saturating_add(awaited),
        };
        let known = witness.is_answered().then_some(reached);
        let lost = self.lost.look(Instant::now(), known);
        let cut_off = self
            .cut_off
            .look(Instant::now(), known.filter(|_| client.was_cut_off()));
        lost.or(cut_off).is_some()
    }

    /// Hands over all that the journal has, as far as the bounds of the flight allow.
    fn hand_over(&mut self, client: &mut Client) -> Result<(), Failed> {
        let mut bite = 0;
        while self.has_room() {
            if bite >= BITE_RECORDS {
                bite = 0;
                std::thread::sleep(BITE_PAUSE);
            }
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
            let records = u32::try_from(block.end() - block.first()).unwrap_or(u32::MAX);
            self.handed = self.handed.saturating_add(records);
            bite = bite.saturating_add(records);
            for (position, entry) in block.entries() {
                self.hand_over_entry(client, position, entry)?;
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

    fn hand_over_entry(&mut self, client: &mut Client, position: Position, bytes: &[u8]) -> Result<(), Failed> {
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
            self.proofs.hold(position, entry.into_owned());
            return Ok(());
        }
        if self.tail.takes(&entry.id) {
            self.metrics.found();
            self.flight.settle(position);
            return Ok(());
        }
        self.send(client, Tag::Record(position), &entry)
    }

    /// Takes the delivery reports, and trims what is acknowledged.
    fn settle(&mut self, client: &mut Client) -> Result<(), Failed> {
        let mut delivered = 0;
        let mut acknowledged = false;
        let mut too_large = Vec::new();
        for (tag, report) in client.take_reports() {
            acknowledged |= report.is_ok();
            self.acknowledged += i64::from(report.is_ok());
            match (tag, report) {
                (Tag::Ledger(position), report) => self.settle_proof(position, report),
                (Tag::Record(position), Ok(())) => {
                    delivered += 1;
                    self.flight.settle(position);
                }
                (Tag::Alone(position), Ok(())) => {
                    delivered += 1;
                    self.health.sent_alone();
                    self.flight.settle(position);
                }
                (Tag::DeadWhole(position) | Tag::DeadBare(position), Ok(())) => {
                    self.metrics.dead_letter();
                    self.health.dead_letter();
                    self.flight.settle(position);
                }
                (tag, Err(error)) if is_too_large(&error) => too_large.push(tag),
                (tag, Err(error)) => return Err(self.refused(client, tag, error)),
            }
        }
        self.send_smaller(client, too_large)?;
        self.send_proofs(client);
        self.metrics.delivered(delivered);
        if let Some(end) = self.flight.landed() {
            // Behind the last of them may be what was passed over.
            self.journal.trim(if self.flight.is_empty() { self.next } else { end });
        }
        self.tell_health(acknowledged, client);
        Ok(())
    }

    /// Sends the ledger entries whose turn has come.
    fn send_proofs(&mut self, client: &Client) {
        let now = Instant::now();
        while let Some((block, open)) = self.flight.front()
            && let Some((position, entry)) = self.proofs.next(&block, open, now)
        {
            let entry = BaseRecord::with_opaque_to(&self.kafka.topics.ledger, Tag::Ledger(position).to_opaque())
                .key(&*entry.key)
                .payload(&*entry.payload)
                .timestamp(entry.received_at.as_millis())
                .headers(message::ledger_headers());
            if let Err(error) = client.send(entry) {
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

    fn tell_health(&mut self, acknowledged: bool, client: &Client) {
        let backlog = self.journal.backlog_records();
        if acknowledged || (backlog == 0 && self.flight.is_empty()) {
            self.health.is_well(backlog);
        } else if self.flight.is_empty() {
            self.health.is_idle();
        } else {
            self.health.waits(backlog, self.journal.lasting(), client.heard());
        }
    }

    /// Until there is something to hand over, or reports may have come.
    fn wait(&mut self) {
        let crowded = self.is_crowded();
        (self.handed, self.waited) = (0, Instant::now());
        if !self.has_room() || self.journal_away {
            std::thread::sleep(AWAIT_ACKNOWLEDGED);
            return;
        }
        if self.flight.is_empty() {
            self.journal.wait_for(self.next, AWAIT_IDLE);
        } else {
            std::thread::sleep(if crowded { AWAIT_CROWDED } else { AWAIT_ACKNOWLEDGED });
        }
    }

    fn is_crowded(&self) -> bool {
        f64::from(self.handed) > f64::from(CROWDED_PER_SECOND) * self.waited.elapsed().as_secs_f64()
    }

    fn has_room(&self) -> bool {
        self.flight.records() < FLIGHT_RECORDS_MAX && self.flight.bytes() < FLIGHT_BYTES_MAX
    }

    fn is_done(&self) -> bool {
        self.flight.is_empty() && !self.journal.has_waiting() && self.next >= self.journal.next_position()
    }
}
