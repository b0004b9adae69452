use std::time::SystemTime;

use serde_json::json;

use crate::support::{Authority, DAY, Ended, Folder, Portcullis};

const WHOLE: &str = r#"
[kafka]
properties = { "sasl.password" = "geheim", "client.id" = "gate" }

[[apps]]
id = 1400000001
tokens = ["current", "next"]

[receiver]
reply_deadline = "200ms"

[worker]
automatic_verdicts = false
"#;

const BROKEN: &str = r#"[kafka]
properties = { "acks" = "most", "clientid" = "gate" }
[[apps]]
id = "mine"
tokens = []
[receiver]
listen = "8080"
[worker]
instanze = "w"
"#;

fn config(folder: &Folder, arguments: &[&str]) -> Ended {
    Portcullis::command(folder.path(), &[&["config"], arguments].concat()).run()
}

#[test]
fn a_file_that_holds_is_told_in_one_line() {
    let folder = Folder::new();
    folder.write("portcullis.toml", WHOLE);
    assert_eq!(config(&folder, &["check"]).expect(0).out, "portcullis.toml holds\n");
    let checked = config(&folder, &["check", "--json"]).expect(0).json();
    assert_eq!(checked, [json!({"ok": true, "file": "portcullis.toml"})]);
}

#[test]
fn a_certificate_that_no_caller_believes_is_a_warning() {
    let (folder, authority, now) = (Folder::new(), Authority::new(), SystemTime::now());
    let tls = "[receiver]\ntls = { certificate = \"c.pem\", key = \"k.pem\" }\n";
    folder.write("portcullis.toml", &WHOLE.replace("[receiver]\n", tls));
    for (from, until, told) in [
        (now - DAY, now + DAY, None),
        (now - 2 * DAY, now - DAY, Some("\"c.pem\" is over since ")),
        (now + DAY, now + 2 * DAY, Some("\"c.pem\" does not hold before ")),
    ] {
        let (certificate, key) = authority.certificate_between(from, until);
        folder.write("c.pem", &certificate);
        folder.write("k.pem", &key);
        let checked = config(&folder, &["check"]).expect(0);
        assert_eq!(checked.out, "portcullis.toml holds\n");
        let as_json = config(&folder, &["check", "--json"]).expect(0).json();
        let Some(told) = told else {
            assert_eq!(checked.err, "");
            assert!(as_json[0].get("warnings").is_none());
            continue;
        };
        assert!(
            checked.err.starts_with("warning: receiver.tls.certificate: "),
            "{}",
            checked.err
        );
        assert!(checked.err.contains(told), "{}", checked.err);
        assert!(as_json[0]["warnings"][0].as_str().expect("a text").contains(told));
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let folder = Folder::new();
    folder.write("broken.toml", BROKEN);
    let told = config(&folder, &["check", "--config", "broken.toml"]).expect(64).err;
    let places: Vec<&str> = told.lines().filter_map(|line| line.split(": found").next()).collect();
    assert_eq!(
        places,
        [
            "broken.toml:2: kafka.properties.acks",
            "broken.toml:2: kafka.properties.clientid",
            "broken.toml:4: apps[0].id",
            "broken.toml:7: receiver.listen",
            "broken.toml:9: worker.instanze",
        ]
    );
    let checked = config(&folder, &["check", "--config", "broken.toml", "--json"])
        .expect(64)
        .json();
    assert_eq!(checked[0]["ok"], false);
    assert_eq!(checked[0]["mistakes"][3]["line"], 7);
    assert_eq!(checked[0]["mistakes"][3]["key"], "receiver.listen");
}

#[test]
fn nothing_starts_on_a_file_with_a_mistake() {
    let folder = Folder::new();
    folder.write("portcullis.toml", "[kafka]\nbootstrap = 5\n");
    for arguments in [
        &["receiver"][..],
        &["worker"],
        &["topics", "check"],
        &["verdict", "list"],
    ] {
        let told = Portcullis::command(folder.path(), arguments).run().expect(64).err;
        assert!(
            told.starts_with("portcullis.toml:2: kafka.bootstrap: found 5"),
            "{told}"
        );
    }
}

#[test]
fn a_named_file_that_is_missing_is_told_and_a_missing_default_is_an_empty_one() {
    let folder = Folder::new();
    let told = config(&folder, &["check", "--config", "none.toml"]).expect(64).err;
    assert!(told.contains("none.toml cannot be read"), "{told}");
    let told = config(&folder, &["check"]).expect(64).err;
    assert!(
        told.starts_with("portcullis.toml (which does not exist): apps: found nothing"),
        "{told}"
    );
    let by_environment = Portcullis::command(folder.path(), &["config", "check"])
        .environment("PORTCULLIS__APPS", "[{ id = 1400000001, tokens = [] }]")
        .run();
    by_environment.expect(0);
}

#[test]
fn what_is_shown_holds_again_and_tells_no_secret() {
    let folder = Folder::new();
    folder.write("portcullis.toml", WHOLE);
    let shown = config(&folder, &["show"]).expect(0).out;
    for secret in ["geheim", "current", "next\""] {
        assert!(!shown.contains(secret), "{secret} in\n{shown}");
    }
    assert!(shown.contains("reply_deadline = \"200ms\"  # line 10\n"), "{shown}");
    folder.write("shown.toml", &shown);
    config(&folder, &["check", "--config", "shown.toml"]).expect(0);
    let as_json = |file| config(&folder, &["show", "--json", "--config", file]).expect(0).json();
    assert_eq!(as_json("portcullis.toml"), as_json("shown.toml"));
    let receiver = &as_json("portcullis.toml")[0]["receiver"];
    assert_eq!(receiver.get("tls"), Some(&json!(null)), "said to be absent");
    assert!(shown.contains("\n# tls is not set  # default: plain HTTP"), "{shown}");
}

#[test]
fn a_mistake_in_the_environment_is_told_with_its_variable() {
    let folder = Folder::new();
    let ended = Portcullis::command(folder.path(), &["verdict", "list"])
        .environment("PORTCULLIS__RECEIVER__REPLY_DEADLINE", "5s")
        .run();
    let told = ended.expect(64).err;
    assert!(
        told.starts_with("environment PORTCULLIS__RECEIVER__REPLY_DEADLINE: receiver.reply_deadline"),
        "{told}"
    );
    let ended = Portcullis::command(folder.path(), &["verdict", "list"]).environment("PORTCULLIS_LOG_FORMAT", "xml");
    assert!(ended.run().expect(64).err.contains("allowed: json or human"));
}

#[test]
fn two_topics_of_one_name_are_a_mistake() {
    let folder = Folder::new();
    folder.write(
        "portcullis.toml",
        &format!("{WHOLE}[kafka.topics]\nledger = \"callbacks\"\n"),
    );
    let told = config(&folder, &["check"]).expect(64).err;
    assert!(
        told.contains("kafka.topics: found \"callbacks\" for two of them"),
        "{told}"
    );
}

#[test]
fn tokens_that_only_the_receiver_may_read_stop_nobody_else() {
    let folder = Folder::new();
    folder.write(
        "portcullis.toml",
        "[[apps]]\nid = 1\ntokens_file = \"/none/tokens\"\n[worker]\nrules = \"none\"\n",
    );
    let told = Portcullis::command(folder.path(), &["receiver"]).run().expect(64).err;
    assert!(told.contains("tokens_file"), "{told}");
    let told = Portcullis::command(folder.path(), &["worker"]).run().expect(64).err;
    assert!(told.contains("rules, none, cannot be read"), "{told}");
}
