use std::collections::HashMap;

use portcullis_schema::Timestamp;
use serde_json::Value;

use crate::support::{Ended, Folder, Kafka, Portcullis, Topic, free_address, publish_at};

const TOPIC: &str = "Group.CallbackBeforeCreateTopic";

struct Moderator {
    folder: Folder,
    kafka: Kafka,
}

impl Moderator {
    fn at(kafka: Kafka) -> Self {
        let folder = Folder::new();
        folder.write("portcullis.toml", &kafka.section());
        Self { folder, kafka }
    }

    fn verdict(&self, arguments: &[&str]) -> Ended {
        Portcullis::command(self.folder.path(), &[&["verdict"], arguments].concat()).run()
    }

    fn held(&self, more: &[&str]) -> Vec<Value> {
        self.verdict(&[&["list", "--json"], more].concat()).expect(0).json()
    }
}

#[test]
fn an_app_that_the_configuration_does_not_have_is_a_warning() {
    let moderator = Moderator::at(Kafka::start());
    let warned = |effect: &str, app: &str| {
        let ended = moderator.verdict(&[effect, "--app", app, "--everyone"]).expect(0);
        ended.err.contains("warning: portcullis.toml has no app ")
    };
    assert!(!warned("deny", "15"), "it names none at all");
    let apps = "[[apps]]\nid = 14\ntokens_file = \"/none/tokens\"\n";
    moderator
        .folder
        .write("portcullis.toml", &format!("{}{apps}", moderator.kafka.section()));
    for effect in ["deny", "allow"] {
        assert!(warned(effect, "15") && !warned(effect, "14"), "{effect}");
    }
    assert_eq!(moderator.held(&["--app", "15"]).len(), 1, "and not refused");
}

#[test]
fn a_verdict_holds_until_it_is_lifted() {
    let moderator = Moderator::at(Kafka::start());
    assert_eq!(moderator.held(&[]), [] as [Value; 0]);
    let denied = moderator
        .verdict(&[
            "deny",
            "--app",
            "14",
            "--operator",
            "leckie",
            "--command",
            TOPIC,
            "--code",
            "10101",
            "--text",
            "too many",
            "--for",
            "1h",
            "--reason",
            "spam",
            "--by",
            "ann",
        ])
        .expect(0);
    assert!(
        denied
            .out
            .contains("lift it: portcullis verdict lift --app 14 --operator leckie\n"),
        "{}",
        denied.out
    );

    let held = moderator.held(&[]);
    assert_eq!(held.len(), 1);
    for (field, value) in [
        ("effect", "deny"),
        ("text", "too many"),
        ("source", "moderator"),
        ("by", "ann"),
    ] {
        assert_eq!(held[0][field], value);
    }
    assert_eq!(held[0]["subject"]["value"], "leckie");
    assert_eq!(held[0]["commands"][0], TOPIC);
    let table = moderator.verdict(&["list"]).expect(0).out;
    assert!(
        table.contains("operator leckie") && table.ends_with("\n1 verdict\n"),
        "{table}"
    );

    let lifted = moderator
        .verdict(&["lift", "--app", "14", "--operator", "leckie"])
        .expect(0);
    assert!(
        lifted.out.starts_with("lifted  operator leckie of app 14"),
        "{}",
        lifted.out
    );
    assert_eq!(moderator.held(&[]), [] as [Value; 0]);
    let again = moderator
        .verdict(&["lift", "--app", "14", "--operator", "leckie"])
        .expect(0);
    assert!(again.out.starts_with("nothing to lift"), "{}", again.out);
}

#[test]
fn the_latest_verdict_about_a_subject_replaces_the_one_before() {
    let moderator = Moderator::at(Kafka::start());
    moderator
        .verdict(&["deny", "--app", "14", "--client-ip", "203.0.113.9/24"])
        .expect(0);
    moderator
        .verdict(&["allow", "--app", "14", "--client-ip", "203.0.113.0/24"])
        .expect(0);
    moderator
        .verdict(&["deny", "--app", "15", "--client-ip", "203.0.113.0/24"])
        .expect(0);
    let effects: Vec<Value> = moderator.held(&[]).iter().map(|held| held["effect"].clone()).collect();
    assert_eq!(effects, ["allow", "deny"]);
    assert_eq!(moderator.held(&["--app", "15"]).len(), 1);
}

#[test]
fn a_verdict_that_any_client_wrote_is_lifted_wherever_it_stands() {
    let moderator = Moderator::at(Kafka::start());
    let topic = &moderator.kafka.topics.verdicts;
    moderator
        .verdict(&["deny", "--app", "14", "--client-ip", "203.0.113.0/24"])
        .expect(0);
    let verdict = moderator.held(&[])[0].to_string();
    let at = Timestamp::now().as_millis();
    for partition in 0..3 {
        for key in ["14/client_ip/203.0.113.9/24/moderator", "of another form"] {
            publish_at(&moderator.kafka, topic, (partition, at), key, Some(verdict.as_bytes()));
        }
    }
    assert_eq!(moderator.held(&[]).len(), 1);
    moderator
        .verdict(&["lift", "--app", "14", "--client-ip", "203.0.113.0/24"])
        .expect(0);
    assert_eq!(moderator.held(&[]), [] as [Value; 0]);
    let mut kept = HashMap::new();
    for message in Topic::of(&moderator.kafka, topic).read_to_end() {
        kept.insert((message.partition, message.key.clone()), message.value.clone());
    }
    // In each partition both forms, and the key of each source in one.
    assert!(kept.len() >= 8 && kept.values().all(String::is_empty), "{kept:?}");
}

#[test]
fn an_expired_verdict_is_shown_only_when_asked_for() {
    let moderator = Moderator::at(Kafka::start());
    moderator
        .verdict(&["deny", "--app", "14", "--everyone", "--for", "1s"])
        .expect(0);
    crate::support::wait_until("it expires", std::time::Duration::from_secs(10), || {
        moderator.held(&[]).is_empty()
    });
    assert_eq!(moderator.held(&["--all"]).len(), 1);
}

#[test]
fn text_of_strangers_moves_no_cursor() {
    let moderator = Moderator::at(Kafka::start());
    let hostile = "\u{1b}[2J\u{202e}x";
    let denied = moderator
        .verdict(&[
            "deny",
            "--app",
            "14",
            "--operator",
            hostile,
            "--reason",
            hostile,
            "--by",
            hostile,
        ])
        .expect(0);
    let table = moderator.verdict(&["list"]).expect(0);
    for printed in [denied.out, table.out] {
        assert!(!printed.contains(['\u{1b}', '\u{202e}']), "{printed:?}");
    }
    assert_eq!(moderator.held(&[])[0]["reason"], hostile);
}

#[test]
fn a_kafka_that_is_away_or_has_no_topic_is_told_with_what_to_check() {
    let moderator = Moderator::at(Kafka::without_topics());
    let told = moderator.verdict(&["list"]).expect(69).err;
    assert!(told.contains("portcullis topics create"), "{told}");
    let away = free_address().to_string();
    for arguments in [&["list"][..], &["deny", "--app", "14", "--everyone"]] {
        let ended = Portcullis::command(Folder::new().path(), &[&["verdict"], arguments].concat())
            .environment("PORTCULLIS__KAFKA__BOOTSTRAP", &away)
            .run()
            .expect(69);
        assert!(
            ended.err.contains(&away) && ended.err.contains("kafka.bootstrap"),
            "{}",
            ended.err
        );
        assert_eq!(ended.out, "");
    }
}
