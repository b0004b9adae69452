//! From a callback to a finding, to a verdict, to the refusal of the next callback, through Kafka and back.

use std::collections::BTreeSet;

use portcullis_schema::{DecidedBy, Mode, Source, Uuid};
use serde_json::Value;

use crate::support::{Callback, Caller, Kafka, Kept, PATIENCE, Site, Topic, wait_until};

const BURST: &str = r#"
[[rule]]
name = "topic-burst"
commands = ["Group.CallbackBeforeCreateTopic"]
when = 'platform == "iOS"'
by = "operator"
count = "records"
window = "60s"
threshold = 5
mode = "enforce"
verdict = { effect = "deny", code = 10101, text = "too many topics, try later", for = "FOR" }
"#;
const SHARED_ADDRESS: &str = r#"
[[rule]]
name = "address-shared"
commands = ["Group.CallbackBeforeCreateTopic"]
by = "client_ip"
count = { distinct = "operator" }
window = "60s"
threshold = 20
mode = "enforce"
verdict = { effect = "deny", code = 10103, text = "try again later", for = "10m" }
"#;
const SHADOW: &str = r#"
[[rule]]
name = "not-sure-yet"
commands = ["Group.CallbackBeforeCreateTopic"]
when = 'platform == "Web"'
by = "operator"
count = "records"
window = "60s"
threshold = 3
mode = "shadow"
"#;

#[test]
fn the_one_who_made_five_topics_in_a_minute_is_refused_until_the_verdict_is_over() {
    let site = Site::at(Kafka::start()).rules(&BURST.replace("FOR", "10s"));
    let (_worker, _receiver) = (site.worker("worker-1").ready(), site.receiver().ready());
    let mut caller = site.caller();
    for number in 0..4 {
        assert_eq!(caller.post(&Callback::topic("careful", &format!("{number}"))).code(), 0);
    }
    for number in 0..5 {
        assert_eq!(
            caller
                .post(&Callback::topic("mallory", &format!("offer {number}")))
                .code(),
            0
        );
    }
    let mut verdicts = Topic::of(&site.kafka, &site.kafka.topics.verdicts);
    let verdict = verdicts.read_until("a verdict", |kept| !kept.is_empty())[0].verdict();

    let next = uncounted("mallory");
    wait_until("the next one is refused", PATIENCE, || caller.post(&next).code() != 0);
    assert_eq!(
        caller.post(&next).refusal(),
        (10_101, "too many topics, try later".to_owned())
    );
    assert_eq!(caller.post(&uncounted("careful")).code(), 0);

    // What it rests on: the five records.
    let mut callbacks = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = callbacks.read_until("the refusal's record", |kept| kept.iter().any(is_refused));
    let of_mallory = kept.iter().filter(|kept| kept.key.ends_with("/mallory"));
    let five: Vec<Uuid> = of_mallory.take(5).map(|kept| kept.record().id).collect();
    let mut findings = Topic::of(&site.kafka, &site.kafka.topics.findings);
    let kept_findings = findings.read_to_end();
    assert_eq!(kept_findings.len(), 1);
    assert_eq!(kept_findings[0].key, "topic-burst/mallory");
    let finding = kept_findings[0].finding();
    assert_eq!((finding.count, finding.threshold, finding.mode), (5, 5, Mode::Enforce));
    assert_eq!(finding.evidence, five);
    assert_eq!(finding.verdict, Some(verdict.id));
    assert_eq!(verdict.evidence, five);
    assert_eq!(
        (verdict.source, verdict.rule.as_deref()),
        (Source::Rule, Some("topic-burst"))
    );
    assert_eq!(verdicts.read_to_end().len(), 1);
    assert_eq!(verdicts.read_to_end()[0].key, "1400000001/operator/mallory/rule");
    let refused = kept.iter().find(|kept| is_refused(kept)).expect("read").record();
    let decision = refused.decision.expect("a decision");
    assert_eq!((decision.by, decision.verdict), (DecidedBy::Verdict, Some(verdict.id)));
    assert_eq!(decision.rule.as_deref(), Some("topic-burst"));

    wait_until("the verdict is over", PATIENCE, || caller.post(&next).code() == 0);
    let now = portcullis_schema::Timestamp::now();
    assert!(
        verdict.is_expired(now),
        "allowed again at {now}, before the end of {verdict:?}"
    );
}

#[test]
fn an_address_that_twenty_operators_share_is_refused_though_its_records_lie_apart() {
    // When somebody joins a group, the test cluster lets it wait as long as a session.
    let properties = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")];
    let site = Site::with_properties(Kafka::start(), &properties).rules(SHARED_ADDRESS);
    let workers = [site.worker("worker-1").ready(), site.worker("worker-2").ready()];
    wait_until("both workers have partitions", PATIENCE, || {
        workers
            .iter()
            .all(|worker| worker.is_ready() && !worker.reason("group").starts_with("0 "))
    });
    let _receiver = site.receiver().ready();
    let mut caller = site.caller();
    let from = |operator: &str, address: &str| Callback::topic(operator, "Invest now").client_ip(address);
    for number in 0..20 {
        let callback = from(&format!("account-{number}"), "203.0.113.66");
        assert_eq!(caller.post(&callback).code(), 0);
    }
    let next = from("account-0", "203.0.113.66");
    wait_until("the address is refused", PATIENCE, || caller.post(&next).code() != 0);
    let another = from("account-of-nobody", "203.0.113.66");
    assert_eq!(caller.post(&another).refusal(), (10_103, "try again later".to_owned()));
    assert_eq!(caller.post(&from("account-0", "203.0.113.67")).code(), 0);

    let mut callbacks = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = callbacks.read_to_end();
    let partitions: BTreeSet<i32> = kept.iter().map(|kept| kept.partition).collect();
    assert!(partitions.len() > 1, "{partitions:?}");
    let mut findings = Topic::of(&site.kafka, &site.kafka.topics.findings);
    let finding = findings.read_to_end()[0].finding();
    assert_eq!((finding.count, finding.subject.value.as_str()), (20, "203.0.113.66"));
    let evidence: BTreeSet<Uuid> = finding.evidence.iter().copied().collect();
    let counted = kept
        .iter()
        .map(Kept::record)
        .filter(|record| evidence.contains(&record.id));
    let operators: BTreeSet<Option<String>> = counted.map(|record| record.operator).collect();
    assert_eq!(operators.len(), 20);
    for worker in &workers {
        assert!(worker.metric("worker_records_total") > 0.0, "{}", worker.metrics());
    }
}

#[test]
fn a_shadow_rule_refuses_nobody_and_its_hits_stand_in_the_findings() {
    let site = Site::at(Kafka::start()).rules(&(SHADOW.to_owned() + &BURST.replace("FOR", "10m")));
    let (_worker, _receiver) = (site.worker("worker-1").ready(), site.receiver().ready());
    let mut caller = site.caller();
    let watched = Callback::topic("watched", "x").platform("Web");
    for _ in 0..9 {
        assert_eq!(caller.post(&watched).code(), 0);
    }
    let mut findings = Topic::of(&site.kafka, &site.kafka.topics.findings);
    let kept = findings.read_until("a hit", |kept| !kept.is_empty());
    let finding = kept[0].finding();
    assert_eq!((finding.rule.as_str(), finding.mode), ("not-sure-yet", Mode::Shadow));
    assert_eq!((finding.count, finding.subject.value.as_str()), (3, "watched"));
    assert_eq!((finding.verdict, finding.withheld), (None, None));

    // By the time an enforced rule has refused somebody, the shadow rule has refused nobody.
    burst_until_refused(&mut caller, "mallory");
    assert_eq!(caller.post(&watched).code(), 0);
    let mut verdicts = Topic::of(&site.kafka, &site.kafka.topics.verdicts);
    for kept in verdicts.read_to_end() {
        assert_eq!(kept.verdict().subject.value(), "mallory");
    }
}

#[test]
fn a_moderators_allow_wins_over_a_rules_deny_until_it_is_lifted() {
    let site = Site::at(Kafka::start()).rules(&BURST.replace("FOR", "10m"));
    let (_worker, _receiver) = (site.worker("worker-1").ready(), site.receiver().ready());
    let mut caller = site.caller();
    let (mallory, other) = (uncounted("mallory"), uncounted("other"));
    burst_until_refused(&mut caller, "mallory");
    assert_eq!(held(&site), ["operator rule deny"].map(str::to_owned).into());

    site.moderate("allow", &["--operator", "mallory", "--reason", "a press event"]);
    wait_until("the allow is in force", PATIENCE, || caller.post(&mallory).code() == 0);
    assert_eq!(
        held(&site),
        ["operator moderator allow", "operator rule deny"]
            .map(str::to_owned)
            .into()
    );

    // Not even a moderator's word about everybody takes it back.
    site.moderate("deny", &["--everyone", "--code", "10150", "--text", "closed for today"]);
    wait_until("everybody is refused", PATIENCE, || caller.post(&other).code() != 0);
    assert_eq!(caller.post(&other).refusal(), (10_150, "closed for today".to_owned()));
    assert_eq!(caller.post(&mallory).code(), 0);

    site.moderate("lift", &["--operator", "mallory"]);
    wait_until("the allow is lifted", PATIENCE, || caller.post(&mallory).code() != 0);
    assert_eq!(caller.post(&mallory).code(), 10_150);
    assert_eq!(held(&site), ["everyone moderator deny"].map(str::to_owned).into());

    site.moderate("lift", &["--everyone"]);
    wait_until("everybody may go on", PATIENCE, || caller.post(&other).code() == 0);
    assert_eq!(caller.post(&mallory).code(), 0);
    assert_eq!(site.held(), [] as [Value; 0]);
}

/// A callback that no rule of these tests counts.
fn uncounted(operator: &str) -> Callback {
    Callback::topic(operator, "x").platform("Mac")
}

#[track_caller]
fn burst_until_refused(caller: &mut Caller, operator: &str) {
    for _ in 0..5 {
        assert_eq!(caller.post(&Callback::topic(operator, "x")).code(), 0);
    }
    let next = uncounted(operator);
    wait_until("the burst is refused", PATIENCE, || caller.post(&next).code() == 10_101);
}

fn is_refused(kept: &Kept) -> bool {
    let decision = kept.record().decision;
    decision.is_some_and(|decision| decision.code == Some(10_101))
}

/// What `verdict list` shows: subject, source, effect.
#[track_caller]
fn held(site: &Site) -> BTreeSet<String> {
    let words = |verdict: &Value| {
        let words = [&verdict["subject"]["kind"], &verdict["source"], &verdict["effect"]];
        words.map(|word| word.as_str().expect("a word").to_owned()).join(" ")
    };
    site.held().iter().map(words).collect()
}
