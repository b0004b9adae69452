use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use portcullis_schema::{LedgerEntry, LedgerEvent, Timestamp, Uuid};

/// Boots remembered of others: the last half minute of a name has one, or some when it restarts in a loop.
const BOOTS_MAX: usize = 1_000;

/// A receiver of the same name that is not this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namesake {
    receiver: String,
    boot: Uuid,
    host: String,
    at: Timestamp,
}

impl fmt::Display for Namesake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            receiver,
            boot,
            host,
            at,
        } = self;
        let host = if host.is_empty() { "an unknown host" } else { host };
        write!(
            formatter,
            "a receiver named {receiver:?} runs on {} already (boot {boot}, last heard at {at})",
            host.escape_debug()
        )
    }
}

/// What the ledger tells of the boots of one name. Pure: time comes in with the entries.
#[derive(Debug)]
pub(crate) struct Namesakes {
    receiver: String,
    boot: Uuid,
    /// Boots that lived on this one's data: none of them can be alive.
    own: BTreeSet<Uuid>,
    /// Boots of others that have not ended.
    others: BTreeMap<Uuid, Namesake>,
    ended: BTreeSet<Uuid>,
}

impl Namesakes {
    pub(crate) fn new(receiver: String, boot: Uuid, former: impl Iterator<Item = Uuid>) -> Self {
        Self {
            receiver,
            boot,
            own: former.chain([boot]).collect(),
            others: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// An entry from before this start.
    pub(crate) fn recall(&mut self, entry: &LedgerEntry) {
        self.hear(entry);
    }

    /// An entry that came in after this start: the namesake that is alive, if it is one's.
    pub(crate) fn hear(&mut self, entry: &LedgerEntry) -> Option<Namesake> {
        if entry.receiver != self.receiver || self.own.contains(&entry.boot) {
            return None;
        }
        if self.others.len() + self.ended.len() >= BOOTS_MAX {
            self.others.clear();
            self.ended.clear();
        }
        match &entry.event {
            LedgerEvent::Stopped => return self.end(entry.boot),
            LedgerEvent::Started { former_boot, .. } => {
                former_boot.and_then(|former| self.end(former));
            }
            LedgerEvent::Heartbeat => {}
        }
        if self.ended.contains(&entry.boot) {
            return None;
        }
        let namesake = Namesake {
            receiver: entry.receiver.clone(),
            boot: entry.boot,
            host: entry.host.clone(),
            at: entry.at,
        };
        self.others.insert(entry.boot, namesake.clone());
        Some(namesake)
    }

    /// The last one that was heard within `alive_within` before `now` and has not ended.
    pub(crate) fn suspect(&self, now: Timestamp, alive_within: Duration) -> Option<&Namesake> {
        let heard = self.others.values().filter(|other| now.since(other.at) <= alive_within);
        heard.max_by_key(|other| other.at)
    }

    /// Whether this start is the later one: ids of boots sort by their moment.
    pub(crate) fn yields_to(&self, namesake: &Namesake) -> bool {
        namesake.boot < self.boot
    }

    fn end(&mut self, boot: Uuid) -> Option<Namesake> {
        self.others.remove(&boot);
        self.ended.insert(boot);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use portcullis_schema::{LedgerEntry, LedgerEvent, Timestamp, Uuid};

    use super::Namesakes;

    const ALIVE_WITHIN: Duration = Duration::from_secs(30);

    fn boot(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn entry(boot_number: u128, at: i64, event: LedgerEvent) -> LedgerEntry {
        LedgerEntry {
            receiver: "receiver-1".to_owned(),
            boot: boot(boot_number),
            at: second(at),
            event,
            next_seq: 0,
            host: "a".to_owned(),
            lost: BTreeMap::new(),
        }
    }

    fn started(former: Option<u128>) -> LedgerEvent {
        LedgerEvent::Started {
            former_boot: former.map(boot),
            former_next_seq: None,
        }
    }

    fn newcomer() -> Namesakes {
        Namesakes::new("receiver-1".to_owned(), boot(100), [boot(7)].into_iter())
    }

    #[test]
    fn a_boot_that_beats_and_never_lived_on_this_data_is_a_namesake() {
        let mut namesakes = newcomer();
        namesakes.recall(&entry(50, 95, LedgerEvent::Heartbeat));
        let suspect = namesakes.suspect(second(100), ALIVE_WITHIN).expect("suspected");
        assert!(suspect.to_string().contains(&boot(50).to_string()), "{suspect}");
        let alive = namesakes
            .hear(&entry(50, 105, LedgerEvent::Heartbeat))
            .expect("a namesake");
        assert!(namesakes.yields_to(&alive), "it was there before");
    }

    #[test]
    fn former_starts_on_this_data_and_ended_boots_are_nobody() {
        let mut namesakes = newcomer();
        namesakes.recall(&entry(7, 99, LedgerEvent::Heartbeat));
        namesakes.recall(&entry(50, 99, LedgerEvent::Heartbeat));
        namesakes.recall(&entry(51, 99, started(Some(50))));
        namesakes.recall(&entry(51, 99, LedgerEvent::Stopped));
        let mut of_another_name = entry(60, 99, LedgerEvent::Heartbeat);
        of_another_name.receiver = "receiver-2".to_owned();
        namesakes.recall(&of_another_name);
        assert_eq!(namesakes.suspect(second(100), ALIVE_WITHIN), None);
        assert_eq!(
            namesakes.hear(&entry(50, 101, LedgerEvent::Heartbeat)),
            None,
            "late, from its journal"
        );
    }

    #[test]
    fn a_boot_that_fell_silent_is_no_suspect_and_a_later_one_has_to_yield() {
        let mut namesakes = newcomer();
        namesakes.recall(&entry(50, 60, LedgerEvent::Heartbeat));
        assert_eq!(namesakes.suspect(second(100), ALIVE_WITHIN), None);
        let later = namesakes.hear(&entry(101, 101, started(None))).expect("a namesake");
        assert!(!namesakes.yields_to(&later));
    }
}
