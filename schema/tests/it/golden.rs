//! Every shape that was ever written decodes for ever. Files are added, never changed.

use portcullis_schema::{
    AuditRecord, DecidedBy, Finding, LedgerEntry, LedgerEvent, Mode, Rung, Signal, Source, SubjectKind, Timestamp,
    Verdict,
};

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../golden/", $name)).as_slice()
    };
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("json")
}

#[test]
fn a_record_is_written_as_it_was_and_read_whole() {
    let written = golden!("record-denied.json");
    let record = AuditRecord::decode(written).expect("decodes");
    assert_eq!(json(&record.encode().expect("encodes")), json(written));
    assert_eq!(record.key(), "1400000001/leckie");
    let decision = record.decision.expect("a decision");
    assert_eq!((decision.by, decision.code), (DecidedBy::Verdict, Some(10101)));
    assert_eq!(decision.verdicts_at, [17, 3, 9]);
}

#[test]
fn records_that_lack_fields_are_read_and_written_the_same() {
    for written in [golden!("record-unreadable.json"), golden!("record-forged.json")] {
        let record = AuditRecord::decode(written).expect("decodes");
        assert_eq!(json(&record.encode().expect("encodes")), json(written));
    }
    assert_eq!(
        AuditRecord::decode(golden!("record-forged.json"))
            .expect("decodes")
            .key(),
        "unknown"
    );
}

#[test]
fn what_a_newer_version_adds_passes_and_odd_bodies_stay_to_the_letter() {
    let record = AuditRecord::decode(golden!("record-of-a-newer-version.json")).expect("decodes");
    assert_eq!(record.rung, Rung::Unknown);
    assert_eq!(record.decision.map(|decision| decision.by), Some(DecidedBy::Unknown));
    let body = record.body.expect("a body");
    assert_eq!(body.get(), r#"{"Name":"\ud800","Name":"twice","Depth":[[1e400]]}"#);
}

#[test]
fn verdicts_are_read_whole_and_at_their_shortest() {
    let written = golden!("verdict-rule.json");
    let verdict = Verdict::decode(written).expect("decodes");
    assert_eq!(json(&verdict.encode().expect("encodes")), json(written));
    assert_eq!(verdict.key().to_string(), "1400000001/operator/leckie/rule");

    let shortest = Verdict::decode(golden!("verdict-shortest.json")).expect("decodes");
    assert_eq!(
        (shortest.source, shortest.subject.kind()),
        (Source::Moderator, SubjectKind::Everyone)
    );
    assert_eq!(
        shortest.issued_at,
        "2026-11-24T11:00:00Z".parse::<Timestamp>().expect("a moment")
    );
    assert_eq!(shortest.expires_at, None);
}

#[test]
fn a_verdict_that_is_understood_in_part_is_none() {
    let written = String::from_utf8(golden!("verdict-rule.json").to_vec()).expect("text");
    for (known, unknown) in [
        ("\"deny\"", "\"delay\""),
        ("\"operator\"", "\"device\""),
        ("\"rule\",\"rule\"", "\"robot\",\"rule\""),
    ] {
        assert!(written.contains(known));
        assert!(
            Verdict::decode(written.replace(known, unknown).as_bytes()).is_err(),
            "{unknown}"
        );
    }
}

#[test]
fn findings_and_signals_are_read_and_written_the_same() {
    let written = golden!("finding-shadow.json");
    let finding = Finding::decode(written).expect("decodes");
    assert_eq!(finding.mode, Mode::Shadow);
    assert_eq!(finding.key(), "web-burst/203.0.113.7");
    assert_eq!(json(&finding.encode().expect("encodes")), json(written));
    let withheld = Finding::decode(golden!("finding-withheld.json")).expect("decodes");
    assert_eq!(withheld.withheld.as_deref(), Some("brake"));

    let signal = Signal::decode(golden!("signal.json")).expect("decodes");
    assert_eq!(signal.key(), "1400000001/client_ip/203.0.113.7");
    assert_eq!(signal.counts[0].distinct.as_deref(), Some("leckie"));
    assert_eq!(signal.counts[1].distinct, None);
}

#[test]
fn the_life_of_a_boot_is_read_from_the_ledger() {
    let started = LedgerEntry::decode(golden!("ledger-started.json")).expect("decodes");
    assert!(matches!(
        started.event,
        LedgerEvent::Started {
            former_next_seq: Some(1041),
            ..
        }
    ));
    let heartbeat = LedgerEntry::decode(golden!("ledger-heartbeat.json")).expect("decodes");
    assert_eq!((heartbeat.event, heartbeat.next_seq), (LedgerEvent::Heartbeat, 46));
    assert_eq!(heartbeat.lost.get("journal_full"), Some(&2));
    let written = golden!("ledger-stopped.json");
    let stopped = LedgerEntry::decode(written).expect("decodes");
    assert_eq!(json(&stopped.encode().expect("encodes")), json(written));
}
