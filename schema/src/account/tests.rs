use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Account, BootReport, Ending, Limits, Numbered, Span};
use crate::{LedgerEntry, LedgerEvent, Timestamp};

const LIMITS: Limits = Limits {
    boots_max: 100,
    chunks_max: 100,
};
const PARTITIONS: usize = 3;

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000).after(Duration::from_secs(second))
}

fn boot(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn numbered(boot: Uuid, seq: u64) -> Numbered<'static> {
    Numbered {
        receiver: "receiver-1".into(),
        boot,
        seq,
    }
}

fn entry(boot: Uuid, second: u64, event: LedgerEvent, next_seq: u64) -> LedgerEntry {
    LedgerEntry {
        receiver: "receiver-1".to_owned(),
        boot,
        at: at(second),
        event,
        next_seq,
        host: String::new(),
        lost: BTreeMap::new(),
    }
}

fn started(former: Option<(Uuid, u64)>) -> LedgerEvent {
    LedgerEvent::Started {
        former_boot: former.map(|(boot, _)| boot),
        former_next_seq: former.map(|(_, next_seq)| next_seq),
    }
}

fn only(account: &Account) -> BootReport {
    let mut boots = account.boots();
    assert_eq!(boots.len(), 1);
    boots.remove(0)
}

/// What happens to a receiver, and to what it publishes.
#[derive(Clone, Debug)]
enum Happens {
    Record { partition: usize, published: Published },
    Repeat { partition: usize, of: usize },
    Heartbeat,
    Kill { known: bool },
    StopAndStart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Published {
    Once,
    Never,
    DeadLetter,
}

fn happens() -> impl Strategy<Value = Happens> {
    let published = prop_oneof![
        8 => Just(Published::Once), 1 => Just(Published::Never), 1 => Just(Published::DeadLetter)
    ];
    prop_oneof![
        20 => (0..PARTITIONS, published).prop_map(|(partition, published)| Happens::Record { partition, published }),
        2 => (0..PARTITIONS, 0_usize..30).prop_map(|(partition, of)| Happens::Repeat { partition, of }),
        3 => Just(Happens::Heartbeat),
        1 => any::<bool>().prop_map(|known| Happens::Kill { known }),
        1 => Just(Happens::StopAndStart),
    ]
}

/// The topics as they are in the end, and of each boot what is in them.
#[derive(Default)]
struct Topics {
    partitions: [Vec<(Uuid, u64, Published)>; PARTITIONS],
    /// Each with the ends of the partitions at its time.
    ledger: Vec<(LedgerEntry, [usize; PARTITIONS])>,
    models: BTreeMap<Uuid, Model>,
}

#[derive(Debug, Default)]
struct Model {
    next_seq: u64,
    published: Vec<(u64, Published)>,
    repeats: u64,
    proven: u64,
}

impl Topics {
    fn of(history: &[Happens]) -> Self {
        let mut topics = Self::default();
        let mut now = boot(1);
        topics.say(now, started(None));
        for step in history {
            let model = topics.models.entry(now).or_default();
            match step {
                Happens::Record { partition, published } => {
                    let seq = model.next_seq;
                    model.next_seq += 1;
                    if *published != Published::Never {
                        model.published.push((seq, *published));
                        topics.partitions[*partition].push((now, seq, *published));
                    }
                }
                Happens::Repeat { partition, of } => {
                    let again = model
                        .published
                        .len()
                        .checked_sub(of + 1)
                        .map(|place| model.published[place]);
                    if let Some((seq, published)) = again {
                        model.repeats += 1;
                        topics.partitions[*partition].push((now, seq, published));
                    }
                }
                Happens::Heartbeat => topics.say(now, LedgerEvent::Heartbeat),
                Happens::Kill { known } => now = topics.follow(now, *known),
                Happens::StopAndStart => {
                    topics.say(now, LedgerEvent::Stopped);
                    now = topics.follow(now, true);
                }
            }
        }
        topics
    }

    fn follow(&mut self, former: Uuid, known: bool) -> Uuid {
        let next = boot(former.as_u128() + 1);
        let model = self.models.entry(former).or_default();
        let next_seq = model.next_seq;
        if known {
            model.proven = next_seq;
        }
        self.say(
            next,
            LedgerEvent::Started {
                former_boot: Some(former),
                former_next_seq: known.then_some(next_seq),
            },
        );
        next
    }

    fn say(&mut self, boot: Uuid, event: LedgerEvent) {
        let model = self.models.entry(boot).or_default();
        model.proven = model.next_seq;
        let said = entry(boot, self.ledger.len() as u64, event, model.next_seq);
        let ends = self.partitions.each_ref().map(Vec::len);
        self.ledger.push((said, ends));
    }

    /// Reads them as the choices say, and to their ends.
    fn read(&self, choices: &[usize]) -> Account {
        let mut account = Account::new(at(0), LIMITS);
        let mut read = [0; PARTITIONS];
        let mut heard = 0;
        let ends = self.partitions.each_ref().map(Vec::len);
        let mut choices = choices.iter().copied();
        while read != ends || heard < self.ledger.len() {
            let partition = choices.next().unwrap_or_else(|| {
                let unread = (0..PARTITIONS).find(|partition| read[*partition] < ends[*partition]);
                unread.unwrap_or(PARTITIONS)
            });
            if partition < PARTITIONS {
                let Some((boot, seq, published)) = self.partitions[partition].get(read[partition]) else {
                    continue;
                };
                read[partition] += 1;
                match published {
                    Published::DeadLetter => account.dead_letter(&numbered(*boot, *seq)),
                    _ => account.record(&numbered(*boot, *seq)),
                }
            } else if let Some((entry, ends)) = self.ledger.get(heard)
                && (0..PARTITIONS).all(|partition| read[partition] >= ends[partition])
            {
                heard += 1;
                account.hear(entry);
            }
        }
        account
    }
}

proptest! {
    #[test]
    fn the_account_is_what_sets_of_numbers_say_in_whatever_order_the_partitions_are_read(
        history in proptest::collection::vec(happens(), 0..150),
        choices in proptest::collection::vec(0..=PARTITIONS, 0..400),
    ) {
        let topics = Topics::of(&history);
        let account = topics.read(&choices);
        let mut missing_in_all = 0;
        for report in account.boots() {
            let model = &topics.models[&report.boot];
            let seen: BTreeSet<u64> = model.published.iter().map(|(seq, _)| *seq).collect();
            let numbers = |spans: &[Span]| spans.iter().flat_map(|span| span.first..=span.last).collect::<Vec<u64>>();
            let unseen = |from: u64, end: u64| (from..end).filter(|seq| !seen.contains(seq)).collect::<Vec<u64>>();
            let missing = unseen(0, model.proven);
            missing_in_all += missing.len() as u64;
            prop_assert_eq!(report.missing_records, missing.len() as u64);
            prop_assert_eq!(numbers(&report.missing), missing);
            prop_assert_eq!(numbers(&report.late), unseen(model.proven, seen.last().copied().unwrap_or(0)));
            prop_assert_eq!((report.first, report.last), (seen.first().copied(), seen.last().copied()));
            prop_assert_eq!((report.records, report.repeats), (seen.len() as u64, model.repeats));
            let dead = model.published.iter().filter(|(_, published)| *published == Published::DeadLetter);
            prop_assert_eq!(report.too_large, dead.count() as u64);
            prop_assert_eq!(report.judged, Some((0, model.proven)));
        }
        prop_assert_eq!(account.boots().len(), topics.models.len());
        prop_assert_eq!(account.missing_records(), missing_in_all);
    }
}

#[test]
fn a_boot_from_before_the_horizon_is_judged_from_its_first_entry_after_it() {
    let mut account = Account::new(at(100), LIMITS);
    for seq in [3, 4, 7, 9] {
        account.record(&numbered(boot(1), seq));
    }
    assert_eq!(account.hear(&entry(boot(1), 90, started(None), 0)), []);
    assert_eq!(account.hear(&entry(boot(1), 99, LedgerEvent::Heartbeat, 5)), []);
    assert_eq!(only(&account).judged, None);
    assert_eq!(account.hear(&entry(boot(1), 100, LedgerEvent::Heartbeat, 7)), []);
    let holes = account.hear(&entry(boot(1), 110, LedgerEvent::Stopped, 10));
    assert_eq!(
        holes.iter().map(|hole| hole.span).collect::<Vec<_>>(),
        [Span { first: 8, last: 8 }]
    );
    let report = only(&account);
    assert_eq!((report.judged, report.missing_records), (Some((7, 10)), 1));
    assert_eq!(report.ending, Ending::Stopped { at: at(110) });
}

#[test]
fn a_record_that_comes_after_all_is_missing_no_more() {
    let mut account = Account::new(at(0), LIMITS);
    account.hear(&entry(boot(1), 0, started(None), 0));
    let holes = account.hear(&entry(boot(1), 10, LedgerEvent::Heartbeat, 5));
    assert_eq!(holes.len(), 1);
    account.record(&numbered(boot(1), 2));
    let report = only(&account);
    assert_eq!(report.missing, [Span { first: 0, last: 1 }, Span { first: 3, last: 4 }]);
    assert_eq!((report.missing_records, report.repeats), (4, 0));
    account.record(&numbered(boot(1), 2));
    assert_eq!(only(&account).repeats, 1);
}

#[test]
fn records_without_an_entry_prove_nothing() {
    let mut account = Account::new(at(0), LIMITS);
    account.record(&numbered(boot(1), 5));
    account.record(&numbered(boot(1), 9));
    let report = only(&account);
    assert_eq!((report.judged, report.ending), (None, Ending::Unknown));
    assert_eq!((report.missing_records, report.late_records), (0, 0));
}

#[test]
fn made_up_boots_and_numbers_push_out_no_boot_of_the_ledger() {
    let mut account = Account::new(
        at(0),
        Limits {
            boots_max: 10,
            chunks_max: 20,
        },
    );
    account.hear(&entry(boot(1), 0, started(None), 0));
    for number in 0..1_000 {
        account.record(&numbered(
            boot(1_000 + number),
            u64::MAX - 5_000 * u64::try_from(number).expect("small"),
        ));
        account.record(&numbered(boot(1), u64::try_from(number).expect("small")));
    }
    account.hear(&entry(boot(1), 10, LedgerEvent::Heartbeat, 1_001));
    let reports = account.boots();
    assert_eq!(reports.len(), 10);
    assert_eq!(account.forgotten().boots, 991);
    let known = reports.iter().find(|report| report.boot == boot(1)).expect("kept");
    assert_eq!(
        known.missing,
        [Span {
            first: 1_000,
            last: 1_000
        }]
    );
}

#[test]
fn what_was_forgotten_for_want_of_memory_is_not_called_missing() {
    let mut account = Account::new(
        at(0),
        Limits {
            boots_max: 10,
            chunks_max: 2,
        },
    );
    account.hear(&entry(boot(1), 0, started(None), 0));
    for seq in 0..20_000 {
        account.record(&numbered(boot(1), seq));
    }
    assert_eq!(
        account.hear(&entry(boot(1), 10, LedgerEvent::Heartbeat, 20_001)).len(),
        1
    );
    let report = only(&account);
    assert_eq!(
        report.missing,
        [Span {
            first: 20_000,
            last: 20_000
        }]
    );
    assert!(report.forgotten_below > 0, "{report:?}");
}

#[test]
fn a_boot_of_another_receiver_is_counted_and_left_out() {
    let mut account = Account::new(at(0), LIMITS);
    account.record(&numbered(boot(1), 0));
    let mut stranger = numbered(boot(1), 7);
    stranger.receiver = "receiver-2".into();
    account.record(&stranger);
    assert_eq!((account.strangers(), only(&account).last), (1, Some(0)));
}

#[test]
fn an_entry_with_the_largest_number_takes_no_time() {
    let mut account = Account::new(at(0), LIMITS);
    account.hear(&entry(boot(1), 0, started(None), 0));
    account.hear(&entry(boot(1), 1, LedgerEvent::Heartbeat, u64::MAX));
    account.record(&numbered(boot(1), u64::MAX));
    assert_eq!(only(&account).missing_records, u64::MAX);
}

#[test]
fn a_record_is_numbered_whatever_else_it_holds() {
    let record = Numbered::decode(
        br#"{"body":{"seq":9},"boot":"00000000-0000-0000-0000-000000000001","receiver":"a\u00e9","seq":4,"id":"x"}"#,
    );
    let record = record.expect("numbered");
    assert_eq!((record.receiver.as_ref(), record.boot, record.seq), ("aé", boot(1), 4));
    assert!(Numbered::decode(b"{}").is_err());
}
