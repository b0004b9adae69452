use portcullis_schema::settings::Place;

use crate::records::{rule, rules};

fn outcomes(text: &str) -> Vec<bool> {
    rules(text).test().iter().map(|outcome| outcome.passed()).collect()
}

#[test]
fn the_fifth_within_the_window_is_denied_and_the_fourth_is_not() {
    let text = format!(
        "{}
[[rule.test]]
given = [{{ operator = \"a\", at = \"0s\", times = 5 }}, {{ operator = \"b\", at = \"0s\", times = 4 }}]
expect = {{ denied = [\"a\"] }}
[[rule.test]]
given = [{{ operator = \"a\", times = 4 }}, {{ operator = \"a\", at = \"60s\" }}]
expect = {{ denied = [] }}
[[rule.test]]
given = [{{ operator = \"a\", times = 4, every = \"19s\" }}, {{ operator = \"a\", at = \"59s\" }}]
expect = {{ denied = [\"a\"], found = [\"a\"] }}
",
        rule("burst", &[])
    );
    assert_eq!(outcomes(&text), [true, true, true]);
}

#[test]
fn a_test_that_fails_says_where_it_stands_and_what_came_instead() {
    let text = format!(
        "{}[[rule.test]]\ngiven = [{{ operator = \"a\", times = 5 }}]\nexpect = {{ denied = [\"b\"] }}\n",
        rule("burst", &[])
    );
    let outcome = rules(&text).test().remove(0);
    assert!(!outcome.passed());
    assert_eq!(outcome.place, Place::Line(9));
    assert_eq!(
        outcome.to_string(),
        "burst, test in line 9: denied [\"a\"], expected [\"b\"]"
    );
}

#[test]
fn names_are_expected_by_what_a_person_sees() {
    let text = format!(
        "{}
[[rule.test]]
given = [
    {{ operator = \"a\", name = \"PayPaI\" }}, {{ operator = \"b\", name = \"paypal\" }},
    {{ operator = \"c\", name = \"раураl\" }}, {{ operator = \"c\", name = \"other\" }},
]
expect = {{ denied = [\"PAYPAL\"] }}
",
        rule(
            "copied",
            &[
                ("by", "\"name\""),
                ("count", "{ distinct = \"operator\" }"),
                ("threshold", "3")
            ]
        )
    );
    assert_eq!(outcomes(&text), [true]);
}

#[test]
fn a_shadow_rule_finds_and_denies_nobody() {
    let text = format!(
        "{}[[rule.test]]\ngiven = [{{ operator = \"a\", platform = \"Web\", times = 5 }}]\n\
         expect = {{ denied = [], found = [\"Web\"] }}\n",
        rule("shadowed", &[("mode", "\"shadow\""), ("by", "\"platform\"")])
    );
    assert_eq!(outcomes(&text), [true]);
}

#[test]
fn given_records_can_have_every_field_that_a_rule_looks_at() {
    let text = format!(
        "{}[[rule.test]]\ngiven = [{{ client_ip = \"2001:DB8::1\", operator = \"a\", platform = \"iOS\", \
         query = {{ a = \"1\" }}, body = '{{\"Type\":\"Public\"}}', command = \"Group.CallbackBeforeCreateTopic\", \
         app = 7, name = \"n\" }}]\nexpect = {{ denied = [\"2001:db8:0::1\"] }}\n",
        rule(
            "address",
            &[
                ("by", "\"client_ip\""),
                ("threshold", "1"),
                ("when", "'query.a == \"1\" && body.Type == \"Public\" && app == 7'")
            ]
        )
    );
    assert_eq!(outcomes(&text), [true]);
}
