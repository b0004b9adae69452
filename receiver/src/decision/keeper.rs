use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_schema::{AppId, Source, Subject, SubjectKind, Timestamp, Verdict, VerdictKey};
use tracing::{error, info, warn};

use super::Decisions;
use super::held::{Held, Ruling};
use super::store::{Entry, Hashed};
use super::terms::Terms;

/// Terms in force at most. An automaton of this many is built in some 100 ms, on the keeper's thread.
const TERMS_MAX: usize = 100_000;
/// Rulings kept for sharing. Rules and moderators have a few dozen; beyond this one is kept for each verdict.
pub(super) const RULINGS_MAX: usize = 10_000;
/// Expired verdicts forgotten in one sweep, so that the next verdict does not wait for the sweeper: about 1 ms.
const SWEPT_MAX: usize = 1_000;
/// Expiries of verdicts that were renewed or lifted stay until they come; with more of them than verdicts, and this many
/// beside, the list is made anew.
const STALE_EXPIRIES_MAX: usize = 10_000;
/// From this share of the room on it is said that there is little left, in tenths; below the other one it is over.
const CROWDED_TENTHS: u64 = 9;
const CALM_TENTHS: u64 = 8;

/// Puts verdicts in force. There is one, owned by whoever reads the topic.
///
/// When there is no room for another subject, the verdict that would end first goes, so that nothing that holds until it
/// is lifted ever has to. Where all hold so, the new one has no place.
pub struct Keeper {
    decisions: Decisions,
    rulings: HashSet<Arc<Ruling>>,
    /// How many may be made before those that are kept are looked through again: as many as were left by the last look, so
    /// that one costs no more than a look at one other, however many there are.
    look_after: usize,
    /// That of the verdict before; they come in runs.
    latest: Option<Arc<Ruling>>,
    expiries: BinaryHeap<Reverse<(Timestamp, [u64; 2])>>,
    terms: BTreeSet<(Box<str>, AppId)>,
    terms_changed: bool,
    terms_full: bool,
    crowded: bool,
    full: bool,
    anew: Option<Anew>,
}

/// What was put since [`Keeper::begin_anew`]: some 35 bytes a verdict, until [`Keeper::end_anew`].
#[derive(Default)]
struct Anew {
    moderators: Hashes,
    rules: Hashes,
    /// Something had to go, or had no place.
    crowded: bool,
}

/// Of subjects.
type Hashes = HashSet<u128, BuildHasherDefault<Hashed>>;

/// What [`Keeper::end_anew`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// How many are not in force any more.
    pub verdicts: u64,
    /// Whether there was room beside them for all that were put.
    pub had_room: bool,
}

/// What became of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in force.
    InForce,
    /// It was over before it came.
    Expired,
    /// There is no room for another term.
    TermsFull,
    /// There is no room for another subject, and none of those in memory has an end.
    Full,
}

impl Keeper {
    pub(super) fn new(decisions: Decisions) -> Self {
        Self {
            decisions,
            rulings: HashSet::new(),
            look_after: 0,
            latest: None,
            expiries: BinaryHeap::new(),
            terms: BTreeSet::new(),
            terms_changed: false,
            terms_full: false,
            crowded: false,
            full: false,
            anew: None,
        }
    }

    /// From here on everything is put again that shall hold. What is in memory holds as well, until
    /// [`Keeper::end_anew`].
    pub fn begin_anew(&mut self) {
        self.anew = Some(Anew::default());
    }

    /// Forgets what was not put since [`Keeper::begin_anew`].
    pub fn end_anew(&mut self) -> Forgotten {
        let Some(anew) = self.anew.take() else {
            return Forgotten {
                verdicts: 0,
                had_room: true,
            };
        };
        let mut gone = Vec::new();
        self.decisions.0.store.each(|hash, entry| {
            if entry.held().any(|held| !anew.has(hash, held)) {
                gone.push(hash);
            }
        });
        let mut verdicts = 0;
        for hash in gone {
            if let Some(entry) = self.decisions.0.store.entry_at(hash) {
                verdicts += entry.held().filter(|held| !anew.has(hash, held)).count() as u64;
                self.drop_where(hash, entry, |held| !anew.has(hash, held));
            }
        }
        Forgotten {
            verdicts,
            had_room: !anew.crowded,
        }
    }

    /// Replaces what the verdict's source said of its subject. A term is in force after [`Keeper::settle`].
    pub fn put(&mut self, verdict: &Verdict, now: Timestamp) -> Kept {
        if verdict.is_expired(now) {
            self.lift(&verdict.key());
            return Kept::Expired;
        }
        let ruling = self.ruling(verdict);
        let held = Held::new(verdict.id, verdict.expires_at, ruling);
        self.hold(verdict.app, verdict.subject.clone(), held)
    }

    /// So many are to come: room for them is made at once, as far as there may be any.
    pub(crate) fn expect(&mut self, verdicts: u64) {
        let verdicts = verdicts.min(self.decisions.0.subjects_max);
        self.decisions.0.store.reserve(usize::try_from(verdicts).unwrap_or(0));
    }

    /// The same for one that is known to hold, in the form that is kept.
    pub(crate) fn hold(&mut self, app: AppId, subject: Subject, held: Held) -> Kept {
        let hash = self.decisions.0.store.hash_of(app, &subject);
        let known = self.decisions.0.store.entry(hash, app, &subject);
        if known.is_none() && !self.has_room() {
            return Kept::Full;
        }
        if subject.kind() == SubjectKind::Term && !self.add_term(app, &subject) {
            return Kept::TermsFull;
        }
        if let Some(anew) = &mut self.anew {
            anew.of(held.ruling.source).insert(hash);
        }
        let end = held.expires_at();
        let entry = match known {
            Some(entry) => entry.with(held),
            None => Entry::new(app, subject, held),
        };
        self.decisions.0.store.put(hash, entry);
        if let Some(end) = end {
            self.expiries.push(Reverse((end, halves(hash))));
            self.forget_stale_expiries();
        }
        Kept::InForce
    }

    /// Forgets what the key's source said of its subject.
    pub fn lift(&mut self, key: &VerdictKey) {
        let hash = self.decisions.0.store.hash_of(key.app, &key.subject);
        if let Some(entry) = self.decisions.0.store.entry(hash, key.app, &key.subject)
            && entry.of(key.source).is_some()
        {
            self.drop_where(hash, entry, |held| held.ruling.source == key.source);
        }
    }

    /// Puts in force what was put or lifted since: the terms, and for each partition the next offset to be read.
    pub fn settle(&mut self, offsets: &[i64]) {
        if std::mem::take(&mut self.terms_changed) {
            match Terms::new(&self.terms) {
                Ok(terms) => self.decisions.0.terms.store(Arc::new(terms)),
                Err(error) => {
                    error!(%error, terms = self.terms.len(), "terms cannot be built, the former stay in force")
                }
            }
        }
        if **self.decisions.0.offsets.load() != offsets {
            self.decisions.0.offsets.store(Arc::new(offsets.to_vec()));
        }
        self.tell_room();
    }

    /// Everything up to the end captured at start is in force: from now on "no verdict" is an answer.
    pub fn warm(&mut self) {
        self.decisions.0.warm.store(true, Ordering::Release);
    }

    /// Forgets some of what is over at `now`; whether more waits.
    pub fn sweep(&mut self, now: Timestamp) -> bool {
        for _ in 0..SWEPT_MAX {
            match self.expiries.peek() {
                Some(Reverse((end, _))) if *end <= now => {}
                _ => return false,
            }
            if let Some(Reverse((_, hash))) = self.expiries.pop()
                && let hash = whole(hash)
                && let Some(entry) = self.decisions.0.store.entry_at(hash)
                // A newer verdict of the subject has an expiry of its own in the list.
                && entry.held().any(|held| held.is_expired(now))
            {
                self.drop_where(hash, entry, |held| held.is_expired(now));
            }
        }
        true
    }

    fn drop_where(&mut self, hash: u128, entry: Entry, gone: impl Fn(&Held) -> bool) {
        let store = &self.decisions.0.store;
        let (app, subject) = (entry.app(), entry.subject().clone());
        if let Some(left) = entry.without(gone) {
            store.put(hash, left);
            return;
        }
        store.remove(hash);
        if subject.kind() == SubjectKind::Term {
            self.terms.remove(&(subject.value().into(), app));
            self.terms_changed = true;
            self.terms_full = false;
        }
    }

    /// Makes room for one more subject where there is none.
    fn has_room(&mut self) -> bool {
        while self.decisions.0.store.subjects() >= self.decisions.0.subjects_max {
            self.was_crowded();
            let Some(Reverse((end, hash))) = self.expiries.pop() else {
                if !std::mem::replace(&mut self.full, true) {
                    error!(
                        verdicts_max = self.decisions.0.subjects_max,
                        "no room for another verdict, and none has an end: lift some, or raise receiver.decisions.verdicts_max"
                    );
                }
                return false;
            };
            let ends_then = |held: &Held| held.expires_at() == Some(end);
            let hash = whole(hash);
            if let Some(entry) = self.decisions.0.store.entry_at(hash)
                && entry.held().any(ends_then)
            {
                self.decisions.0.evicted.fetch_add(1, Ordering::Relaxed);
                self.drop_where(hash, entry, ends_then);
            }
        }
        true
    }

    fn was_crowded(&mut self) {
        if let Some(anew) = &mut self.anew {
            anew.crowded = true;
        }
    }

    /// Says once that there is little room, before anything has to go.
    fn tell_room(&mut self) {
        let (subjects, verdicts_max) = (self.decisions.subjects(), self.decisions.0.subjects_max);
        if !self.crowded && subjects >= verdicts_max / 10 * CROWDED_TENTHS {
            self.crowded = true;
            warn!(
                subjects,
                verdicts_max,
                "memory is nearly full of verdicts; at its bound those that end first are forgotten: raise receiver.decisions.verdicts_max"
            );
        } else if self.crowded && subjects < verdicts_max / 10 * CALM_TENTHS {
            (self.crowded, self.full) = (false, false);
            info!(subjects, verdicts_max, "there is room for verdicts again");
        }
    }

    fn forget_stale_expiries(&mut self) {
        let verdicts = usize::try_from(2 * self.decisions.subjects()).unwrap_or(usize::MAX);
        if self.expiries.len() < verdicts.saturating_add(STALE_EXPIRIES_MAX) {
            return;
        }
        let mut expiries = Vec::new();
        self.decisions.0.store.each(|hash, entry| {
            let ends = entry.held().filter_map(Held::expires_at);
            expiries.extend(ends.map(|end| Reverse((end, halves(hash)))));
        });
        self.expiries = expiries.into();
    }

    fn add_term(&mut self, app: AppId, subject: &Subject) -> bool {
        let term = (subject.value().into(), app);
        if self.terms.contains(&term) {
            return true;
        }
        if self.terms.len() >= TERMS_MAX {
            self.was_crowded();
            if !std::mem::replace(&mut self.terms_full, true) {
                error!(terms_max = TERMS_MAX, "no room for another term, lift some");
            }
            return false;
        }
        self.terms_changed = true;
        self.terms.insert(term)
    }

    /// What the verdict says, the same for all that say the same.
    fn ruling(&mut self, verdict: &Verdict) -> Arc<Ruling> {
        if let Some(latest) = self.latest.as_ref().filter(|latest| latest.is_of(verdict)) {
            return Arc::clone(latest);
        }
        let shared = self.share(Ruling::of(verdict));
        self.latest = Some(Arc::clone(&shared));
        shared
    }

    /// The one that is kept of those that are equal.
    pub(crate) fn share(&mut self, ruling: Ruling) -> Arc<Ruling> {
        if let Some(known) = self.rulings.get(&ruling) {
            return Arc::clone(known);
        }
        let shared = Arc::new(ruling);
        if self.rulings.len() >= RULINGS_MAX {
            if self.look_after > 0 {
                self.look_after -= 1;
                return shared;
            }
            self.rulings.retain(|ruling| Arc::strong_count(ruling) > 1);
            self.look_after = self.rulings.len();
        }
        if self.rulings.len() < RULINGS_MAX {
            self.rulings.insert(Arc::clone(&shared));
        }
        shared
    }
}

impl Anew {
    fn of(&mut self, source: Source) -> &mut Hashes {
        match source {
            Source::Moderator => &mut self.moderators,
            Source::Rule => &mut self.rules,
        }
    }

    fn has(&self, hash: u128, held: &Held) -> bool {
        match held.ruling.source {
            Source::Moderator => self.moderators.contains(&hash),
            Source::Rule => self.rules.contains(&hash),
        }
    }
}

/// As the list of expiries has it: in 24 bytes together with its time, where `u128` would make it 32.
fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
