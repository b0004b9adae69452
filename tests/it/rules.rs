use crate::support::{Ended, Folder, Portcullis};

const RULE: &str = r#"[[rule]]
name = "burst"
commands = ["Group.CallbackBeforeCreateTopic"]
by = "operator"
count = "records"
window = "60s"
threshold = 5
mode = "enforce"
verdict = { effect = "deny", code = 10101, text = "later", for = "10m" }
"#;

const HOLDS: &str = r#"
[[rule.test]]
given = [{ operator = "a", at = "0s", times = 5 }]
expect = { denied = ["a"] }
"#;

const FAILS: &str = r#"
[[rule.test]]
given = [{ operator = "a", at = "0s", times = 4 }]
expect = { denied = ["a"] }
"#;

fn rules(action: &str, text: &str, more: &[&str]) -> Ended {
    let folder = Folder::new();
    folder.write("rules.toml", text);
    Portcullis::command(folder.path(), &[&["rules", action, "rules.toml"], more].concat()).run()
}

#[test]
fn rules_that_hold_are_told_one_by_one() {
    let told = rules("check", RULE, &[]).expect(0).out;
    assert!(
        told.starts_with("burst: ") && told.ends_with("rules.toml holds, rules: 1\n"),
        "{told}"
    );
    assert_eq!(rules("check", RULE, &["--json"]).expect(0).json()[0]["rules"], 1);
}

#[test]
fn every_mistake_in_rules_is_told_with_its_line() {
    let broken = RULE.replace("\"60s\"", "60").replace("\"burst\"", "7");
    let told = rules("check", &broken, &[]).expect(64).err;
    assert!(
        told.contains("rules.toml:2: ") && told.contains("rules.toml:6: "),
        "{told}"
    );
    let told = rules("test", &broken, &["--json"]).expect(64).json();
    assert_eq!(told[0]["ok"], false);
    assert_eq!(told[0]["mistakes"][0]["line"], 2);
}

#[test]
fn a_test_that_fails_says_what_came_and_ends_with_1() {
    rules("test", &[RULE, HOLDS].concat(), &[]).expect(0);
    let told = rules("test", &[RULE, HOLDS, FAILS].concat(), &[]).expect(1).out;
    assert!(told.contains("denied [], expected [\"a\"]"), "{told}");
    assert!(told.ends_with("1 passed, 1 failed\n"), "{told}");
    let told = rules("test", &[RULE, HOLDS, FAILS].concat(), &["--json"])
        .expect(1)
        .json();
    assert_eq!(told[0]["tests"][1]["ok"], false);
}
