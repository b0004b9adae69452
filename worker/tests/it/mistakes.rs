use portcullis_worker::Rules;

use crate::records::rule;

fn told(text: &str) -> String {
    Rules::read("rules.toml", text).expect_err("a mistake").to_string()
}

#[test]
fn every_mistake_of_a_rule_is_told_with_its_line_and_what_is_allowed() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("name", "\"Topic Burst\"")],
            "rule[0].name: found \"Topic Burst\", allowed: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (
            &[("commands", "[]")],
            "rule[0].commands: found no command, allowed: a list of commands",
        ),
        (
            &[("commands", "[\"Group\"]"), ("mode", "\"shadow\"")],
            "rule[0].commands: found \"Group\", allowed: commands",
        ),
        (
            &[("commands", "[\"State.StateChange\"]")],
            "rule[0].commands: found \"State.StateChange\", which cannot be refused, in a rule that is enforced, \
             allowed: Group.CallbackBeforeCreateTopic, Group.CallbackBeforeCreateGroup",
        ),
        (
            &[("by", "\"user\"")],
            "rule[0].by: found \"user\", allowed: \"operator\", \"client_ip\"",
        ),
        (&[("by", "\"body\"")], "rule[0].by: found \"body\""),
        (
            &[("by", "\"body.GroupId\"")],
            "rule[0].by: found \"body.GroupId\", about which no verdict can be, allowed: \"operator\"",
        ),
        (
            &[("count", "\"values\"")],
            "rule[0].count: found \"values\", allowed: \"records\" or { distinct =",
        ),
        (&[("count", "3")], "rule[0].count: found 3"),
        (
            &[("count", "{ distinct = \"user\" }")],
            "rule[0].count.distinct: found \"user\"",
        ),
        (&[("count", "{ }")], "rule[0].count.distinct: found nothing"),
        (
            &[("count", "{ distinct = \"operator\" }")],
            "rule[0].count.distinct: found \"operator\", by which",
        ),
        (
            &[("window", "\"25h\"")],
            "rule[0].window: found \"25h\", allowed: a duration such as",
        ),
        (&[("window", "\"500ms\"")], "rule[0].window: found \"500ms\""),
        (
            &[("threshold", "0")],
            "rule[0].threshold: found 0, allowed: a whole number from 1 to 10000",
        ),
        (
            &[("mode", "\"on\"")],
            "rule[0].mode: found \"on\", allowed: \"enforce\" or \"shadow\" or \"off\"",
        ),
        (
            &[("verdict", "{ effect = \"drop\", for = \"1m\" }")],
            "rule[0].verdict.effect: found \"drop\"",
        ),
        (
            &[("verdict", "{ effect = \"deny\" }")],
            "rule[0].verdict.for: found nothing",
        ),
        (
            &[("verdict", "{ effect = \"deny\", for = \"31d\" }")],
            "rule[0].verdict.for: found \"31d\"",
        ),
        (
            &[("verdict", "{ effect = \"deny\", code = 38000, for = \"1m\" }")],
            "rule[0].verdict.code: found 38000, allowed: 1, or 10100 to 10200, for Group.CallbackBeforeCreateTopic",
        ),
        (
            &[("brakes", "{ subjects_per_hour = 0 }")],
            "rule[0].brakes.subjects_per_hour: found 0",
        ),
        (
            &[("brakes", "{ percent = 5 }")],
            "rule[0].brakes.percent: found an unknown key",
        ),
        (&[("treshold", "5")], "rule[0].treshold: found an unknown key"),
        (
            &[("when", "'platfrm == \"iOS\"'")],
            "rule[0].when: found an unknown field \"platfrm\", allowed: app, command",
        ),
        (
            &[("when", "'name.matches(\"x\")'")],
            "rule[0].when: found an unknown function \"matches\", allowed: bool",
        ),
        (
            &[("when", "'[1].exists(x, x > 0)'")],
            "rule[0].when: found a comprehension",
        ),
        (&[("when", "'platform =='")], "rule[0].when: found"),
    ];
    for (changes, expected) in cases {
        let text = rule("a", changes);
        let told = told(&text);
        let line = told.strip_prefix("rules.toml:").and_then(|rest| rest.split_once(": "));
        let (line, rest) = line.unwrap_or_else(|| panic!("{told}"));
        assert!(rest.starts_with(expected), "{text}\n{told}");
        assert!(line.parse::<usize>().is_ok_and(|line| line >= 1), "{told}");
        assert_eq!(told.lines().count(), 1, "{text}\n{told}");
    }
}

#[test]
fn what_an_enforced_rule_needs_is_told_when_it_is_missing() {
    let told = told("[[rule]]\nmode = \"enforce\"\n");
    for key in ["name", "commands", "by", "window", "threshold", "verdict"] {
        assert!(
            told.contains(&format!("rules.toml:1: rule[0].{key}: found nothing")),
            "{key} in\n{told}"
        );
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_the_order_of_lines() {
    let text = format!(
        "{}{}",
        rule("a", &[("threshold", "0"), ("window", "\"soon\"")]),
        rule("a", &[("mode", "\"on\"")])
    );
    let told = told(&text);
    let keys: Vec<&str> = told.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(
        keys,
        ["rule[0].threshold", "rule[0].window", "rule[1].name", "rule[1].mode"],
        "{told}"
    );
    assert!(told.contains("\"a\" again"), "{told}");
}

#[test]
fn a_condition_longer_than_its_bound_is_refused() {
    let long = format!("'{}'", vec!["platform == \"a\""; 200].join(" || "));
    let told = told(&rule("a", &[("when", &long)]));
    assert!(told.contains("allowed: at most 2000 characters"), "{told}");
}

#[test]
fn mistakes_in_the_examples_beside_a_rule_are_told() {
    let text = format!(
        "{}[[rule.test]]\ngiven = [{{ operator = 5, at = \"soon\", body = \"{{\" }}]\nexpect = {{ deny = [\"a\"] }}\n",
        rule("a", &[])
    );
    let told = told(&text);
    for key in ["given[0].operator", "given[0].at", "given[0].body", "expect.deny"] {
        assert!(
            told.contains(&format!("rule[0].test[0].{key}: found")),
            "{key} in\n{told}"
        );
    }
}

#[test]
fn a_file_without_rules_has_none() {
    assert_eq!(Rules::read("rules.toml", "").map(|rules| rules.iter().count()), Ok(0));
}
