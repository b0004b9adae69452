//! What keeps records from Kafka though Kafka is there: a topic that is gone, a right that is taken, a record over the
//! limit. The receiver says what is wrong, waits, and goes on by itself.

use std::collections::BTreeSet;
use std::thread;

use crate::support::{
    CREATE_TOPIC, Callback, Caller, Kafka, Kept, PATIENCE, Process, Site, Topic, not_checked, wait_until,
};

const MANY: usize = 100;
const NO_ADMINISTRATOR: &str =
    "this is the test cluster, which has no administrator; tests/kafka/run runs the tests on a real Kafka";

#[test]
fn a_topic_that_is_deleted_and_made_again_gets_everything_that_was_not_acknowledged() {
    let kafka = Kafka::start();
    if !is_real(&kafka, "a topic that is deleted and made again") {
        return;
    }
    let site = Site::at(kafka);
    let callbacks = &site.kafka.topics.callbacks;
    let receiver = site.receiver().ready();
    post(&site, "before");
    wait_until("all is published", PATIENCE, || backlog(&receiver) == 0.0);

    site.kafka.delete(callbacks);
    // The broker takes some moments to forget it, and what is acknowledged in them is deleted, too.
    let mut caller = site.caller();
    wait_until("it says what to do", PATIENCE, || {
        caller.post(&Callback::topic("operator", "too early"));
        receiver.log().contains("run `portcullis topics create`")
    });
    post(&site, "meanwhile");
    wait_until("the backlog shows them", PATIENCE, || backlog(&receiver) >= MANY as f64);
    site.kafka.create_missing();
    post(&site, "after");

    expect_in_topic(&site, &["meanwhile", "after"]);
    wait_until("it says that it goes on", PATIENCE, || {
        receiver.log().contains("Kafka acknowledges again")
    });
    assert_eq!(times(&receiver, "publishing failed, "), 1, "{}", receiver.log());
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
    receiver.stop();
}

#[test]
fn a_record_over_the_limit_of_a_topic_goes_to_the_dead_letters_and_no_other_does() {
    let kafka = Kafka::without_topics();
    if !is_real(&kafka, "a record over the limit of a topic") {
        return;
    }
    // A record and its headers take about 900 bytes: two of them in a batch are too many.
    let topics = kafka.topics.clone();
    kafka.create_with(&topics.callbacks, "max.message.bytes", "1600");
    kafka.create_with(&topics.dead_letters, "max.message.bytes", "6000");
    kafka.create_missing();
    let site = Site::at(kafka);
    let receiver = site.receiver().ready();

    // Without a pattern, so that compression does not make them small.
    let noise = |length: usize| -> String {
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap_or_default())
        };
        let letters = std::iter::repeat_with(&mut letter).filter(|letter| !['"', '\\'].contains(letter));
        letters.take(length).collect()
    };
    let large = |name: &str, length: usize| {
        let body = serde_json::json!({"CallbackCommand": CREATE_TOPIC, "Operator_Account": "operator", "Name": name,
            "More": noise(length)});
        Callback::new(CREATE_TOPIC, body.to_string())
    };
    let mut caller = site.caller();
    assert_eq!(caller.post(&large("whole", 3_000)).code(), 0);
    assert_eq!(caller.post(&large("bare", 20_000)).code(), 0);
    thread::scope(|scope| {
        for phase in ["a", "b", "c", "d", "e", "f"] {
            let mut caller = site.caller();
            scope.spawn(move || post_on(&mut caller, phase));
        }
    });

    expect_in_topic(&site, &["a", "b", "c", "d", "e", "f"]);
    wait_until("nothing is left", PATIENCE, || backlog(&receiver) == 0.0);
    let mut letters = Topic::of(&site.kafka, &topics.dead_letters);
    let letters: Vec<_> = letters.read_to_end().iter().map(Kept::record).collect();
    let names: Vec<_> = letters.iter().filter_map(|record| record.name.as_deref()).collect();
    assert_eq!(names, ["whole", "bare"], "{}", receiver.log());
    assert!(letters[0].body.is_some(), "it fits whole");
    assert!(
        letters[1].body.is_none() && letters[1].body_text.is_some(),
        "a part fits"
    );
    assert_eq!(
        receiver.metric("receiver_published_total{outcome=\"dead_letter\"}"),
        2.0
    );
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
    assert!(receiver.log().contains("max.message.bytes"), "{}", receiver.log());
    receiver.stop();
}

#[test]
fn a_right_that_is_taken_and_given_back_delays_records_and_loses_none() {
    let Some(kafka) = Kafka::guarded() else {
        not_checked("a right that is taken and given back", NO_ADMINISTRATOR);
        return;
    };
    let site = Site::at(kafka);
    let callbacks = &site.kafka.topics.callbacks;
    let receiver = site.receiver().ready();
    post(&site, "before");
    wait_until("all is published", PATIENCE, || backlog(&receiver) == 0.0);

    site.kafka.forbid_writing(callbacks);
    wait_until("it says what to do", PATIENCE, || {
        post(&site, "meanwhile");
        receiver.log().contains("grant it Write and Describe on that topic")
    });
    post(&site, "still");
    wait_until("the backlog shows them", PATIENCE, || backlog(&receiver) >= MANY as f64);
    site.kafka.allow_writing(callbacks);

    expect_in_topic(&site, &["before", "meanwhile", "still"]);
    wait_until("nothing is left", PATIENCE, || backlog(&receiver) == 0.0);
    assert_eq!(times(&receiver, "publishing failed, "), 1, "{}", receiver.log());
    assert_eq!(times(&receiver, "Kafka acknowledges again"), 1, "{}", receiver.log());
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
    receiver.stop();
}

/// Where it is the test cluster, says that `what` is not checked.
fn is_real(kafka: &Kafka, what: &str) -> bool {
    if !kafka.is_real() {
        not_checked(what, NO_ADMINISTRATOR);
    }
    kafka.is_real()
}

fn post(site: &Site, phase: &str) {
    post_on(&mut site.caller(), phase);
}

fn post_on(caller: &mut Caller, phase: &str) {
    for name in names(phase) {
        assert_eq!(caller.post(&Callback::topic("operator", &name)).code(), 0, "{name}");
    }
}

fn names(phase: &str) -> impl Iterator<Item = String> {
    (0..MANY).map(move |number| format!("{phase} {number}"))
}

fn expect_in_topic(site: &Site, phases: &[&str]) {
    let posted: BTreeSet<String> = phases.iter().flat_map(|phase| names(phase)).collect();
    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    topic.read_until("every callback", |kept| {
        let names: BTreeSet<String> = kept.iter().filter_map(|kept| kept.record().name).collect();
        names.is_superset(&posted)
    });
}

fn backlog(receiver: &Process) -> f64 {
    receiver.metric("receiver_backlog_records")
}

fn times(receiver: &Process, message: &str) -> usize {
    receiver.log().matches(message).count()
}
