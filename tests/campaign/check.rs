use std::collections::BTreeMap;
use std::time::Duration;

use crate::book::Fate;
use crate::callers::{Callers, receiver_of};
use crate::plan::{Damage, RECEIVERS, Round, Target};
use crate::seen::Tally;
use crate::stage::Losses;

/// After crashes a record may be there again, with its id; one of a thousand is rare enough.
const REPEATS_PER_MILLE_MAX: u64 = 1;
/// Nobody reads more of one kind.
const TOLD_MAX: usize = 10;

/// What was played so far: each round, and how many callbacks each caller had posted when it began.
pub(crate) type Played = Vec<(Round, Vec<usize>)>;

/// What was answered against what is there.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) answered: u64,
    /// Past the reply's deadline, so that the record followed.
    pub(crate) late: u64,
    /// With a full disk.
    pub(crate) from_memory: u64,
    /// Of all that was answered.
    pub(crate) missing: u64,
    /// Of the late ones, where the receiver was killed right after it had answered.
    pub(crate) late_and_killed: u64,
    /// Of those from memory.
    pub(crate) memory_lost: u64,
    pub(crate) lost: u64,
    pub(crate) holes: u64,
    /// The longest time until an answer that was owed.
    pub(crate) slowest: Duration,
    /// Each is a promise that was not kept.
    pub(crate) broken: Vec<String>,
}

/// Compares everything so far; nothing may be under way.
pub(crate) fn compare(callers: &Callers, tally: &Tally, losses: &Losses, played: &Played) -> Findings {
    let mut findings = Findings::default();
    let mut memory_lost = [0; RECEIVERS];
    for (caller, page) in callers.pages().enumerate() {
        findings
            .broken
            .extend(page.broken.iter().map(|what| format!("answer: {what}")));
        findings.slowest = findings.slowest.max(page.slowest);
        let receiver = receiver_of(caller, RECEIVERS);
        for (number, fate) in page.fates().iter().enumerate() {
            findings.count(*fate);
            if *fate == Fate::Unanswered || tally.id(caller, number).is_some() {
                continue;
            }
            let round = played.iter().rposition(|(_, begins)| begins[caller] <= number);
            let killed = || round.is_some_and(|round| kills(&played[round].0, receiver));
            match fate {
                Fate::AnsweredFromMemory => memory_lost[receiver] += 1,
                Fate::AnsweredLate if killed() => findings.late_and_killed += 1,
                _ => {
                    findings.missing += 1;
                    if findings.missing <= TOLD_MAX as u64 {
                        let round = round.map_or(0, |round| round + 1);
                        findings.broken.push(format!(
                            "missing: callback {number} of caller {caller}, {fate:?} by receiver-{} in round {round}",
                            receiver + 1
                        ));
                    }
                }
            }
        }
    }
    findings.memory_lost = memory_lost.iter().sum();
    if findings.missing > TOLD_MAX as u64 {
        findings.broken.push(format!("missing: {} in all", findings.missing));
    }
    let strange = tally.strange.iter().map(|what| format!("topic: {what}"));
    findings.broken.extend(strange);
    for (index, memory_lost) in memory_lost.into_iter().enumerate() {
        findings.explain_holes(&format!("receiver-{}", index + 1), memory_lost, tally, losses);
    }
    findings
}

/// Tells when repeats are no longer rare. Only of a whole campaign: the first rounds of one are too few.
pub(crate) fn too_many_repeats(tally: &Tally) -> Option<String> {
    let Tally { records, repeats, .. } = tally;
    (repeats * 1_000 > records * REPEATS_PER_MILLE_MAX)
        .then(|| format!("repeats: {repeats} of {records} records are more than {REPEATS_PER_MILLE_MAX} of 1000"))
}

impl Findings {
    fn count(&mut self, fate: Fate) {
        self.answered += u64::from(fate != Fate::Unanswered);
        self.late += u64::from(fate == Fate::AnsweredLate);
        self.from_memory += u64::from(fate == Fate::AnsweredFromMemory);
    }

    /// Every hole is a counted loss, and every counted loss a hole.
    fn explain_holes(&mut self, receiver: &str, memory_lost: u64, tally: &Tally, losses: &Losses) {
        let none = BTreeMap::new();
        let lost_by_boot = losses.get(receiver).unwrap_or(&none);
        let lost: u64 = lost_by_boot.values().flat_map(BTreeMap::values).sum();
        let boots = tally.boots.iter().filter(|(_, boot)| boot.receiver == receiver);
        let holes: u64 = boots.clone().map(|(_, boot)| boot.holes()).sum();
        if holes != lost {
            let torn = boots.filter(|(_, boot)| boot.holes() > 0).map(|(id, boot)| {
                let (holes, end, first) = (boot.holes(), boot.end, boot.first_hole());
                format!("boot {id} misses {holes} below {end}, the first is {first:?}")
            });
            let torn: Vec<String> = torn.take(TOLD_MAX).collect();
            let what = format!("holes: {receiver} has {holes} and counted {lost} as lost: {torn:?}, {lost_by_boot:?}");
            self.broken.push(what);
        }
        if memory_lost > lost {
            let what =
                format!("missing: {memory_lost} that {receiver} answered from memory, and it counted {lost} as lost");
            self.broken.push(what);
        }
        self.holes += holes;
        self.lost += lost;
    }
}

fn kills(round: &Round, receiver: usize) -> bool {
    let killed = |damage| matches!(damage, Damage::Kill | Damage::FreezeAndKill);
    let mut faults = round.faults.iter();
    faults.any(|fault| fault.target == Target::Receiver(receiver) && killed(fault.damage))
}
