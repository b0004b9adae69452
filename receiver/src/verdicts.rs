//! From the `verdicts` topic into memory: everything up to the end captured at start before the receiver is ready, and
//! every newer verdict as it comes.
//!
//! Every receiver reads every partition, so there is no group and nothing is committed. A thread of its own, because
//! librdkafka's consumer blocks. While Kafka is away the thread waits and what is in memory holds.
//!
//! Offsets mean something only in the topic that they are of. So the reader keeps a message of each partition in mind
//! ([`landmark`]), over restarts too, and looks whether it still stands: before it goes on from its offsets, and every few
//! seconds ([`ends`]). Where one does not, or an end lies below what was read, the topic was made anew or may have been:
//! it is read from its beginning, and what it does not say is forgotten when it has been read to its end, not before, so
//! that nobody passes meanwhile.

mod beginning;
mod ends;
mod landmark;
mod order;
mod partitions;
mod saving;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{AppId, Reached, Readiness, Source, Standstill, Subject, Timestamp, Verdict, VerdictKey};
use rdkafka::Message;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode::{
    AllBrokersDown, BrokerTransportFailure, GroupAuthorizationFailed, OperationTimedOut, TopicAuthorizationFailed,
    UnknownTopic, UnknownTopicOrPartition,
};
use rdkafka::message::BorrowedMessage;
use tracing::{error, info, warn};

use crate::config::StaleVerdicts;
use crate::consumer::{GROUP, is_passing};
use crate::decision::{BYTES_EACH, BYTES_MOST, Decisions, Keeper, Kept};
use crate::metrics::Metrics;
use ends::Ends;
use landmark::Landmark;
use order::Order;
use partitions::Partitions;
use saving::Saving;
use snapshot::Place;

/// The latch that this module owns.
const LATCH: &str = "verdicts";
/// How long the broker may take to answer what is asked at start and for the lag.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries while Kafka is away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a poll waits when there is nothing: the bound on stopping, not on a verdict, which wakes it.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Three times what it takes while Kafka answers until the last snapshot is begun, which is [`POLL_WAIT`].
const STOP_MAX: Duration = Duration::from_millis(300);
/// How long the last snapshot may take: a million verdicts take a second, and the disk may be busy.
const LAST_SNAPSHOT_MAX: Duration = Duration::from_secs(5);
const STOP_POLL: Duration = Duration::from_millis(5);
/// Messages applied before their offsets and terms are put in force together.
const BATCH_MAX: usize = 1_000;
/// How often the lag is measured, and the memory swept.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// How often a snapshot is written when something changed. A restart reads the rest from the topic.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

/// How old it becomes where nothing changed and Kafka says so: far from the hour after which it is not used.
const SNAPSHOT_AGAIN: Duration = Duration::from_secs(600);

/// The reading thread.
pub(crate) struct Verdicts {
    stop: Arc<AtomicBool>,
    saves: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the reader is given at start.
pub(crate) struct Options {
    pub(crate) kafka: Kafka,
    pub(crate) snapshot: PathBuf,
    pub(crate) stale: StaleVerdicts,
    pub(crate) decisions: Decisions,
    pub(crate) keeper: Keeper,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
}

impl Verdicts {
    pub(crate) fn start(options: Options) -> std::io::Result<Self> {
        options.readiness.unset(LATCH, "verdicts are being read");
        let verdicts_max = options.decisions.subjects_max();
        let (usual_bytes, most_bytes) = (verdicts_max * BYTES_EACH, verdicts_max * BYTES_MOST);
        info!(verdicts_max, usual_bytes, most_bytes, "memory has room for verdicts");
        let [stop, saves] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
        let mut reader = Reader {
            stop: Arc::clone(&stop),
            saves: Arc::clone(&saves),
            next: Vec::new(),
            landmarks: Vec::new(),
            anew: false,
            order: None,
            from_snapshot: false,
            known_to_hold: None,
            saved: None,
            saving: Saving::default(),
            ends: Ends::start(options.kafka.clone(), Arc::clone(&stop))?,
            standstill: Standstill::default(),
            cut_off: None,
            options,
        };
        // Before anybody is answered: for a moment callers wait in the kernel's queue, instead of passing unjudged.
        reader.load_snapshot();
        reader.tell_held();
        let thread = std::thread::Builder::new()
            .name("verdicts".to_owned())
            .spawn(move || reader.run())?;
        Ok(Self { stop, saves, thread })
    }

    /// The thread ends beside what else is stopped. Returns at once.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end, for at most [`STOP_MAX`], and [`LAST_SNAPSHOT_MAX`] where the last snapshot is being written: a
    /// question to a Kafka that is away takes longer, then there is nothing new to write, and the process ends without the
    /// thread. Blocks.
    pub(crate) fn stop(self) {
        self.ask_to_stop();
        let began = Instant::now();
        while !self.thread.is_finished() {
            let waits_max = match self.saves.load(Ordering::Relaxed) {
                true => LAST_SNAPSHOT_MAX,
                false => STOP_MAX,
            };
            if began.elapsed() >= waits_max {
                return;
            }
            std::thread::sleep(STOP_POLL);
        }
        if self.thread.join().is_err() {
            error!("the verdict reader panicked");
        }
    }
}

struct Reader {
    options: Options,
    stop: Arc<AtomicBool>,
    /// Whether the last snapshot is being written.
    saves: Arc<AtomicBool>,
    /// For each partition, the next offset to read.
    next: Vec<i64>,
    /// For each partition, the last message that was read of the topic. It may be of another one than those before it, see
    /// [`Ends::proven`].
    landmarks: Vec<Option<Landmark>>,
    /// The topic is read from its beginning, and memory holds things beside that it may not say.
    anew: bool,
    /// While the partitions are read up to the ends that they had at the beginning.
    order: Option<Order>,
    /// Whether memory began with a snapshot. Offsets alone do not tell: they are there as soon as the topic's
    /// partitions are known, before anything of it is read.
    from_snapshot: bool,
    /// When memory was last known to hold everything in the topic, if it ever was.
    known_to_hold: Option<Instant>,
    /// What the last snapshot says of the topic, and when it was written.
    saved: Option<(Place, Instant)>,
    saving: Saving,
    ends: Ends,
    standstill: Standstill<usize>,
    /// When a client had no connection left, if that was since they were made.
    cut_off: Option<Instant>,
}

impl Reader {
    fn run(mut self) {
        let mut said = String::new();
        while !self.stopping() {
            match self.follow() {
                Ok(()) => {}
                Err(error) => {
                    let reason = self.told(&error);
                    if reason != said {
                        warn!(error = %reason, "verdicts cannot be read, what is in memory holds; trying again");
                        said.clone_from(&reason);
                    }
                    self.kafka_is_away(&reason);
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
        self.saves.store(true, Ordering::Relaxed);
        // One that is under way began before the last verdicts came.
        self.saving.finish();
        self.save_snapshot();
        self.saving.finish();
        self.saves.store(false, Ordering::Relaxed);
    }

    /// Reads until the process stops, the topic has other partitions, or a client gets nothing more of one; an error is
    /// for trying again. A client that had no connection left may never look for one again (`publisher.rs`), and the next
    /// verdict would tell too late: when Kafka answers others, it is replaced in any case.
    fn follow(&mut self) -> Result<(), KafkaError> {
        let ends = self.find_ends()?;
        let mut partitions = Partitions::assign(&self.options.kafka, &self.next)?;
        self.read_on(&mut partitions, &ends)?;
        // Also at the end of the process: closing them in place would take the time in which it waits for the snapshot.
        partitions.close_aside();
        Ok(())
    }

    fn read_on(&mut self, partitions: &mut Partitions, ends: &[i64]) -> Result<(), KafkaError> {
        self.cut_off = None;
        self.order = (self.next.len() > 1).then(Order::default);
        let warm_before = self
            .options
            .readiness
            .latches()
            .get(LATCH)
            .is_some_and(|latch| latch.ready);
        let began = Instant::now();
        let mut warm = false;
        let (mut housekept, mut saved) = (Instant::now(), Instant::now());
        let mut patience = POLL_WAIT;
        while !self.stopping() {
            self.read_batch(partitions, patience)?;
            // A part at a time, so that no verdict waits for what is over.
            patience = match self.options.keeper.sweep(Timestamp::now()) {
                true => Duration::ZERO,
                false => POLL_WAIT,
            };
            if !warm && self.next.iter().zip(ends).all(|(next, end)| next >= end) {
                if self.anew && !self.forget_what_is_not_said() {
                    return Ok(());
                }
                warm = true;
                self.order = None;
                self.is_warm(began, warm_before);
                saved = Instant::now();
                self.save_snapshot();
            }
            if housekept.elapsed() >= LAG_EVERY {
                housekept = Instant::now();
                let may_be_lost = self.cut_off.is_some_and(|then| self.ends.answered_after(then));
                self.keep_house(warm);
                if let Some(partitions) = self.ends.partitions().filter(|count| *count != self.next.len()) {
                    info!(
                        partitions,
                        before = self.next.len(),
                        "the topic has other partitions, reading all of them"
                    );
                    return Ok(());
                }
                if self.ends.is_other() || may_be_lost || self.stands_still() {
                    return Ok(());
                }
            }
            if warm && saved.elapsed() >= SNAPSHOT_EVERY {
                saved = Instant::now();
                self.save_snapshot();
            }
        }
        Ok(())
    }

    /// Whether a client gets nothing of its partition though the broker has more, and says so.
    fn stands_still(&mut self) -> bool {
        let still = self.standstill.look(Instant::now(), self.ends.beside(&self.next));
        if let Some(Reached { partition, next, end }) = still {
            warn!(
                partition,
                next, end, "no verdict of a partition comes though the broker has some, reading on by new clients"
            );
        }
        still.is_some()
    }

    /// Applies what is there, and puts it in force; waits where there is nothing.
    fn read_batch(&mut self, partitions: &mut Partitions, patience: Duration) -> Result<(), KafkaError> {
        for read in 0..BATCH_MAX {
            let mut ended = None;
            match partitions.take() {
                None if read == 0 => partitions.wait(patience),
                None => break,
                Some(Ok(message)) => self.apply(&message),
                // The last offsets of a compacted topic may hold no message: the end is an event of its own.
                Some(Err(KafkaError::PartitionEOF(partition))) => ended = Some(partition),
                Some(Err(error)) if is_passing(&error) => {
                    if error.rdkafka_error_code() == Some(AllBrokersDown) {
                        self.cut_off = Some(Instant::now());
                    }
                    break;
                }
                Some(Err(error)) => return Err(error),
            }
            if let Some(partition) = ended
                && let Some(next) = partitions.position(&self.options.kafka.topics.verdicts, partition)
            {
                self.advance(partition, next);
            }
        }
        self.options.keeper.settle(&self.next);
        self.ends.read(&self.next, &self.landmarks);
        Ok(())
    }

    fn apply(&mut self, message: &BorrowedMessage<'_>) {
        let now = Timestamp::now();
        let outcome = match message.payload() {
            Some(json) => match Verdict::decode(json) {
                Ok(verdict) if !self.holds(verdict.app, &verdict.subject, verdict.source, message) => "superseded",
                Ok(verdict) => match self.options.keeper.put(&verdict, now) {
                    Kept::InForce => "in_force",
                    Kept::Expired => "expired",
                    Kept::TermsFull => "terms_full",
                    Kept::Full => "full",
                },
                Err(error) => undecodable(message, &error),
            },
            None => match key_of(message) {
                Ok(key) if !self.holds(key.app, &key.subject, key.source, message) => "superseded",
                Ok(key) => {
                    self.options.keeper.lift(&key);
                    "lifted"
                }
                Err(error) => undecodable(message, &error),
            },
        };
        self.options.metrics.verdict_read(outcome);
        self.advance(message.partition(), message.offset() + 1);
        self.mark(message);
    }

    fn holds(&mut self, app: AppId, subject: &Subject, source: Source, message: &BorrowedMessage<'_>) -> bool {
        let order = self.order.as_mut();
        order.is_none_or(|order| order.holds(app, subject, source, message))
    }

    fn mark(&mut self, message: &BorrowedMessage<'_>) {
        let partition = usize::try_from(message.partition()).unwrap_or(usize::MAX);
        if let Some(last) = self.landmarks.get_mut(partition) {
            let landmark = Landmark::of(message);
            if last.replace(landmark).is_none() {
                self.ends.first(partition, landmark);
            }
        }
    }

    fn advance(&mut self, partition: i32, next: i64) {
        if let Some(known) = usize::try_from(partition)
            .ok()
            .and_then(|index| self.next.get_mut(index))
        {
            *known = (*known).max(next);
        }
    }

    fn is_warm(&mut self, began: Instant, before: bool) {
        self.options.keeper.warm();
        self.known_to_hold = Some(Instant::now());
        self.tell_held();
        let (subjects, took) = (self.options.decisions.subjects(), began.elapsed());
        self.options
            .readiness
            .set(LATCH, "everything up to the end captured at start is in force");
        if before {
            info!(subjects, "verdicts are read again");
        } else {
            info!(subjects, ?took, "verdicts are in force");
        }
    }

    fn keep_house(&mut self, warm: bool) {
        if let Some(asked) = self.ends.reached(&self.next).filter(|_| warm) {
            self.known_to_hold = Some(asked);
        }
        self.tell_held();
    }

    fn tell_held(&self) {
        let lag = self.known_to_hold.map(|then| then.elapsed());
        self.options.metrics.verdict_lag(lag);
        let decisions = &self.options.decisions;
        self.options.metrics.verdicts(decisions.subjects(), decisions.evicted());
    }
}

/// Memory at start and at the end.
impl Reader {
    /// Fills memory from the last snapshot where that is young enough, and goes on in the topic from its offsets.
    fn load_snapshot(&mut self) {
        let now = Timestamp::now();
        let topic = &self.options.kafka.topics.verdicts;
        let began = Instant::now();
        let loaded = snapshot::load(&self.options.snapshot, topic, now, &mut self.options.keeper);
        let snapshot = match loaded {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return,
            Err(error) => {
                warn!(file = %self.options.snapshot.display(), %error, "verdict snapshot cannot be used, the whole topic is read");
                // A part of it may be in force.
                if self.options.decisions.subjects() > 0 {
                    self.anew = true;
                    self.options.keeper.begin_anew();
                }
                return;
            }
        };
        let (verdicts, age, took) = (snapshot.verdicts, now.since(snapshot.taken_at), began.elapsed());
        info!(verdicts, ?age, ?took, "verdict snapshot is loaded");
        self.known_to_hold = Instant::now().checked_sub(age);
        self.ends.begin(&snapshot.place.next, &snapshot.place.landmarks);
        self.next.clone_from(&snapshot.place.next);
        self.saved = self.known_to_hold.map(|taken| (snapshot.place, taken));
        self.from_snapshot = true;
        self.options.keeper.settle(&self.next);
    }

    /// With a snapshot and the policy to serve it, the receiver is ready though Kafka is away.
    fn kafka_is_away(&mut self, reason: &str) {
        self.tell_held();
        let readiness = &self.options.readiness;
        if readiness.latches().get(LATCH).is_some_and(|latch| latch.ready) {
            return;
        }
        if self.options.stale == StaleVerdicts::Serve && self.from_snapshot {
            self.options.keeper.warm();
            readiness.set(LATCH, format!("the last snapshot is in force, Kafka is away: {reason}"));
            return;
        }
        readiness.unset(LATCH, format!("verdicts cannot be read: {reason}"));
    }

    fn save_snapshot(&mut self) {
        // Memory that never held everything must not pass for it.
        let warm = self
            .options
            .readiness
            .latches()
            .get(LATCH)
            .is_some_and(|latch| latch.ready);
        let place = Place {
            topic: self.options.kafka.topics.verdicts.clone(),
            next: self.next.clone(),
            landmarks: self.ends.proven(),
        };
        let known = self.known_to_hold.is_some_and(|then| then.elapsed() < SNAPSHOT_EVERY);
        let is_same = self.saved.as_ref().is_some_and(|(saved, at)| {
            let young = at.elapsed() < SNAPSHOT_AGAIN;
            *saved == place && (young || !known)
        });
        if !warm || self.anew || is_same || self.saving.is_under_way() {
            return;
        }
        self.saved = Some((place.clone(), Instant::now()));
        self.saving
            .begin(self.options.snapshot.clone(), place, self.options.decisions.clone());
    }

    /// What went wrong, for the person who has to mend it.
    fn told(&self, error: &KafkaError) -> String {
        let (bootstrap, topic) = (&self.options.kafka.bootstrap, &self.options.kafka.topics.verdicts);
        match error.rdkafka_error_code() {
            Some(UnknownTopic | UnknownTopicOrPartition) => {
                format!("topic {topic} is not in Kafka at {bootstrap}: run `portcullis topics create`")
            }
            Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut) => {
                format!("Kafka at {bootstrap} does not answer")
            }
            Some(TopicAuthorizationFailed) => {
                format!("Kafka at {bootstrap} does not let this client read topic {topic}: grant it Read on that topic")
            }
            Some(GroupAuthorizationFailed) => {
                format!("Kafka at {bootstrap} does not let this client read: grant it Read on group {GROUP}")
            }
            Some(code) => format!("Kafka at {bootstrap}, topic {topic}: {code}"),
            None => error.to_string(),
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn key_of(message: &BorrowedMessage<'_>) -> Result<VerdictKey, portcullis_schema::VerdictError> {
    String::from_utf8_lossy(message.key().unwrap_or_default()).parse()
}

fn undecodable(message: &BorrowedMessage<'_>, error: &dyn std::error::Error) -> &'static str {
    let (partition, offset) = (message.partition(), message.offset());
    warn!(partition, offset, %error, cause = error.source().map(tracing::field::display), "not a verdict, passed over");
    "undecodable"
}
