use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_schema::{AppId, SubjectKind, Timestamp, Verdict, VerdictKey};
use tracing::error;

use super::Decisions;
use super::held::Held;
use super::store::Entry;
use super::terms::Terms;

/// Terms in force at most. An automaton of this many is built in some 100 ms, on the keeper's thread.
const TERMS_MAX: usize = 100_000;
/// Texts kept for sharing. Rules and moderators have a few dozen; beyond this a text is kept once for each verdict.
const TEXTS_MAX: usize = 10_000;
/// Expired verdicts forgotten in one sweep, so that the next verdict does not wait for the sweeper: about 1 ms.
const SWEPT_MAX: usize = 1_000;

/// Puts verdicts in force. There is one, owned by whoever reads the topic.
pub struct Keeper {
    decisions: Decisions,
    texts: HashMap<Box<str>, Arc<str>>,
    expiries: BinaryHeap<Reverse<(Timestamp, u128)>>,
    terms: BTreeSet<(Box<str>, AppId)>,
    terms_changed: bool,
    terms_full: bool,
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
}

impl Keeper {
    pub(super) fn new(decisions: Decisions) -> Self {
        Self {
            decisions,
            texts: HashMap::new(),
            expiries: BinaryHeap::new(),
            terms: BTreeSet::new(),
            terms_changed: false,
            terms_full: false,
        }
    }

    /// Replaces what the verdict's source said of its subject. A term is in force after [`Keeper::settle`].
    pub fn put(&mut self, verdict: &Verdict, now: Timestamp) -> Kept {
        if verdict.is_expired(now) {
            self.lift(&verdict.key());
            return Kept::Expired;
        }
        if verdict.subject.kind() == SubjectKind::Term && !self.add_term(verdict) {
            return Kept::TermsFull;
        }
        let texts = &mut self.texts;
        let held = Held::new(verdict, |text| intern(texts, text));
        let mut entry = self.entry(verdict.app, &verdict.key());
        *entry.of(verdict.source) = Some(held);
        let hash = self.decisions.0.store.put(entry);
        if let Some(end) = verdict.expires_at {
            self.expiries.push(Reverse((end, hash)));
        }
        Kept::InForce
    }

    /// Forgets what the key's source said of its subject.
    pub fn lift(&mut self, key: &VerdictKey) {
        let mut entry = self.entry(key.app, key);
        if entry.of(key.source).take().is_some() {
            self.replace(entry);
        }
    }

    /// Makes a batch complete: the terms, then the offsets that decisions name, for each partition the next one.
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
    }

    /// Everything up to the end captured at start is in force: from now on "no verdict" is an answer.
    pub fn warm(&mut self) {
        self.decisions.0.warm.store(true, Ordering::Release);
    }

    /// Everything in force, as it came, less what only people read.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> + '_ {
        self.decisions.0.store.entries().flat_map(|entry| {
            let (app, subject) = (entry.app(), entry.subject().clone());
            let held: Vec<Verdict> = entry
                .moderator
                .iter()
                .chain(&entry.rule)
                .map(|held| held.to_verdict(app, subject.clone()))
                .collect();
            held
        })
    }

    /// Forgets some of what is over at `now`; whether more waits.
    pub fn sweep(&mut self, now: Timestamp) -> bool {
        for _ in 0..SWEPT_MAX {
            match self.expiries.peek() {
                Some(Reverse((end, _))) if *end <= now => {}
                _ => {
                    self.decisions.0.store.tidy();
                    return false;
                }
            }
            if let Some(Reverse((_, hash))) = self.expiries.pop()
                && let Some(entry) = self.decisions.0.store.entry_at(hash)
            {
                self.drop_expired(&entry, now);
            }
        }
        true
    }

    fn drop_expired(&mut self, entry: &Entry, now: Timestamp) {
        let mut left = entry.clone();
        left.moderator = left.moderator.filter(|held| !held.is_expired(now));
        left.rule = left.rule.filter(|held| !held.is_expired(now));
        // A newer verdict of the subject has an expiry of its own in the heap.
        if left.moderator != entry.moderator || left.rule != entry.rule {
            self.replace(left);
        }
    }

    fn replace(&mut self, entry: Entry) {
        if entry.is_empty() && entry.subject().kind() == SubjectKind::Term {
            self.terms.remove(&(entry.subject().value().into(), entry.app()));
            self.terms_changed = true;
            self.terms_full = false;
        }
        self.decisions.0.store.put(entry);
    }

    fn entry(&self, app: AppId, key: &VerdictKey) -> Entry {
        let known = self.decisions.0.store.entry(app, &key.subject);
        known.map_or_else(|| Entry::new(app, key.subject.clone()), |entry| (*entry).clone())
    }

    fn add_term(&mut self, verdict: &Verdict) -> bool {
        let term = (verdict.subject.value().into(), verdict.app);
        if self.terms.contains(&term) {
            return true;
        }
        if self.terms.len() >= TERMS_MAX {
            if !std::mem::replace(&mut self.terms_full, true) {
                error!(terms_max = TERMS_MAX, "no room for another term, lift some");
            }
            return false;
        }
        self.terms_changed = true;
        self.terms.insert(term)
    }
}

fn intern(texts: &mut HashMap<Box<str>, Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = texts.get(text) {
        return Arc::clone(known);
    }
    let shared: Arc<str> = text.into();
    if texts.len() < TEXTS_MAX {
        texts.insert(text.into(), Arc::clone(&shared));
    }
    shared
}
