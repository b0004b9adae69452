//! Tells what happens, as anybody with a Kafka client could: from the topics alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::Kafka;
use portcullis_schema::{AuditRecord, Effect, Finding, Source, Timestamp, Uuid, Verdict, units};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::kafka;

/// How often what is ordinary gets a line.
const SUMMARY_EVERY: Duration = Duration::from_secs(5);
const POLL_WAIT: Duration = Duration::from_millis(20);
/// After the stop: the last records arrive within milliseconds, or the broker is gone.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Verdicts remembered: more than a day of the play gives. Beyond it the oldest is let go.
const CASES_MAX: usize = 10_000;

/// The thread that tells.
pub(crate) struct Story {
    stop: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    thread: JoinHandle<Told>,
}

/// What the topics held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) records: u64,
    pub(crate) findings: u64,
    pub(crate) verdicts: u64,
    /// Whether the records' sequence is dense from 0.
    pub(crate) dense: bool,
}

/// What is known of one verdict, told in the order in which it came about: the topics that tell it are read side by
/// side, in no order.
#[derive(Default)]
struct Case {
    abuse: Option<String>,
    verdict: Option<(String, Timestamp)>,
    refusal: Option<(Timestamp, u32)>,
    told: usize,
}

struct Teller {
    began: Instant,
    cases: BTreeMap<Uuid, Case>,
    allowed: u64,
    refused: u64,
    next_seq: u64,
    ahead: BTreeSet<u64>,
    told: Told,
}

impl Story {
    /// Reads from the beginning of every topic; `began` is second 0.
    pub(crate) fn start(kafka: &Kafka, began: Instant) -> KafkaResult<Self> {
        let consumer = consumer(kafka)?;
        let stop = Arc::new(AtomicBool::new(false));
        let quiet = Arc::new(AtomicBool::new(false));
        let (stopped, hushed, topics) = (Arc::clone(&stop), Arc::clone(&quiet), kafka.topics.clone());
        let mut teller = Teller {
            began,
            cases: BTreeMap::new(),
            allowed: 0,
            refused: 0,
            next_seq: 0,
            ahead: BTreeSet::new(),
            told: Told::default(),
        };
        let thread = std::thread::spawn(move || {
            let (mut summary, mut last) = (Instant::now(), Instant::now());
            while !stopped.load(Ordering::Relaxed) || last.elapsed() < LAST_WORDS {
                if let Some(Ok(message)) = consumer.poll(POLL_WAIT) {
                    last = Instant::now();
                    let told = match message.topic() {
                        topic if topic == topics.callbacks => teller.record(&message),
                        topic if topic == topics.findings => teller.finding(&message),
                        _ => teller.verdict(&message),
                    };
                    // A terminal that is gone ends the story, not the process.
                    if told.is_err() {
                        break;
                    }
                }
                if summary.elapsed() >= SUMMARY_EVERY && !hushed.load(Ordering::Relaxed) {
                    summary = Instant::now();
                    let _ = teller.summary();
                }
            }
            teller.told.dense = teller.ahead.is_empty();
            teller.told
        });
        Ok(Self { stop, quiet, thread })
    }

    /// No more summaries: the end is being told.
    pub(crate) fn hush(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// When all that comes has come.
    pub(crate) fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

impl Teller {
    fn record(&mut self, message: &BorrowedMessage<'_>) -> io::Result<()> {
        let Some(record) = message.payload().and_then(|json| AuditRecord::decode(json).ok()) else {
            return Ok(());
        };
        self.told.records += 1;
        self.place(record.seq);
        let Some(decision) = record.decision.filter(|decision| decision.effect != Effect::Allow) else {
            self.allowed += 1;
            return Ok(());
        };
        self.refused += 1;
        let Some(verdict) = decision.verdict else {
            return Ok(());
        };
        self.case(verdict, |case| {
            case.refusal
                .get_or_insert((record.received_at, decision.code.unwrap_or_default()));
        })
    }

    fn finding(&mut self, message: &BorrowedMessage<'_>) -> io::Result<()> {
        let Some(finding) = message.payload().and_then(|json| Finding::decode(json).ok()) else {
            return Ok(());
        };
        self.told.findings += 1;
        let (by, value) = (&finding.subject.by, finding.subject.shown().escape_debug());
        let (rule, count, window) = (&finding.rule, finding.count, &finding.window);
        let abuse = format!("{rule}: {by} {value}, {count} within {window}");
        match finding.verdict {
            Some(verdict) => self.case(verdict, |case| case.abuse = Some(abuse)),
            None => self.line(
                "abuse",
                format_args!("{abuse} ({}, nobody is refused)", finding.mode.name()),
            ),
        }
    }

    fn verdict(&mut self, message: &BorrowedMessage<'_>) -> io::Result<()> {
        let Some(verdict) = message.payload().and_then(|json| Verdict::decode(json).ok()) else {
            return Ok(());
        };
        self.told.verdicts += 1;
        let lasts = verdict.expires_at.map_or("until it is lifted".to_owned(), |end| {
            format!("for {}", units::show_duration(end.since(verdict.issued_at)))
        });
        let told = match verdict.effect {
            Effect::Allow => format!("allowed {lasts}"),
            Effect::Deny | Effect::Drop => {
                let (code, text) = (verdict.code.unwrap_or(1), verdict.text.escape_debug());
                format!("denied {lasts}, with {code} \"{text}\"")
            }
        };
        if verdict.source == Source::Moderator {
            let by = verdict.by.escape_debug();
            return self.line("verdict", format_args!("{} is {told}, by {by}", verdict.subject));
        }
        self.case(verdict.id, |case| case.verdict = Some((told, verdict.issued_at)))
    }

    /// Adds to what is known of a verdict, and tells what can be told now.
    fn case(&mut self, verdict: Uuid, learn: impl FnOnce(&mut Case)) -> io::Result<()> {
        if self.cases.len() >= CASES_MAX {
            // Ids sort by time, so this is the oldest.
            self.cases.pop_first();
        }
        let case = self.cases.entry(verdict).or_default();
        learn(case);
        let mut lines = Vec::new();
        if let (0, Some(abuse)) = (case.told, &case.abuse) {
            case.told = 1;
            lines.push(("abuse", abuse.clone()));
        }
        if let (1, Some((verdict, _))) = (case.told, &case.verdict) {
            case.told = 2;
            lines.push(("verdict", verdict.clone()));
        }
        if let (2, Some((_, crossed)), Some((at, code))) = (case.told, &case.verdict, case.refusal) {
            case.told = 3;
            let after = at.since(*crossed).as_micros() / 1_000;
            let refused = format!("with {code}, {after} ms after the callback that crossed the threshold");
            lines.push(("refused", refused));
        }
        lines
            .iter()
            .try_for_each(|(what, text)| self.line(what, format_args!("{text}")))
    }

    fn summary(&self) -> io::Result<()> {
        let (allowed, refused) = (self.allowed, self.refused);
        self.line(
            "so far",
            format_args!("{allowed} callbacks allowed, {refused} refused, all of them in Kafka"),
        )
    }

    fn line(&self, what: &str, text: Arguments<'_>) -> io::Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        writeln!(io::stdout().lock(), "{seconds:6.1}s  {what:<8} {text}")
    }

    /// Partitions interleave, so numbers come out of order for a moment; a hole stays.
    fn place(&mut self, seq: u64) {
        self.ahead.insert(seq);
        while self.ahead.remove(&self.next_seq) {
            self.next_seq += 1;
        }
    }
}

fn consumer(kafka: &Kafka) -> KafkaResult<BaseConsumer> {
    let consumer: BaseConsumer = kafka::client(kafka)
        .set("group.id", "portcullis-story-unused")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for plan in kafka.topics.plans() {
        if [&kafka.topics.callbacks, &kafka.topics.findings, &kafka.topics.verdicts].contains(&&plan.name) {
            for partition in 0..plan.partitions {
                assignment.add_partition_offset(&plan.name, partition, Offset::Beginning)?;
            }
        }
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}
