use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_schema::account::{BootReport, Ending};
use portcullis_schema::{HEARTBEAT_EVERY, Timestamp};

use super::count::Counted;
use super::words::{counted, grouped, rounded};
use crate::verdict::shell::visible;

/// Six heartbeats: none of them was only slow.
pub(super) const SILENT_AFTER: Duration = HEARTBEAT_EVERY.saturating_mul(6);

/// What holds, what does not, and what a person does about it: a sentence each.
pub(super) fn advice(counted_topics: &Counted, boots: &[BootReport], now: Timestamp) -> Vec<String> {
    let mut told = Vec::new();
    let missing = counted_topics.account.missing_records();
    let judged: Vec<&BootReport> = boots.iter().filter(|boot| boot.judged.is_some()).collect();
    match (missing, judged.is_empty()) {
        (0, true) => told.push(
            "Nothing can be proven: the ledger has no entry of a boot within what is kept. Receivers write one every \
             10 s; does one run, and does it reach Kafka?"
                .to_owned(),
        ),
        (0, false) => told.push(format!(
            "Nothing is missing: every record that the ledger tells of is in Kafka, {} of {}.",
            counted(checked(&judged), "record"),
            counted(judged.len() as u64, "boot"),
        )),
        _ => told.extend(missing_of_receivers(boots)),
    }
    told.extend(silent(boots, now));
    told.extend(late(boots, now));
    let repeats = counted_topics.account.repeats();
    if repeats > 0 {
        told.push(format!(
            "{} a record that is there already, with the same id, as a crash leaves behind: nothing to do.",
            match repeats {
                1 => "1 message repeats".to_owned(),
                _ => format!("{} messages repeat", grouped(repeats)),
            }
        ));
    }
    told.extend(left_out(counted_topics));
    told
}

/// Whether it should be heard of, and is not.
pub(super) fn is_silent(boot: &BootReport, now: Timestamp) -> bool {
    matches!(boot.ending, Ending::Open { heard } if now.since(heard) >= SILENT_AFTER)
}

fn checked(judged: &[&BootReport]) -> u64 {
    let ranges = judged.iter().filter_map(|boot| boot.judged);
    ranges.fold(0, |sum: u64, (base, floor)| sum.saturating_add(floor - base))
}

fn missing_of_receivers(boots: &[BootReport]) -> Vec<String> {
    let mut receivers: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for boot in boots {
        let (missing, lost) = receivers.entry(&boot.receiver).or_default();
        *missing = missing.saturating_add(boot.missing_records);
        *lost = lost.saturating_add(boot.lost_records());
    }
    receivers.retain(|_, (missing, _)| *missing > 0);
    let told = receivers.into_iter().map(|(receiver, (missing, lost))| {
        let explained = match lost {
            0 => "It counted none as lost. Look whether somebody deleted records or made the topic anew; if not, keep \
                  its data directory and its logs, and report it"
                .to_owned(),
            lost if lost >= missing => format!(
                "It counted {} as lost, for the reasons above: they are gone, and that cause is what to end",
                grouped(lost)
            ),
            lost => format!(
                "It counted only {} as lost, for the reasons above. Look whether somebody deleted the others or made the \
                 topic anew; if not, keep its data directory and its logs, and report it",
                grouped(lost)
            ),
        };
        let verb = if missing == 1 { "is" } else { "are" };
        let missing = counted(missing, "record");
        format!("MISSING: {missing} of {} {verb} in no topic. {explained}.", visible(receiver))
    });
    told.collect()
}

/// Of each receiver: the last boot may go on, those before it will not.
fn silent(boots: &[BootReport], now: Timestamp) -> Vec<String> {
    let mut receivers: BTreeMap<&str, Vec<&BootReport>> = BTreeMap::new();
    for boot in boots {
        receivers.entry(&boot.receiver).or_default().push(boot);
    }
    let mut told = Vec::new();
    for (receiver, boots) in receivers {
        let last = boots.iter().filter_map(|boot| boot.ending.moment()).max();
        let silent = boots.iter().filter(|boot| is_silent(boot, now));
        let (last, left): (Vec<&BootReport>, Vec<&BootReport>) = silent.partition(|boot| boot.ending.moment() == last);
        told.extend(last.into_iter().map(|boot| start_again(boot, now)));
        if !left.is_empty() {
            let left = counted(left.len() as u64, "former boot");
            told.push(format!(
                "{left} of {} ended without a word, and no later one went on with the journal: what was answered last \
                 may be in a data directory that is no longer used. Is it kept over a restart?",
                visible(receiver)
            ));
        }
    }
    told
}

/// Of the boots that are not silent.
fn late(boots: &[BootReport], now: Timestamp) -> Vec<String> {
    let records = |running: bool| {
        let boots = boots.iter().filter(|boot| !is_silent(boot, now));
        let boots = boots.filter(|boot| matches!(boot.ending, Ending::Open { .. }) == running);
        boots.fold(0, |sum: u64, boot| sum.saturating_add(boot.late_records))
    };
    let mut told = Vec::new();
    if records(true) > 0 {
        told.push(format!(
            "{} on the way, in journals of receivers that run: reconcile again in a minute.",
            are(records(true), "record")
        ));
    }
    if records(false) > 0 {
        told.push(format!(
            "{} late of boots that have ended, beyond what the ledger proves of them: look at receiver_lost_total of \
             the boots after them, and for a journal.set-aside-… in their data directories.",
            are(records(false), "record")
        ));
    }
    told
}

fn start_again(boot: &BootReport, now: Timestamp) -> String {
    let late = match boot.late_records {
        0 => String::new(),
        late => format!(" with {} late", counted(late, "record")),
    };
    let host = match boot.host.as_str() {
        "" => String::new(),
        host => format!(" on {}", visible(host)),
    };
    let silence = boot.ending.moment().map_or(Duration::ZERO, |heard| now.since(heard));
    format!(
        "{} has been silent for {}{late}: what it answered since then may be in its journal. Start it on its data \
         directory{host}; if it runs, look at its receiver_backlog_records.",
        visible(&boot.receiver),
        rounded(silence),
    )
}

fn left_out(counted_topics: &Counted) -> Vec<String> {
    let (forgotten, strangers) = (counted_topics.account.forgotten(), counted_topics.account.strangers());
    let sentences = [
        (
            forgotten.missing_records,
            "MISSING: records of boots for which there was no room",
            "Reconcile a shorter time with --from to see which.",
        ),
        (
            counted_topics.undecodable,
            "Messages in callbacks that cannot be read, and count as no record",
            "Who else writes to that topic?",
        ),
        (
            counted_topics.undecodable_entries,
            "Messages in the ledger that cannot be read, and prove nothing",
            "Is this portcullis older than a receiver?",
        ),
        (
            strangers,
            "Messages with the boot of another receiver, which are left out",
            "Was a data directory or a record copied?",
        ),
        (
            forgotten.boots,
            "Boots for which there was no room, and which are left out",
            "Reconcile a shorter time with --from.",
        ),
    ];
    let told = sentences.into_iter().filter(|(number, ..)| *number > 0);
    told.map(|(number, what, next)| format!("{what}: {}. {next}", grouped(number)))
        .collect()
}

fn are(number: u64, what: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", counted(number, what))
}
