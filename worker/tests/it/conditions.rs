use portcullis_worker::{Detector, Rules};
use serde_json::{Value, json};

use crate::records::{at, record_with, rule, rules};

/// Whether a record with these fields counts under the condition, and whether it could be told.
fn holds(condition: &str, fields: &Value) -> (bool, usize) {
    let when = format!("'{condition}'");
    let mut detector = Detector::new(&rules(&rule("a", &[("when", &when), ("threshold", "1")])));
    let mut fields = fields.clone();
    fields["operator"] = json!("leckie");
    let observed = detector.observe(&record_with(1, at(0.0), fields));
    (!observed.hits.is_empty(), observed.condition_errors.len())
}

#[test]
fn conditions_see_the_fields_of_the_record() {
    let fields = json!({
        "platform": "iOS", "name": "Free Coins", "client_ip": "203.0.113.7", "query": { "OptPlatform": "iOS" },
        "body": { "Type": "Public", "Big": 18446744073709551615u64, "Part": 1.5, "MemberList": [{ "Id": "a" }, 7], "No": null },
    });
    for condition in [
        "platform == \"iOS\"",
        "platform != \"RESTAPI\" && name.contains(\"Coins\")",
        "app == 1400000001 && operator.startsWith(\"lec\") && command.endsWith(\"CreateTopic\")",
        "query.OptPlatform == \"iOS\" && \"OptPlatform\" in query && size(query) == 1",
        "body.Type == \"Public\" && body[\"Type\"] in [\"Public\", \"Private\"]",
        "has(body.Type) && !has(body.Nothing)",
        "body.MemberList[0].Id == \"a\" && size(body.MemberList) == 2 && 7 in body.MemberList",
        "body.Big == 18446744073709551615u && body.Part < 2 && body.No == null",
        "rejection == \"\" && body_text == \"\"",
        "client_ip.startsWith(\"203.0.113.\") ? true : false",
        "size(name) == 10 || body.Nothing == 1",
    ] {
        assert_eq!(holds(condition, &fields), (true, 0), "{condition}");
    }
    for condition in [
        "platform == \"Android\"",
        "name.contains(\"free\")",
        "8 in body.MemberList",
    ] {
        assert_eq!(holds(condition, &fields), (false, 0), "{condition}");
    }
}

#[test]
fn a_field_of_text_that_is_absent_is_empty() {
    assert_eq!(holds("platform != \"RESTAPI\"", &json!({})), (true, 0));
    assert_eq!(holds("name == \"\" && client_ip == \"\"", &json!({})), (true, 0));
}

#[test]
fn a_condition_that_cannot_be_told_does_not_hold_and_says_so() {
    let fields = json!({ "body": { "Type": "Public", "List": [1] } });
    for condition in [
        "body.Nothing == 1",
        "body.Type > 5",
        "body.List[3] == 1",
        "query.x == \"1\"",
        "body.Type.Deeper == 1",
        "1 / size(query) == 1",
        "name",
        "body",
        "body + body == 1",
        "body.Type + 1 == 2",
        "int(body.Type) == 2",
        "size(name) * 9223372036854775807 * 2 + 9223372036854775807 < size(body) + 9223372036854775807",
        "string(body) == \"\"",
        "body.List < body.List",
        "[body] == [body] ? name : name",
        "-body == 1",
    ] {
        assert_eq!(holds(condition, &fields), (false, 1), "{condition}");
    }
}

#[test]
fn however_deep_a_condition_is_written_it_is_refused_or_evaluated() {
    for (condition, fits) in [
        (vec!["name==\"\""; 180].join("&&"), true),
        (vec!["name==\"\""; 180].join("||"), true),
        ("!".repeat(1_000) + "true", true),
        ("(".repeat(20) + "true" + &")".repeat(20), true),
        ("name".to_owned() + &"+name".repeat(20) + " == \"\"", true),
        ("name".to_owned() + &"+name".repeat(390) + " == \"\"", false),
        (vec!["size(name)"; 150].join("+") + " == 0", false),
        ("true ? ".repeat(120) + "true" + &" : false".repeat(120), false),
        ("true ? true : ".repeat(120) + "true", false),
        ("(".repeat(900) + "true" + &")".repeat(900), false),
        ("[".repeat(900) + "true" + &"]".repeat(900), false),
        ("body".to_owned() + &".a".repeat(900), false),
        ("body".to_owned() + &"[0]".repeat(600), false),
        ("name".to_owned() + &".size()".repeat(250), false),
    ] {
        let rule = rule("a", &[("when", &format!("'{condition}'")), ("threshold", "1")]);
        let read = Rules::read("rules.toml", &rule);
        assert_eq!(read.is_ok(), fits, "{condition}");
        if read.is_ok() {
            assert_eq!(holds(&condition, &json!({})), (true, 0), "{condition}");
        }
    }
}
