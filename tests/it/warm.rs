//! A receiver takes no traffic before it knows what it must refuse.

use std::time::Duration;

use portcullis_schema::{AppId, Effect, Source, Subject, SubjectKind, Timestamp, Verdict, id};

use crate::support::{
    APP, Callback, EMBEDDED, Kafka, PATIENCE, Site, Topic, not_checked, publish, publish_at, wait_until,
};

/// Far more than one fetch brings.
const VERDICTS: usize = 20_000;
const ASKED: usize = 100;

#[test]
fn a_receiver_is_ready_only_when_every_verdict_of_the_topic_is_in_force() {
    let site = Site::at(Kafka::start());
    let operator = |number: usize| format!("denied-{number}");
    let messages = (0..VERDICTS).map(|number| {
        let verdict = verdict(&operator(number));
        (verdict.key().to_string(), verdict.encode().expect("JSON"))
    });
    publish(&site.kafka, &site.kafka.topics.verdicts, messages);

    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    for number in (0..VERDICTS).step_by(VERDICTS / ASKED).chain([VERDICTS - 1]) {
        let first = caller.post(&Callback::topic(&operator(number), "x"));
        assert_eq!(
            first.refusal(),
            (10_120, "as any client may write it".to_owned()),
            "{number}"
        );
    }
    assert_eq!(caller.post(&Callback::topic("nobody", "x")).code(), 0);
}

#[test]
fn a_receiver_is_not_ready_as_long_as_one_partition_of_the_verdicts_cannot_be_read() {
    let site = Site::at(Kafka::start());
    let Some(cluster) = site.kafka.embedded() else {
        not_checked(
            "readiness while a partition has no leader",
            "a real broker cannot be told to give one up; run the tests without PORTCULLIS_TEST_KAFKA",
        );
        return;
    };
    let topic = &site.kafka.topics.verdicts;
    cluster.partition_leader(topic, 2, None).expect("no leader");
    let receiver = site.receiver();
    wait_until("it has tried", PATIENCE, || {
        receiver.readiness().is_some() && receiver.reason("verdicts") != "verdicts are being read"
    });
    assert!(!receiver.is_ready(), "{}", receiver.reason("verdicts"));
    assert_eq!(site.caller().post(&Callback::topic("anybody", "x")).code(), 0);

    cluster.partition_leader(topic, 2, Some(EMBEDDED)).expect("a leader");
    receiver.ready().stop();
}

#[test]
fn verdicts_in_partitions_that_were_added_later_are_in_force_without_a_restart() {
    let site = Site::at(Kafka::start());
    if !site.kafka.is_real() {
        not_checked(
            "partitions that are added to the verdicts",
            "the test cluster cannot add one; set PORTCULLIS_TEST_KAFKA to a real broker",
        );
        return;
    }
    let receiver = site.receiver().ready();
    let topic = &site.kafka.topics.verdicts;
    let publish_of = |operators: &[String]| {
        let verdicts = operators.iter().map(|operator| verdict(operator));
        publish(
            &site.kafka,
            topic,
            verdicts.map(|verdict| (verdict.key().to_string(), verdict.encode().expect("JSON"))),
        );
    };
    publish_of(&["before".to_owned()]);
    site.kafka.grow(topic, 12);
    // Enough that each partition has some.
    let later: Vec<String> = (0..100).map(|number| format!("later-{number}")).collect();
    publish_of(&later);
    let mut caller = site.caller();
    for operator in later.iter().chain(["before".to_owned()].iter()) {
        wait_until("it is refused", PATIENCE, || {
            caller.post(&Callback::topic(operator, "x")).code() == 10_120
        });
    }
    assert!(!receiver.log().contains("made anew"), "{}", receiver.log());
    receiver.stop();
}

#[test]
fn a_topic_of_verdicts_that_was_made_anew_while_the_receiver_was_stopped_is_all_that_holds() {
    // More than before, so that every former offset is one of the new topic too, and fewer.
    for count in [200, 5] {
        let mut site = Site::at(Kafka::start());
        let topic = site.kafka.topics.verdicts.clone();
        publish_verdicts(&site, "former", 30);
        site.receiver().ready().stop();

        site.kafka.make_anew(&topic);
        publish_verdicts(&site, "new", count);
        let receiver = site
            .receiver_with(&[("PORTCULLIS__KAFKA__BOOTSTRAP", &site.kafka.bootstrap)])
            .ready();
        let mut caller = site.caller();
        for operator in operators("new", count) {
            assert_eq!(
                caller.post(&Callback::topic(&operator, "x")).code(),
                10_120,
                "{operator}"
            );
        }
        for operator in operators("former", 30) {
            assert_eq!(caller.post(&Callback::topic(&operator, "x")).code(), 0, "{operator}");
        }
        assert!(receiver.log().contains("the topic was made anew"), "{}", receiver.log());
        let mut records = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
        let records = records.read_until("every record", |kept| kept.len() >= count + 30);
        for record in records.iter().map(|kept| kept.record()) {
            let offsets: i64 = record.decision.iter().flat_map(|decision| &decision.verdicts_at).sum();
            assert_eq!(offsets, i64::try_from(count).expect("few"), "{record:?}");
        }

        // The snapshot is of the new topic now.
        receiver.stop();
        let receiver = site
            .receiver_with(&[("PORTCULLIS__KAFKA__BOOTSTRAP", &site.kafka.bootstrap)])
            .ready();
        assert!(!receiver.log().contains("reading all of it"), "{}", receiver.log());
        receiver.stop();
    }
}

#[test]
fn a_topic_of_verdicts_that_is_made_anew_while_the_receiver_runs_is_soon_all_that_holds() {
    let mut site = Site::at(Kafka::start());
    if !site.kafka.is_real() {
        not_checked(
            "a topic of verdicts that is made anew under a receiver",
            "the test cluster cannot delete one; set PORTCULLIS_TEST_KAFKA to a real broker",
        );
        return;
    }
    let topic = site.kafka.topics.verdicts.clone();
    publish_verdicts(&site, "former", 30);
    let receiver = site.receiver().ready();
    for (generation, count) in [("second", 300), ("third", 10)] {
        site.kafka.make_anew(&topic);
        publish_verdicts(&site, generation, count);
        let mut caller = site.caller();
        for operator in operators(generation, count) {
            wait_until("it is refused", PATIENCE, || {
                caller.post(&Callback::topic(&operator, "x")).code() == 10_120
            });
        }
        for operator in operators("former", 30) {
            wait_until("it is not refused any more", PATIENCE, || {
                caller.post(&Callback::topic(&operator, "x")).code() == 0
            });
        }
        wait_until("nothing of the topic before is held", PATIENCE, || {
            receiver.metric("receiver_verdicts ") == count as f64
        });
        assert!(receiver.is_ready());
    }
    assert!(receiver.log().contains("the topic was made anew"), "{}", receiver.log());
    receiver.stop();
}

#[test]
fn of_what_several_partitions_say_about_a_subject_the_later_holds_and_is_listed() {
    let site = Site::at(Kafka::start());
    let now = Timestamp::now().as_millis();
    let say = |operator: &str, partition: i32, at: i64, denied: bool| {
        let verdict = verdict(operator);
        let value = verdict.encode().expect("JSON");
        let (key, value) = (verdict.key().to_string(), denied.then_some(value.as_slice()));
        publish_at(&site.kafka, &site.kafka.topics.verdicts, (partition, at), &key, value);
    };
    for partition in 0..3 {
        let other = (partition + 1) % 3;
        let (denied, lifted) = (format!("denied-{partition}"), format!("lifted-{partition}"));
        say(&denied, partition, now, true);
        say(&denied, other, now - 1_000, false);
        say(&lifted, partition, now, false);
        say(&lifted, other, now - 1_000, true);
    }
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    for partition in 0..3 {
        for (operator, code) in [("denied", 10_120), ("lifted", 0)] {
            let operator = format!("{operator}-{partition}");
            assert_eq!(caller.post(&Callback::topic(&operator, "x")).code(), code, "{operator}");
        }
    }
    let listed: Vec<_> = site
        .held()
        .iter()
        .map(|held| held["subject"]["value"].clone())
        .collect();
    assert_eq!(listed, ["denied-0", "denied-1", "denied-2"]);
    receiver.stop();
}

fn operators(generation: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{generation}-{number}"))
}

fn publish_verdicts(site: &Site, generation: &str, count: usize) {
    let verdicts = operators(generation, count).map(|operator| verdict(&operator));
    let messages = verdicts.map(|verdict| (verdict.key().to_string(), verdict.encode().expect("JSON")));
    publish(&site.kafka, &site.kafka.topics.verdicts, messages);
}

fn verdict(operator: &str) -> Verdict {
    let now = Timestamp::now();
    Verdict {
        id: id::random(now),
        app: AppId(APP),
        subject: Subject::parse(SubjectKind::Operator, operator).expect("a subject"),
        commands: Vec::new(),
        effect: Effect::Deny,
        code: Some(10_120),
        text: "as any client may write it".to_owned(),
        source: Source::Moderator,
        rule: None,
        reason: String::new(),
        by: String::new(),
        issued_at: now,
        expires_at: Some(now.after(Duration::from_secs(3_600))),
        evidence: Vec::new(),
    }
}
