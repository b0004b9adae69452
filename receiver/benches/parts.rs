//! What each part of a callback's path costs.
//!
//!     cargo bench -p portcullis-receiver --bench parts
//!
//! Times are of this machine at this moment: compare two runs side by side, never one with a number.

#[path = "path/callbacks.rs"]
mod callbacks;

use std::hint::black_box;
use std::time::{Duration, Instant};

use callbacks::{Path, denied, question};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use portcullis_receiver::journal::{Durability, Journal, Options};
use portcullis_receiver::loss::Losses;
use portcullis_receiver::outcome::Outcome;
use portcullis_receiver::publisher::{Publisher, PublisherMetrics};
use portcullis_receiver::record::{self, Boot};
use portcullis_schema::kafka::Kafka;
use portcullis_schema::{Rung, Timestamp};
use prometheus_client::registry::Registry;
use rdkafka::mocking::MockCluster;

/// What the mock cluster keeps of a partition is less than two of these.
const BACKLOG: usize = 20_000;

criterion_group!(parts, parsing, deciding, encoding, answering, appending, publishing);
criterion_main!(parts);

fn path(verdicts: u64) -> Path {
    Path::new(verdicts, Timestamp::now())
}

fn parsing(criterion: &mut Criterion) {
    let path = path(0);
    let request = &path.requests()[0];
    criterion.bench_function("parse and verify", |bencher| {
        bencher.iter(|| path.parse(black_box(request)))
    });
}

fn deciding(criterion: &mut Criterion) {
    for verdicts in [1_000, 1_000_000] {
        let path = path(verdicts);
        let request = &path.requests()[0];
        let mut number = 0;
        for (what, beyond) in [("denied", 0), ("allowed", verdicts)] {
            criterion.bench_function(&format!("decide, {verdicts} verdicts, {what}"), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        // Far apart, so that a million are not in the processor's cache.
                        number = (number + 7_919) % verdicts;
                        let mut callback = path.parse(request);
                        callback.operator = Some(denied(number + beyond));
                        callback
                    },
                    |callback| path.decisions.decide(&question(callback), path.now),
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

fn encoding(criterion: &mut Criterion) {
    let path = path(0);
    let boot = Boot::new("receiver-1".to_owned(), path.now);
    let callback = path.parse(&path.requests()[0]);
    let decision = path.decisions.decide(&question(&callback), path.now);
    let record = boot.record(callback, &decision, Outcome::Allowed, Rung::Normal, path.now);
    criterion.bench_function("encode", |bencher| {
        bencher.iter(|| record::encode(black_box(&record)).map(|entry| entry.numbered(42)));
    });
}

fn answering(criterion: &mut Criterion) {
    let path = path(1_000);
    let requests = path.requests();
    let mut turn = requests.iter().cycle();
    criterion.bench_function("steps 2 to 6, without a wait", |bencher| {
        bencher.iter_batched(
            || turn.next().expect("a cycle"),
            |request| path.answer(request),
            BatchSize::SmallInput,
        );
    });
}

fn journal(durability: Durability) -> (tempfile::TempDir, Journal) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        directory: directory.path().join("journal"),
        bytes_max: 4 << 30,
        durability,
    };
    let journal = Journal::open(options).expect("the journal opens");
    (directory, journal)
}

fn entry() -> Vec<u8> {
    let path = path(0);
    path.answer(&path.requests()[0]).0
}

/// Until all of those that wait together are durable.
fn appending(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let entry = entry();
    let mut group = criterion.benchmark_group("append");
    group.measurement_time(Duration::from_secs(3));
    for durability in [Durability::Host, Durability::Process] {
        let (_directory, journal) = journal(durability);
        for waiting in [1_usize, 16, 64] {
            group.throughput(Throughput::Elements(waiting as u64));
            group.bench_function(format!("{durability:?}, {waiting} waiting").to_lowercase(), |bencher| {
                bencher.iter(|| {
                    let appends: Vec<_> = (0..waiting).map(|_| journal.append(entry.clone())).collect();
                    runtime.block_on(async {
                        for append in appends {
                            append.await.expect("durable");
                        }
                    });
                    journal.trim(journal.next_position());
                });
            });
        }
    }
}

/// From a journal that is full of them until librdkafka's own cluster, in this process, has acknowledged all.
fn publishing(criterion: &mut Criterion) {
    let cluster = MockCluster::new(1).expect("a cluster");
    for topic in ["callbacks", "dead-letters", "ledger"] {
        cluster.create_topic(topic, 12, 1).expect("a topic");
    }
    let kafka = Kafka {
        bootstrap: cluster.bootstrap_servers(),
        ..Kafka::default()
    };
    let path = path(0);
    let requests = path.requests();
    let mut group = criterion.benchmark_group("publish");
    group.sample_size(10).throughput(Throughput::Elements(BACKLOG as u64));
    group.bench_function(format!("a backlog of {BACKLOG}"), |bencher| {
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let (_directory, journal) = journal(Durability::Process);
                for request in requests.iter().cycle().take(BACKLOG) {
                    // Kept by the queue in front of the writer, which holds more than all of them.
                    drop(journal.append(path.answer(request).0));
                }
                while journal.next_position() < BACKLOG as u64 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let metrics = PublisherMetrics::new(&mut Registry::default(), Losses::new(&mut Registry::default()));
                let began = Instant::now();
                let publisher = Publisher::start(&kafka, "receiver-1", journal.clone(), metrics).expect("a thread");
                while journal.backlog_records() > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                took += began.elapsed();
                journal.seal();
                publisher.drain(Duration::from_secs(10));
            }
            took
        });
    });
}
