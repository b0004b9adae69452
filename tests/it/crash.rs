//! `kill -9`, of each process, while callbacks come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use portcullis_schema::{AuditRecord, Finding, Uuid};

use crate::support::{Callback, Kafka, Kept, PATIENCE, Process, Site, Topic, wait_until};

const CALLERS: usize = 4;
const DENIED: usize = 10;
/// Of the abuser in front of a worker that is killed.
const THRESHOLD: usize = 40;
const RULE: &str = r#"
[[rule]]
name = "topic-burst"
commands = ["Group.CallbackBeforeCreateTopic"]
when = 'platform == "iOS"'
by = "operator"
count = "records"
window = "10m"
threshold = 40
mode = "enforce"
verdict = { effect = "deny", code = 10101, text = "too many topics", for = "1h" }
"#;

#[test]
fn what_was_answered_before_a_receiver_was_killed_is_published_and_no_verdict_is_forgotten() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let denied: Vec<Callback> = (0..DENIED)
        .map(|number| {
            let operator = format!("denied-{number}");
            site.moderate("deny", &["--operator", &operator, "--code", "10101"]);
            Callback::topic(&operator, "x")
        })
        .collect();

    let mut answered = Vec::new();
    let mut receiver = receiver;
    for boot in 0..2 {
        answered.extend(answered_until_killed(&site, receiver, boot, 400));
        receiver = site.receiver().ready();
        let mut caller = site.caller();
        for callback in &denied {
            assert_eq!(caller.post(callback).code(), 10_101, "the first callback when ready");
        }
    }
    receiver.stop();

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let everything = |kept: &[Kept]| {
        let names = names(kept);
        answered.iter().all(|name| names.contains_key(name))
    };
    let kept = topic.read_until("every answered callback", everything);
    for (name, ids) in names(kept) {
        assert_eq!(ids.len(), 1, "{name} is there under several ids: {ids:?}");
    }
    let boots = sequences(topic.read_to_end());
    assert_eq!(boots.len(), 3, "one for each start");
    for (number, sequence) in boots.values().enumerate() {
        let highest = sequence.last().expect("not empty");
        let missing = highest + 1 - sequence.len() as u64;
        assert_eq!(missing, 0, "boot {number}: {missing} of {highest} are missing");
    }
}

#[test]
fn a_start_after_a_kill_sends_only_what_is_not_in_the_topic() {
    const KILLS: usize = 5;
    const ANSWERED_EACH: usize = 1_000;
    let site = Site::at(Kafka::start());
    let mut receiver = site.receiver().ready();
    for boot in 0..KILLS {
        answered_until_killed(&site, receiver, boot, ANSWERED_EACH);
        receiver = site.receiver().ready();
    }
    receiver.stop();

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = topic.read_to_end();
    let distinct: BTreeSet<Uuid> = records(kept).map(|record| record.id).collect();
    let repeats = kept.len() - distinct.len();
    assert!(distinct.len() >= KILLS * ANSWERED_EACH, "{} records", distinct.len());
    assert!(
        repeats * 1_000 < distinct.len(),
        "{repeats} of {} are there twice",
        distinct.len()
    );
}

#[test]
fn the_abuser_is_found_once_though_workers_are_killed_around_it() {
    // A killed worker stays in its group until its session is over.
    let properties = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];
    let site = Site::with_properties(Kafka::start(), &properties).rules(RULE);
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let offer = |number: usize| Callback::topic("mallory", &format!("offer {number}"));

    let killed = site.worker("killed-before").ready();
    for number in 0..THRESHOLD / 2 {
        assert_eq!(caller.post(&offer(number)).code(), 0);
    }
    wait_until("the worker is in the middle of the burst", PATIENCE, || {
        observed(&killed) >= 1.0
    });
    killed.kill();
    for number in THRESHOLD / 2..THRESHOLD {
        assert_eq!(caller.post(&offer(number)).code(), 0);
    }
    let killed = site.worker("killed-after");
    // Asked as often as it takes, so it must not count.
    let next = Callback::topic("mallory", "one more").platform("Mac");
    wait_until("the abuser is refused", PATIENCE, || caller.post(&next).code() != 0);
    // It may have committed what led to the finding, or not.
    killed.kill();

    let last = site.worker("last").ready();
    let read =
        |worker: &Process| worker.metric("worker_records_total") >= 1.0 && worker.metric("worker_lag_records") == 0.0;
    assert_eq!(caller.post(&Callback::topic("somebody", "x")).code(), 0);
    wait_until("the last worker has read everything", PATIENCE, || {
        observed(&last) >= 1.0 && read(&last)
    });
    last.stop();

    let mut findings = Topic::of(&site.kafka, &site.kafka.topics.findings);
    let found: Vec<Finding> = findings.read_to_end().iter().map(Kept::finding).collect();
    let ids: BTreeSet<Uuid> = found.iter().map(|finding| finding.id).collect();
    assert_eq!(ids.len(), 1, "{found:?}");
    let mut callbacks = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let of_mallory = callbacks
        .read_to_end()
        .iter()
        .filter(|kept| kept.key.ends_with("/mallory"));
    let burst: Vec<Uuid> = of_mallory.take(THRESHOLD).map(|kept| kept.record().id).collect();
    for finding in &found {
        assert_eq!((finding.count, &finding.evidence), (THRESHOLD as u64, &burst));
    }
    let mut verdicts = Topic::of(&site.kafka, &site.kafka.topics.verdicts);
    let kept = verdicts.read_to_end();
    let ids: BTreeSet<Uuid> = kept.iter().map(|kept| kept.verdict().id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(found[0].verdict.as_ref(), ids.first());
}

/// Several callers post until the receiver is killed in the middle of it; the names of the callbacks that were
/// answered, at least `enough` of them.
fn answered_until_killed(site: &Site, receiver: Process, boot: usize, enough: usize) -> Vec<String> {
    let count = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let (count, ended, mut caller) = (&count, &ended, site.caller());
                scope.spawn(move || {
                    let mut answered = Vec::new();
                    while !ended.load(Ordering::Relaxed) {
                        let name = format!("boot {boot} caller {number} callback {}", answered.len());
                        let callback = Callback::topic(&format!("user-{number}-{}", answered.len() % 50), &name);
                        let Ok(answer) = caller.exchange(&callback.request()) else {
                            break;
                        };
                        assert_eq!(answer.code(), 0);
                        answered.push(name);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    answered
                })
            })
            .collect();
        wait_until("enough is answered", PATIENCE, || {
            count.load(Ordering::Relaxed) >= enough
        });
        receiver.kill();
        ended.store(true, Ordering::Relaxed);
        callers
            .into_iter()
            .flat_map(|caller| caller.join().expect("a caller"))
            .collect()
    })
}

fn observed(worker: &Process) -> f64 {
    worker.metric("worker_records_total{outcome=\"observed\"}")
}

/// The ids under which each name is there.
fn names(kept: &[Kept]) -> BTreeMap<String, BTreeSet<Uuid>> {
    let mut names = BTreeMap::<String, BTreeSet<Uuid>>::new();
    for record in records(kept).filter(|record| record.name.as_deref() != Some("x")) {
        names
            .entry(record.name.unwrap_or_default())
            .or_default()
            .insert(record.id);
    }
    names
}

/// The sequence numbers of each boot, the boots in the order of time.
fn sequences(kept: &[Kept]) -> BTreeMap<Uuid, BTreeSet<u64>> {
    let mut boots = BTreeMap::<Uuid, BTreeSet<u64>>::new();
    for record in records(kept) {
        boots.entry(record.boot).or_default().insert(record.seq);
    }
    boots
}

fn records(kept: &[Kept]) -> impl Iterator<Item = AuditRecord> {
    kept.iter().map(Kept::record)
}
