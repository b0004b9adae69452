//! Any bytes in the topic of verdicts, as value and as key: what is understood is understood the same again, and what it
//! refuses with the command can carry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_receiver::Fallback;
use portcullis_receiver::decision::{Decisions, Question};
use portcullis_schema::{Command, CommandKind, Effect, SubjectKind, Timestamp, Verdict, VerdictKey};

fuzz_target!(|input: &[u8]| {
    if let Ok(key) = String::from_utf8_lossy(input).parse::<VerdictKey>() {
        assert_eq!(key.to_string().parse::<VerdictKey>().expect("its own form"), key);
    }
    let Ok(verdict) = Verdict::decode(input) else {
        return;
    };
    let json = verdict.encode().expect("encodes");
    assert_eq!(Verdict::decode(&json).expect("decodes"), verdict);
    let key = verdict.key();
    assert_eq!(key.to_string().parse::<VerdictKey>().expect("its own form"), key);

    let now = verdict.issued_at;
    let (decisions, mut keeper) = Decisions::new(10, Fallback::default());
    keeper.warm();
    keeper.put(&verdict, now);
    keeper.settle(&[1]);
    let value = verdict.subject.value();
    for kind in CommandKind::ALL {
        let command = Command::Known(*kind);
        let address = verdict.subject.addresses().map(|net| net.addr());
        let question = Question {
            app: verdict.app,
            command: &command,
            operator: Some(value),
            client_ip: address,
            name: Some(value),
            items: &[],
            readable: true,
        };
        let decision = decisions.decide(&question, now);
        let refusal = command.refusal();
        if decision.effect == Effect::Deny {
            let code = decision.code.expect("a refusal has a code");
            assert!(refusal.expect("it can be refused").codes.carry(code));
        }
        let holds = !verdict.is_expired(now) && verdict.applies_to(&command) && refusal.is_some();
        let judged = verdict.subject.kind() == SubjectKind::Operator && verdict.effect != Effect::Allow;
        if holds && judged {
            assert_ne!(decision.effect, Effect::Allow, "{verdict:?}");
        }
    }
    keeper.lift(&key);
    let later = verdict.expires_at.unwrap_or(Timestamp::from_micros(i64::MAX));
    while keeper.sweep(later) {}
    assert_eq!(decisions.subjects(), 0);
});
