use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_schema::{
    AppId, Command, DecidedBy, Effect, Source, Subject, SubjectKind, Timestamp, Uuid, Verdict, VerdictKey, id, text,
};
use proptest::prelude::*;

use super::keeper::RULINGS_MAX;
use super::{Decision, Decisions, Forgotten, Keeper, Kept, Question, Ruling};
use crate::callback::Item;
use crate::config::{Fallback, FallbackReply};

const TOPIC: &str = "Group.CallbackBeforeCreateTopic";
const GROUP: &str = "Group.CallbackBeforeCreateGroup";
const INVITE: &str = "Group.CallbackBeforeInviteJoinGroup";
const ADD_FRIEND: &str = "Sns.CallbackPrevFriendAdd";
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
        items: &[],
        readable: true,
    };
    decisions.decide(&question, NOW)
}

/// With whom it is about, and what is said to them.
fn ask_about(decisions: &Decisions, command: &str, operator: &str, items: &[(&str, &str)]) -> Decision {
    let command = Command::parse(command);
    let items: Vec<Item> = items
        .iter()
        .map(|(account, text)| Item {
            account: (*account).to_owned(),
            text: (!text.is_empty()).then(|| (*text).to_owned()),
        })
        .collect();
    let question = Question {
        app: AppId(1),
        command: &command,
        operator: Some(operator),
        client_ip: None,
        name: None,
        items: &items,
        readable: true,
    };
    decisions.decide(&question, NOW)
}

fn refused(decision: &Decision) -> Vec<(&str, u32)> {
    let refused = decision.refused.iter();
    refused.map(|item| (item.account.as_str(), item.code)).collect()
}

#[test]
fn rulings_beyond_the_bound_are_looked_for_a_place_only_after_as_many_others() {
    let (_, mut keeper) = warm();
    let ruling = |text: &str| Ruling::new((Effect::Deny, Source::Rule), None, text, None, &[]);
    let numbered = |number: usize| ruling(&number.to_string());
    let mut used: Vec<_> = (0..RULINGS_MAX).map(|number| keeper.share(numbered(number))).collect();
    let is_kept = |keeper: &mut Keeper, text: &str| {
        let shared = keeper.share(ruling(text));
        Arc::ptr_eq(&shared, &keeper.share(ruling(text)))
    };
    assert!(!is_kept(&mut keeper, "no place"));
    used.pop();
    assert!(!is_kept(&mut keeper, "a place that is not looked for"));
    // Three were made since the last look.
    for number in 3..RULINGS_MAX {
        keeper.share(numbered(RULINGS_MAX + number));
    }
    assert!(is_kept(&mut keeper, "a place"));
    drop(used);
}

#[test]
fn what_is_not_said_again_holds_until_everything_is_said_and_not_longer() {
    let (decisions, mut keeper) = warm();
    let (former, both) = (deny(SubjectKind::Term, "former"), deny(SubjectKind::Operator, "both"));
    for verdict in [
        &former,
        &both,
        &verdict(Source::Moderator, Effect::Deny, SubjectKind::Operator, "both"),
    ] {
        keeper.put(verdict, NOW);
    }
    keeper.begin_anew();
    keeper.put(&both, NOW);
    keeper.settle(&[]);
    assert_eq!(ask(&decisions, TOPIC, "a", "", "a former b").effect, Effect::Deny);
    assert_eq!(ask(&decisions, TOPIC, "both", "", "x").by, DecidedBy::Moderator);

    let forgotten = keeper.end_anew();
    keeper.settle(&[]);
    assert_eq!(
        forgotten,
        Forgotten {
            verdicts: 2,
            had_room: true
        }
    );
    assert_eq!(ask(&decisions, TOPIC, "a", "", "a former b").effect, Effect::Allow);
    assert_eq!(ask(&decisions, TOPIC, "both", "", "x").by, DecidedBy::Verdict);
}

#[test]
fn what_had_no_room_beside_what_is_forgotten_is_told() {
    let (_, mut keeper) = Decisions::new(1, Fallback::default());
    keeper.put(&deny(SubjectKind::Operator, "former"), NOW);
    keeper.begin_anew();
    assert_eq!(keeper.put(&deny(SubjectKind::Operator, "new"), NOW), Kept::Full);
    let forgotten = keeper.end_anew();
    assert_eq!(
        forgotten,
        Forgotten {
            verdicts: 1,
            had_room: false
        }
    );
    assert_eq!(keeper.put(&deny(SubjectKind::Operator, "new"), NOW), Kept::InForce);
}

#[test]
fn of_those_who_are_invited_only_the_denied_are_refused() {
    let (decisions, mut keeper) = warm();
    keeper.put(&deny(SubjectKind::Operator, "mallory"), NOW);
    let some = [("leckie", ""), ("mallory", ""), ("jared", "")];
    let decision = ask_about(&decisions, INVITE, "host", &some);
    assert_eq!((decision.effect, decision.by), (Effect::Allow, DecidedBy::Verdict));
    assert_eq!(refused(&decision), [("mallory", 10_101)]);
    assert!(decision.verdict.is_some() && decision.code.is_none());

    let by_the_denied = ask_about(&decisions, INVITE, "mallory", &[("leckie", "")]);
    assert_eq!((by_the_denied.effect, by_the_denied.code), (Effect::Deny, Some(10_101)));
    let others = ask_about(&decisions, INVITE, "host", &[("leckie", "")]);
    assert_eq!((others.effect, others.by), (Effect::Allow, DecidedBy::Default));
    assert!(others.refused.is_empty());

    let trusted = verdict(Source::Moderator, Effect::Allow, SubjectKind::Operator, "host");
    keeper.put(&trusted, NOW);
    let decision = ask_about(&decisions, INVITE, "host", &some);
    assert_eq!((decision.by, refused(&decision)), (DecidedBy::Moderator, vec![]));

    // More than can be looked up in time: the fallback, not a slow answer.
    let crowd = vec![("mallory", ""); 1_001];
    assert_eq!(ask_about(&decisions, INVITE, "another", &crowd).by, DecidedBy::Fallback);
}

#[test]
fn a_friend_is_refused_for_what_is_said_to_it_and_not_for_who_it_is() {
    let (decisions, mut keeper) = warm();
    keeper.put(&deny(SubjectKind::Operator, "mallory"), NOW);
    keeper.put(&deny(SubjectKind::Term, "coins"), NOW);
    keeper.settle(&[1]);
    let items = [("mallory", "hello"), ("b", "free COINS here"), ("c", "")];
    let decision = ask_about(&decisions, ADD_FRIEND, "host", &items);
    assert_eq!(
        refused(&decision),
        [("b", 38_000)],
        "10101 is no code that a friend request has"
    );
    let by_the_denied = ask_about(&decisions, ADD_FRIEND, "mallory", &items);
    assert_eq!((by_the_denied.effect, by_the_denied.code), (Effect::Deny, Some(38_000)));
}

#[test]
fn a_verdict_refuses_each_command_with_what_that_can_carry() {
    for (command, effect, code, expected) in [
        (TOPIC, Effect::Deny, 10_150, (Effect::Deny, Some(10_150))),
        (TOPIC, Effect::Drop, 10_150, (Effect::Deny, Some(10_150))),
        (
            "Group.CallbackBeforeSendMsg",
            Effect::Drop,
            10_150,
            (Effect::Drop, Some(2)),
        ),
        (
            "Group.CallbackBeforeSendMsg",
            Effect::Deny,
            10_150,
            (Effect::Deny, Some(10_150)),
        ),
        (
            "C2C.CallbackBeforeSendMsg",
            Effect::Deny,
            10_150,
            (Effect::Deny, Some(1)),
        ),
        (
            "C2C.CallbackBeforeSendMsg",
            Effect::Deny,
            120_001,
            (Effect::Deny, Some(120_001)),
        ),
        (
            "C2C.CallbackBeforeSendMsg",
            Effect::Drop,
            120_001,
            (Effect::Drop, Some(2)),
        ),
        (
            "Sns.CallbackPrevFriendAdd",
            Effect::Deny,
            39_000,
            (Effect::Deny, Some(39_000)),
        ),
        (
            "OfficialAccount.CallbackBeforeAddSubscriber",
            Effect::Deny,
            10_150,
            (Effect::Deny, Some(1)),
        ),
        (
            "Group.CallbackAfterSendMsg",
            Effect::Deny,
            10_150,
            (Effect::Allow, None),
        ),
    ] {
        let (decisions, mut keeper) = warm();
        let verdict = Verdict {
            code: Some(code),
            ..verdict(Source::Rule, effect, SubjectKind::Operator, "mallory")
        };
        keeper.put(&verdict, NOW);
        let decision = ask(&decisions, command, "mallory", "", "");
        assert_eq!(
            (decision.effect, decision.code),
            expected,
            "{command} {effect:?} {code}"
        );
        // As a snapshot keeps it, too.
        decisions.each_held(|_, _, held| {
            let said = &*held.ruling;
            let (kind, text, rule) = ((said.effect, said.source), &said.text, said.rule.as_deref());
            assert_eq!(Ruling::new(kind, said.code(), text, rule, &said.commands()), *said);
        });
    }
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

fn denying() -> (Decisions, Keeper) {
    let fallback = FallbackReply::Deny {
        code: 10_100,
        text: "later".to_owned(),
    };
    Decisions::new(10_000, fallback.into())
}

#[test]
fn beside_a_denied_member_nobody_is_let_in_whom_the_fallback_would_refuse() {
    let (decisions, mut keeper) = denying();
    keeper.put(&deny(SubjectKind::Operator, "mallory"), NOW);
    for invited in [&[("leckie", "")][..], &[("leckie", ""), ("mallory", "")]] {
        let decision = ask_about(&decisions, INVITE, "host", invited);
        assert_eq!((decision.effect, decision.by), (Effect::Deny, DecidedBy::Fallback));
    }
    keeper.warm();
    let decision = ask_about(&decisions, INVITE, "host", &[("leckie", ""), ("mallory", "")]);
    assert_eq!((decision.effect, refused(&decision).len()), (Effect::Allow, 1));
}

#[test]
fn of_nobody_there_is_no_verdict_so_the_fallback_answers() {
    let (decisions, mut keeper) = denying();
    keeper.warm();
    let command = Command::parse(TOPIC);
    let question = |operator, readable| Question {
        app: AppId(1),
        command: &command,
        operator,
        client_ip: None,
        name: Some("a name"),
        items: &[],
        readable,
    };
    for (operator, readable, by) in [
        (Some("leckie"), true, DecidedBy::Default),
        (Some("leckie"), false, DecidedBy::Fallback),
        (None, true, DecidedBy::Fallback),
    ] {
        assert_eq!(
            decisions.decide(&question(operator, readable), NOW).by,
            by,
            "{operator:?}"
        );
    }
}

#[test]
fn a_term_is_found_wherever_it_stands_and_what_is_too_long_to_be_judged_is_not_cleared() {
    let (decisions, mut keeper) = denying();
    keeper.warm();
    keeper.put(&deny(SubjectKind::Term, "red packet"), NOW);
    keeper.settle(&[1]);
    // A message has at most 12 KiB.
    for filler in [".", "m", "\u{200b}", "é", "买", "ﷺ"] {
        let many = 12 * 1_024 / filler.len();
        let hidden = filler.repeat(many) + " Red Packet";
        assert_eq!(
            ask(&decisions, TOPIC, "o", "", &hidden).by,
            DecidedBy::Verdict,
            "{filler:?}"
        );
        let harmless = filler.repeat(many);
        assert_eq!(
            ask(&decisions, TOPIC, "o", "", &harmless).by,
            DecidedBy::Default,
            "{filler:?}"
        );
        let endless = filler.repeat(128 << 10) + " Red Packet";
        assert_eq!(
            ask(&decisions, TOPIC, "o", "", &endless).by,
            DecidedBy::Fallback,
            "{filler:?}"
        );
    }
    // What is said to all friends together is as bounded as one text.
    let long = "m".repeat(40 << 10); // 80 KiB of rn
    let by = |friends: &[(&str, &str)]| ask_about(&decisions, ADD_FRIEND, "host", friends).by;
    assert_eq!(by(&[("a", &long)]), DecidedBy::Default);
    assert_eq!(by(&[("a", &long), ("b", &long)]), DecidedBy::Fallback);
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
    assert_eq!(decisions.subjects(), 1);
    assert_eq!(ask(&decisions, TOPIC, "renewed", "", "").effect, Effect::Deny);
}

#[test]
fn without_room_the_verdict_that_ends_first_goes_and_none_that_has_no_end() {
    let (decisions, mut keeper) = Decisions::new(3, Fallback::default());
    keeper.warm();
    let ends_after = |operator: &str, seconds: Option<u64>| Verdict {
        expires_at: seconds.map(|seconds| NOW.after(std::time::Duration::from_secs(seconds))),
        ..deny(SubjectKind::Operator, operator)
    };
    let mut put = |operator: &str, seconds| keeper.put(&ends_after(operator, seconds), NOW);
    assert_eq!(put("for ever", None), Kept::InForce);
    assert_eq!(put("soon, then renewed", Some(5)), Kept::InForce);
    assert_eq!(put("soon, then renewed", Some(50)), Kept::InForce);
    assert_eq!(put("first", Some(10)), Kept::InForce);
    assert_eq!(put("new", Some(100)), Kept::InForce);
    let denied = |operator: &str| ask(&decisions, TOPIC, operator, "", "").effect == Effect::Deny;
    assert!(denied("for ever") && denied("soon, then renewed") && denied("new") && !denied("first"));
    assert_eq!((decisions.subjects(), decisions.evicted()), (3, 1));
    assert_eq!(put("another for ever", None), Kept::InForce);
    assert_eq!(put("a third for ever", None), Kept::InForce);
    assert_eq!(put("a fourth for ever", None), Kept::Full);
    assert!(denied("for ever") && !denied("a fourth for ever"));
    assert_eq!((decisions.subjects(), decisions.evicted()), (3, 3));
}

#[test]
fn who_holds_a_verdict_is_refused_at_every_moment_while_others_come_and_go() {
    let (decisions, mut keeper) = Decisions::new(1_000_000, Fallback::default());
    keeper.warm();
    keeper.put(&deny(SubjectKind::Operator, "mallory"), NOW);
    let soon = NOW.after(std::time::Duration::from_secs(1));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(ask(&decisions, TOPIC, "mallory", "", "").effect, Effect::Deny);
                    assert_eq!(ask(&decisions, TOPIC, "leckie", "", "").effect, Effect::Allow);
                }
            });
        }
        for round in 0..3 {
            for number in 0..20_000 {
                let passing = Verdict {
                    expires_at: Some(soon),
                    ..deny(SubjectKind::Operator, &format!("passing {number}"))
                };
                keeper.put(&passing, NOW);
                if number % 1_000 == 0 {
                    // Replaced, never gone in between.
                    keeper.put(&deny(SubjectKind::Operator, "mallory"), NOW);
                    keeper.settle(&[round]);
                }
            }
            while keeper.sweep(soon) {}
            assert_eq!(decisions.subjects(), 1);
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// Verdicts and lifts in any order, over few values so that they meet.
fn change() -> impl Strategy<Value = (Verdict, bool)> {
    let kinds = proptest::sample::select(SubjectKind::ALL.to_vec());
    let values = proptest::sample::select(vec!["10.0.0.1", "10.0.0.0/30", "10.0.0.0/8", "0.0.0.0/0"]);
    let sources = proptest::sample::select(vec![Source::Moderator, Source::Rule]);
    let effects = proptest::sample::select(vec![Effect::Allow, Effect::Deny, Effect::Drop]);
    let commands = proptest::sample::select(vec![
        vec![],
        vec![TOPIC.to_owned()],
        vec![GROUP.to_owned()],
        vec![INVITE.to_owned()],
    ]);
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

/// The precedence of the design, read aloud, among those that cover what is asked about.
fn naive<'a>(
    verdicts: &'a BTreeMap<VerdictKey, Verdict>,
    command: &str,
    covers: impl Fn(&Subject) -> bool,
) -> Option<&'a Verdict> {
    let command = Command::parse(command);
    let holding = verdicts
        .values()
        .filter(|verdict| verdict.app == AppId(1) && !verdict.is_expired(NOW) && verdict.applies_to(&command))
        .filter(|verdict| covers(&verdict.subject));
    let says = |source, allows| {
        let mut holding = holding.clone();
        holding.find(|verdict| verdict.source == source && (verdict.effect == Effect::Allow) == allows)
    };
    says(Source::Moderator, true)
        .or_else(|| says(Source::Moderator, false))
        .or_else(|| says(Source::Rule, false))
}

fn is_refused(ground: Option<&Verdict>) -> bool {
    ground.is_some_and(|verdict| verdict.effect != Effect::Allow)
}

fn is_said(subject: &Subject, text: &str) -> bool {
    match subject.kind() {
        SubjectKind::Name => subject.value() == text::skeleton(text),
        SubjectKind::Term => text::skeleton(text).contains(subject.value()),
        SubjectKind::Operator | SubjectKind::ClientIp | SubjectKind::Everyone => false,
    }
}

/// About the whole of a callback.
fn is_about(subject: &Subject, operator: &str, address: Option<IpAddr>, name: &str) -> bool {
    match subject.kind() {
        SubjectKind::Operator => subject.value() == operator,
        SubjectKind::ClientIp => {
            address.is_some_and(|address| subject.addresses().is_some_and(|net| net.contains(&address)))
        }
        SubjectKind::Name | SubjectKind::Term => is_said(subject, name),
        SubjectKind::Everyone => true,
    }
}

proptest! {
    #[test]
    fn nobody_is_refused_or_allowed_who_should_not_be(
        changes in proptest::collection::vec(change(), 0..25),
        operator in proptest::sample::select(vec!["10.0.0.1", "10.0.0.0/8", "other"]),
        address in proptest::sample::select(vec!["10.0.0.1", "10.0.0.9", "192.0.2.1"]),
        name in proptest::sample::select(vec!["10.0.0.1", "x 10.0.0.0/30 y", "other"]),
        sweep in any::<bool>(),
        (command, friends) in proptest::sample::select(vec![(INVITE, false), (ADD_FRIEND, true)]),
        items in proptest::collection::vec(
            proptest::sample::select(vec![("10.0.0.1", "hi"), ("other", "x 10.0.0.0/30 y"), ("10.0.0.0/8", "10.0.0.1")]), 0..4),
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
        let at = address.parse().ok();
        let ground = naive(&model, TOPIC, |subject| is_about(subject, operator, at, name));
        prop_assert_eq!(decision.effect == Effect::Deny, is_refused(ground));
        let told = decision.verdict.and_then(|id: Uuid| model.values().find(|verdict| verdict.id == id));
        prop_assert_eq!(told.is_some(), decision.by != DecidedBy::Default);

        // Whom it is about beside its operator, where nothing decides about the whole.
        let decision = ask_about(&decisions, command, operator, &items);
        let whole = naive(&model, command, |subject| is_about(subject, operator, None, ""));
        prop_assert_eq!(decision.effect == Effect::Deny, is_refused(whole));
        let expected: Vec<usize> = match whole {
            Some(_) => Vec::new(),
            None => (0..items.len())
                .filter(|index| {
                    let (account, said) = items[*index];
                    is_refused(naive(&model, command, |subject| match friends {
                        true => is_said(subject, said),
                        false => subject.kind() == SubjectKind::Operator && subject.value() == account,
                    }))
                })
                .collect(),
        };
        let refused: Vec<usize> = decision.refused.iter().map(|item| item.index).collect();
        prop_assert_eq!(refused, expected);
    }
}
