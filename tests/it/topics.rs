use serde_json::Value;

use crate::support::{Ended, Folder, Kafka, Portcullis, free_address, not_checked};

fn topics(folder: &Folder, arguments: &[&str]) -> Ended {
    Portcullis::command(folder.path(), &[&["topics"], arguments].concat()).run()
}

fn outcomes(ended: &Ended) -> Vec<Value> {
    let report = &ended.json()[0];
    report["topics"]
        .as_array()
        .expect("topics")
        .iter()
        .map(|topic| topic["outcome"].clone())
        .collect()
}

/// The test cluster knows neither the request that creates topics nor the one that describes them.
#[test]
fn topics_are_created_once_and_are_right_from_then_on() {
    let kafka = Kafka::without_topics();
    if !kafka.is_real() {
        not_checked(
            "how topics are created",
            "this is the test cluster, which cannot be asked to; tests/kafka/run runs the tests on a real Kafka",
        );
        return;
    }
    let folder = Folder::new();
    folder.write("portcullis.toml", &kafka.section());
    assert_eq!(
        outcomes(&topics(&folder, &["check", "--json"]).expect(1)),
        ["missing"; 6]
    );
    assert_eq!(
        outcomes(&topics(&folder, &["create", "--json"]).expect(0)),
        ["created"; 6]
    );
    assert_eq!(
        outcomes(&topics(&folder, &["create", "--json"]).expect(0)),
        ["right"; 6]
    );
    assert_eq!(outcomes(&topics(&folder, &["check", "--json"]).expect(0)), ["right"; 6]);

    // Callbacks and ledger in each other's place: too few partitions for the one, too short a life for the other.
    let (callbacks, ledger) = (&kafka.topics.callbacks, &kafka.topics.ledger);
    let swapped = kafka
        .section()
        .replace(callbacks, "other")
        .replace(ledger, callbacks)
        .replace("other", ledger);
    folder.write("portcullis.toml", &swapped);
    let told = topics(&folder, &["check"]).expect(1).out;
    assert!(
        told.contains(&format!("--alter --topic {ledger} --partitions 12")),
        "{told}"
    );
    assert!(
        told.contains(&format!(
            "--entity-name {callbacks} --add-config retention.ms=2592000000"
        )),
        "{told}"
    );
}

#[test]
fn a_kafka_that_is_away_is_told_with_its_address() {
    let away = free_address().to_string();
    for action in ["create", "check"] {
        let ended = Portcullis::command(Folder::new().path(), &["topics", action])
            .environment("PORTCULLIS__KAFKA__BOOTSTRAP", &away)
            .run()
            .expect(69);
        assert!(
            ended.err.contains(&away) && ended.err.contains("Connection refused"),
            "{}",
            ended.err
        );
    }
}
