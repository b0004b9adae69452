use std::collections::VecDeque;

use portcullis_schema::account::{Account, Ending, Hole, Limits, Numbered, SLACK};
use portcullis_schema::{LedgerEntry, Timestamp, headers};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tracing::{debug, error};

use super::reading::{Offsets, Topic};

const LIMITS: Limits = Limits {
    // Receivers that start anew every few seconds for an hour; 0.5 MB.
    boots_max: 1_024,
    // 134 million records that wait for an entry, an hour of 37,000 a second or a day of 1,500; 18 MB.
    chunks_max: 1 << 15,
};
/// Entries that wait, of some 200 bytes: an hour of a hundred receivers is 36,000. Beyond, the oldest is left out: a
/// later one of its boot proves all that it would.
const WAITING_MAX: usize = 50_000;
/// An entry of a receiver has some hundred bytes.
const ENTRY_BYTES_MAX: usize = 4_096;
/// Ranges of one entry that are written to the log.
const RANGES_LOGGED: usize = 8;

/// What one auditor has seen, from when it began.
pub(super) struct Case {
    pub(super) account: Account,
    /// Read, in the order of the ledger; what is before them in the other topics is not known yet.
    fresh: VecDeque<LedgerEntry>,
    /// Proofs as soon as the other topics are read up to there.
    sealed: Option<(Vec<LedgerEntry>, Offsets)>,
}

impl Case {
    pub(super) fn new(from: Timestamp) -> Self {
        Self {
            account: Account::new(from.after(SLACK), LIMITS),
            fresh: VecDeque::new(),
            sealed: None,
        }
    }

    pub(super) fn take(&mut self, topic: Topic, message: &BorrowedMessage<'_>) {
        let json = message.payload().unwrap_or_default();
        let taken = match topic {
            // Whoever observes the record makes a dead letter of what cannot be read.
            Topic::Callbacks => Numbered::decode(json).map(|record| self.account.record(&record)),
            Topic::DeadLetters if was_read_before(message) => Ok(()),
            Topic::DeadLetters => Numbered::decode(json).map(|record| self.account.dead_letter(&record)),
            Topic::Ledger if json.len() > ENTRY_BYTES_MAX => Ok(()),
            Topic::Ledger => LedgerEntry::decode(json).map(|entry| self.wait(entry)),
        };
        if let Err(error) = taken {
            debug!(?topic, %error, "left out");
        }
    }

    /// When the receiver was last heard that is heard the least of those that go on: all before it is judged.
    pub(super) fn judged_until(&self) -> Option<Timestamp> {
        let boots = self.account.boots().into_iter();
        let heard = boots.filter_map(|boot| match boot.ending {
            Ending::Open { heard } => Some(heard),
            Ending::Unknown | Ending::Stopped { .. } | Ending::Followed { .. } => None,
        });
        heard.min()
    }

    /// Whether entries wait for the ends of the other topics to be asked for.
    pub(super) fn wants_ends(&self) -> bool {
        self.sealed.is_none() && !self.fresh.is_empty()
    }

    /// Whether there are entries that are no proof yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.sealed.is_some() || !self.fresh.is_empty()
    }

    /// `ends` were asked for after all entries that have been taken.
    pub(super) fn seal(&mut self, ends: Offsets) {
        self.sealed = Some((self.fresh.drain(..).collect(), ends));
    }

    /// Hears the entries that are proofs by now.
    pub(super) fn judge(&mut self, has_passed: impl FnOnce(&Offsets) -> bool) {
        let Some((entries, _)) = self.sealed.take_if(|(_, ends)| has_passed(ends)) else {
            return;
        };
        for entry in &entries {
            let holes = self.account.hear(entry);
            tell(entry, &holes);
        }
    }

    fn wait(&mut self, entry: LedgerEntry) {
        if self.fresh.len() >= WAITING_MAX {
            self.fresh.pop_front();
        }
        self.fresh.push_back(entry);
    }
}

/// What was read from a topic is in it.
fn was_read_before(message: &BorrowedMessage<'_>) -> bool {
    let mut headers = message.headers().into_iter().flat_map(Headers::iter);
    headers.any(|header| header.key == headers::DEAD_PARTITION)
}

fn tell(entry: &LedgerEntry, holes: &[Hole]) {
    for hole in holes.iter().take(RANGES_LOGGED) {
        error!(
            receiver = ?hole.receiver,
            boot = %hole.boot,
            records = %hole.span,
            lost = ?entry.lost,
            "records are missing, see portcullis reconcile"
        );
    }
    if let Some(more) = holes.len().checked_sub(RANGES_LOGGED).filter(|more| *more > 0) {
        error!(receiver = ?entry.receiver, more, "further ranges are missing, see portcullis reconcile");
    }
}
