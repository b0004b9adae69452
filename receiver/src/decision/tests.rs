use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_schema::{
    AppId, Command, DecidedBy, Effect, Source, Subject, SubjectKind, Timestamp, Uuid, Verdict, VerdictKey, id, text,
};
use proptest::prelude::*;

use super::{Decision, Decisions, Keeper, Question};
use crate::config::Fallback;

const TOPIC: &str = "Group.CallbackBeforeCreateTopic";
const GROUP: &str = "Group.CallbackBeforeCreateGroup";
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn warm() -> (Decisions, Keeper) {
    let (decisions, mut keeper) = Decisions::new(10_000, Fallback::default());
    keeper.warm();
    (decisions, keeper)
}

fn verdict(source: Source, effect: Effect, kind: SubjectKind, value: &str) -> Verdict {
    Verdict {
        id: id::random(NOW),
        app: AppId(1),
        subject: Subject::parse(kind, value).expect(value),
        commands: Vec::new(),
        effect,
        code: Some(10_101),
        text: "no".to_owned(),
        source,
        rule: (source == Source::Rule).then(|| "burst".to_owned()),
        reason: String::new(),
        by: String::new(),
        issued_at: NOW,
        expires_at: None,
        evidence: Vec::new(),
    }
}

fn deny(kind: SubjectKind, value: &str) -> Verdict {
    verdict(Source::Rule, Effect::Deny, kind, value)
}

fn ask(decisions: &Decisions, command: &str, operator: &str, address: &str, name: &str) -> Decision {
    let command = Command::parse(command);
    let question = Question {
        app: AppId(1),
        command: &command,
        operator: Some(operator),
        client_ip: address.parse().ok(),
        name: Some(name),
        readable: true,
    };
    decisions.decide(&question, NOW)
}

#[test]
fn every_kind_of_subject_is_refused_and_nobody_beside_it() {
    for (denied, refused, allowed) in [
        (
            (SubjectKind::Operator, "leckie"),
            ("leckie", "192.0.2.1", "a"),
            ("leckie2", "192.0.2.1", "a"),
        ),
        (
            (SubjectKind::ClientIp, "203.0.113.7"),
            ("o", "203.0.113.7", "a"),
            ("o", "203.0.113.8", "a"),
        ),
        (
            (SubjectKind::ClientIp, "203.0.113.0/24"),
            ("o", "203.0.113.200", "a"),
            ("o", "203.0.114.1", "a"),
        ),
        (
            (SubjectKind::ClientIp, "2001:db8::/32"),
            ("o", "2001:db8:1::5", "a"),
            ("o", "2001:db9::1", "a"),
        ),
        (
            (SubjectKind::ClientIp, "203.0.113.7"),
            ("o", "::ffff:203.0.113.7", "a"),
            ("o", "::203.0.113.7", "a"),
        ),
        (
            (SubjectKind::Name, "Free Coins"),
            ("o", "", "FRЕЕ\u{200b} coins"),
            ("o", "", "free coins now"),
        ),
        (
            (SubjectKind::Term, "coins"),
            ("o", "", "get FREE ｃｏｉｎｓ now"),
            ("o", "", "get free cons"),
        ),
    ] {
        let (decisions, mut keeper) = warm();
        keeper.put(&deny(denied.0, denied.1), NOW);
        keeper.settle(&[1]);
        let decision = ask(&decisions, TOPIC, refused.0, refused.1, refused.2);
        assert_eq!(
            (decision.effect, decision.code),
            (Effect::Deny, Some(10_101)),
            "{denied:?}"
        );
        assert_eq!(decision.by, DecidedBy::Verdict);
        assert_eq!(decision.rule.as_deref(), Some("burst"));
        assert_eq!(*decision.verdicts_at, [1]);
        assert_eq!(
            ask(&decisions, TOPIC, allowed.0, allowed.1, allowed.2).effect,
            Effect::Allow,
            "{denied:?}"
        );
    }
    let (decisions, mut keeper) = warm();
    keeper.put(&deny(SubjectKind::Everyone, ""), NOW);
    assert_eq!(ask(&decisions, TOPIC, "anyone", "", "").effect, Effect::Deny);
}

#[test]
fn a_verdict_of_one_app_is_none_in_another() {
    let (decisions, mut keeper) = warm();
    for kind in [SubjectKind::Operator, SubjectKind::Term] {
        let other = Verdict {
            app: AppId(2),
            ..deny(kind, "leckie")
        };
        keeper.put(&other, NOW);
    }
    keeper.settle(&[]);
    assert_eq!(ask(&decisions, TOPIC, "leckie", "", "leckie").effect, Effect::Allow);
}

#[test]
fn a_moderators_allow_wins_over_any_deny_until_it_is_lifted() {
    let (decisions, mut keeper) = warm();
    keeper.put(&deny(SubjectKind::Operator, "leckie"), NOW);
    keeper.put(
        &verdict(Source::Moderator, Effect::Deny, SubjectKind::Everyone, ""),
        NOW,
    );
    let allow = verdict(Source::Moderator, Effect::Allow, SubjectKind::Operator, "leckie");
    keeper.put(&allow, NOW);
    let decision = ask(&decisions, TOPIC, "leckie", "", "");
    assert_eq!(
        (decision.effect, decision.by, decision.code),
        (Effect::Allow, DecidedBy::Moderator, None)
    );

    keeper.lift(&allow.key());
    let decision = ask(&decisions, TOPIC, "leckie", "", "");
    assert_eq!((decision.effect, decision.by), (Effect::Deny, DecidedBy::Moderator));
}

#[test]
fn a_code_that_the_command_cannot_carry_still_refuses() {
    let (decisions, mut keeper) = warm();
    for (code, answered) in [(Some(10_200), 10_200), (Some(38_000), 1), (Some(0), 1), (None, 1)] {
        keeper.put(
            &Verdict {
                code,
                ..deny(SubjectKind::Operator, "o")
            },
            NOW,
        );
        assert_eq!(ask(&decisions, TOPIC, "o", "", "").code, Some(answered));
    }
}

#[test]
fn before_everything_is_read_no_verdict_is_no_answer() {
    let (decisions, mut keeper) = Decisions::new(10_000, Fallback::default());
    assert_eq!(ask(&decisions, TOPIC, "o", "", "").by, DecidedBy::Fallback);
    keeper.warm();
    assert_eq!(ask(&decisions, TOPIC, "o", "", "").by, DecidedBy::Default);
}

#[test]
fn what_expired_is_swept_and_what_was_renewed_stays() {
    let (decisions, mut keeper) = warm();
    let soon = NOW.after(std::time::Duration::from_secs(1));
    let later = NOW.after(std::time::Duration::from_secs(9));
    for operator in ["gone", "renewed"] {
        keeper.put(
            &Verdict {
                expires_at: Some(soon),
                ..deny(SubjectKind::Operator, operator)
            },
            NOW,
        );
    }
    keeper.put(
        &Verdict {
            expires_at: Some(later),
            ..deny(SubjectKind::Operator, "renewed")
        },
        NOW,
    );
    assert!(!keeper.sweep(soon));
    assert_eq!(keeper.verdicts().count(), 1);
    assert_eq!(ask(&decisions, TOPIC, "renewed", "", "").effect, Effect::Deny);
}

/// Verdicts and lifts in any order, over few values so that they meet.
fn change() -> impl Strategy<Value = (Verdict, bool)> {
    let kinds = proptest::sample::select(SubjectKind::ALL.to_vec());
    let values = proptest::sample::select(vec!["10.0.0.1", "10.0.0.0/30", "10.0.0.0/8", "0.0.0.0/0"]);
    let sources = proptest::sample::select(vec![Source::Moderator, Source::Rule]);
    let effects = proptest::sample::select(vec![Effect::Allow, Effect::Deny, Effect::Drop]);
    let commands = proptest::sample::select(vec![vec![], vec![TOPIC.to_owned()], vec![GROUP.to_owned()]]);
    let ends = proptest::sample::select(vec![None, Some(-1), Some(1)]);
    let apps = 1..3_u64;
    (kinds, values, sources, effects, commands, ends, apps, any::<bool>()).prop_map(
        |(kind, value, source, effect, commands, end, app, lifted)| {
            let verdict = Verdict {
                app: AppId(app),
                commands,
                expires_at: end.map(|seconds| Timestamp::from_micros(NOW.as_micros() + seconds * 1_000_000)),
                ..verdict(source, effect, kind, value)
            };
            (verdict, lifted)
        },
    )
}

/// The precedence of the design, read aloud.
fn naive(verdicts: &BTreeMap<VerdictKey, Verdict>, operator: &str, address: IpAddr, name: &str) -> Effect {
    let command = Command::parse(TOPIC);
    let covers = |subject: &Subject| match subject.kind() {
        SubjectKind::Operator => subject.value() == operator,
        SubjectKind::ClientIp => subject.addresses().is_some_and(|net| net.contains(&address)),
        SubjectKind::Name => subject.value() == text::skeleton(name),
        SubjectKind::Term => text::skeleton(name).contains(subject.value()),
        SubjectKind::Everyone => true,
    };
    let holding: Vec<&Verdict> = verdicts
        .values()
        .filter(|verdict| verdict.app == AppId(1) && !verdict.is_expired(NOW) && verdict.applies_to(&command))
        .filter(|verdict| covers(&verdict.subject))
        .collect();
    let says = |source, allows| {
        holding
            .iter()
            .any(|verdict| verdict.source == source && (verdict.effect == Effect::Allow) == allows)
    };
    if says(Source::Moderator, true) {
        return Effect::Allow;
    }
    if says(Source::Moderator, false) || says(Source::Rule, false) {
        return Effect::Deny;
    }
    Effect::Allow
}

proptest! {
    #[test]
    fn nobody_is_refused_or_allowed_who_should_not_be(
        changes in proptest::collection::vec(change(), 0..25),
        operator in proptest::sample::select(vec!["10.0.0.1", "10.0.0.0/8", "other"]),
        address in proptest::sample::select(vec!["10.0.0.1", "10.0.0.9", "192.0.2.1"]),
        name in proptest::sample::select(vec!["10.0.0.1", "x 10.0.0.0/30 y", "other"]),
        sweep in any::<bool>(),
    ) {
        let (decisions, mut keeper) = warm();
        let mut model = BTreeMap::new();
        for (verdict, lifted) in &changes {
            let key = verdict.key();
            if *lifted {
                keeper.lift(&key);
                model.remove(&key);
            } else {
                keeper.put(verdict, NOW);
                model.insert(key, verdict.clone());
            }
        }
        if sweep {
            keeper.sweep(NOW);
        }
        keeper.settle(&[]);
        let decision = ask(&decisions, TOPIC, operator, address, name);
        prop_assert_eq!(decision.effect, naive(&model, operator, address.parse().expect("address"), name));
        let ground = decision.verdict.and_then(|id: Uuid| model.values().find(|verdict| verdict.id == id));
        prop_assert_eq!(ground.is_some(), decision.by != DecidedBy::Default);
    }
}
