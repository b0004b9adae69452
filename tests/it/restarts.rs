//! Restarts while callbacks come in all the time: none goes without its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use portcullis_schema::Uuid;

use crate::support::{Callback, Caller, Kafka, Kept, Outage, PATIENCE, Site, Topic, wait_until};

/// An answer that comes later is none: Chat has let the operation through.
const CHAT_WAITS: Duration = Duration::from_secs(2);
const RESTARTS: usize = 20;
/// Answered by each start before it is stopped.
const BETWEEN: usize = 100;
/// Far more than a stop needs between two looks, far less than it waits for connections in use.
const SELDOM: Duration = Duration::from_millis(300);
const OFTEN: Duration = Duration::from_millis(10);

/// How a caller calls.
#[derive(Clone, Copy)]
enum Manner {
    /// On one connection, as long as it lives.
    Kept(Duration),
    /// On a connection of its own for each callback.
    Fresh,
}

const CALLERS: [Manner; 8] = [
    Manner::Kept(OFTEN),
    Manner::Kept(OFTEN),
    Manner::Kept(OFTEN),
    Manner::Kept(SELDOM),
    Manner::Kept(SELDOM),
    Manner::Fresh,
    Manner::Fresh,
    Manner::Fresh,
];

/// Callers that post until it is dropped.
struct Load {
    answered: AtomicUsize,
    over: AtomicBool,
}

/// Ends the load also when the test fails, so that nobody waits for it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// Plays all callers while `meanwhile` runs. Gives the names of the callbacks, every one of which was answered in
    /// time, and what `meanwhile` gives.
    fn during<T>(site: &Site, meanwhile: impl FnOnce(&Self) -> T) -> (Vec<String>, T) {
        let load = Self {
            answered: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            let callers: Vec<_> = CALLERS
                .into_iter()
                .enumerate()
                .map(|(number, manner)| {
                    let (load, caller) = (&load, site.caller());
                    scope.spawn(move || load.play(number, manner, caller))
                })
                .collect();
            let over = Over(&load.over);
            let given = meanwhile(&load);
            drop(over);
            let names = callers.into_iter().flat_map(|caller| caller.join().expect("a caller"));
            (names.collect(), given)
        })
    }

    fn play(&self, number: usize, manner: Manner, mut caller: Caller) -> Vec<String> {
        let mut names = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let name = format!("caller {number} callback {}", names.len());
            let callback = Callback::topic(&format!("user-{number}-{}", names.len() % 50), &name);
            if let Manner::Kept(_) = manner {
                caller.look();
            } else {
                caller.hang_up();
            }
            let began = Instant::now();
            let answered = caller.exchange(&callback.request());
            let took = began.elapsed();
            let answer = answered.unwrap_or_else(|error| panic!("{name} has no answer after {took:?}: {error}"));
            assert_eq!(answer.code(), 0, "{name}");
            assert!(took < CHAT_WAITS, "{name} was answered after {took:?}");
            names.push(name);
            self.answered.fetch_add(1, Ordering::Relaxed);
            sleep(match manner {
                Manner::Kept(pause) => pause,
                Manner::Fresh => OFTEN,
            });
        }
        names
    }

    /// Returns when so many more are answered.
    fn goes_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_until("callbacks are answered", PATIENCE, || {
            self.answered.load(Ordering::Relaxed) >= before + BETWEEN
        });
    }
}

#[test]
fn twenty_restarts_under_load_lose_no_callback() {
    let site = Site::at(Kafka::start());
    let socket = site.socket();
    let mut receiver = site.receiver_on(&socket).ready();
    let (names, receiver) = Load::during(&site, |load| {
        for _ in 0..RESTARTS {
            load.goes_on();
            receiver.stop();
            receiver = site.receiver_on(&socket);
        }
        load.goes_on();
        receiver
    });
    // What a stop with a passed socket leaves is for the next start, and there is none.
    wait_until("all is published", PATIENCE, || {
        receiver.metric("receiver_backlog_records") == 0.0
    });
    receiver.stop();
    expect_once(&site, &names, RESTARTS + 1);
}

#[test]
fn a_restart_without_kafka_keeps_nobody_waiting_and_says_what_remains() {
    let site = Site::at(Kafka::breakable());
    let socket = site.socket();
    let mut receiver = site.receiver_on(&socket).ready();
    site.kafka.fail(Outage::Down);
    let mut remained = Vec::new();
    let (names, receiver) = Load::during(&site, |load| {
        for _ in 0..2 {
            load.goes_on();
            receiver.ask_to_stop();
            remained.push(records_that_remain(&receiver.stopped()));
            receiver = site.receiver_on(&socket);
        }
        load.goes_on();
        site.kafka.recover(Outage::Down);
        receiver
    });
    assert!(
        remained[0] >= BETWEEN as u64 && remained[1] >= remained[0] + BETWEEN as u64,
        "{remained:?}"
    );
    expect_once(&site, &names, 3);
    receiver.stop();
}

#[test]
fn a_stopping_receiver_answers_whoever_calls_and_closes_only_who_is_silent() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let [mut kept, mut silent, mut slow, mut dead, mut late] = std::array::from_fn(|_| site.caller());
    let callback = |name: &str| Callback::topic("leckie", name);
    for (caller, name) in [(&mut kept, "kept"), (&mut silent, "silent")] {
        assert!(!caller.post(&callback(name)).closes());
    }
    let request = callback("slow").request();
    let (begun, rest) = request.split_at(20);
    slow.begin(begun);
    dead.begin(begun);

    receiver.ask_to_stop();
    wait_until("it is not ready", PATIENCE, || !receiver.is_ready());
    for (caller, name) in [(&mut kept, "kept again"), (&mut late, "late")] {
        let answer = caller.post(&callback(name));
        assert!(answer.code() == 0 && answer.closes(), "{name}: {answer:?}");
    }
    assert_eq!(slow.exchange(rest).expect("an answer").code(), 0);
    silent.look();
    assert!(silent.is_connected(), "it may be about to write");

    receiver.stopped();
    silent.look();
    assert!(!silent.is_connected());
    let names = ["kept", "silent", "kept again", "late", "slow"].map(str::to_owned);
    expect_once(&site, &names, 1);
}

#[test]
fn who_was_told_that_its_connection_ends_finds_the_door_open() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let mut kept: [Caller; 4] = std::array::from_fn(|_| site.caller());
    let mut names = Vec::new();
    let mut all_call = |closes| {
        for caller in &mut kept {
            let name = format!("callback {}", names.len());
            let answer = caller.exchange(&Callback::topic("leckie", &name).request());
            let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(answer.code() == 0 && answer.closes() == closes, "{name}: {answer:?}");
            names.push(name);
        }
    };
    // Nobody comes for longer than a stop takes for calm.
    let came = Instant::now();
    all_call(false);
    while came.elapsed() < Duration::from_secs(1) {
        sleep(OFTEN);
        all_call(false);
    }
    receiver.ask_to_stop();
    wait_until("it is not ready", PATIENCE, || !receiver.is_ready());
    for _ in 0..5 {
        all_call(true);
        sleep(OFTEN);
    }
    receiver.stopped();
    expect_once(&site, &names, 1);
}

/// Each of `names` is in the topic under one id, and nothing else is; each of so many boots is without a hole.
fn expect_once(site: &Site, names: &[String], boots: usize) {
    let ids = |kept: &[Kept]| {
        let mut ids = BTreeMap::<String, BTreeSet<Uuid>>::new();
        for record in kept.iter().map(Kept::record) {
            ids.entry(record.name.unwrap_or_default())
                .or_default()
                .insert(record.id);
        }
        ids
    };
    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    topic.read_until("every answered callback", |kept| {
        let ids = ids(kept);
        names.iter().all(|name| ids.contains_key(name))
    });
    let kept = topic.read_to_end();
    let ids = ids(kept);
    assert_eq!(ids.len(), names.len());
    for (name, ids) in ids {
        assert_eq!(ids.len(), 1, "{name}");
    }
    let mut sequences = BTreeMap::<Uuid, BTreeSet<u64>>::new();
    for record in kept.iter().map(Kept::record) {
        sequences.entry(record.boot).or_default().insert(record.seq);
    }
    assert_eq!(sequences.len(), boots);
    for sequence in sequences.values() {
        assert_eq!(sequence.last(), Some(&(sequence.len() as u64 - 1)), "a hole");
    }
}

/// As the last line of the log tells.
#[track_caller]
fn records_that_remain(log: &str) -> u64 {
    let last: serde_json::Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        last["message"], "receiver has stopped, the next start publishes what remains",
        "{last}"
    );
    last["records"].as_u64().expect("a number")
}
