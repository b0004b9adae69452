//! The verdicts by subject: one writer, any number of readers that never wait.
//!
//! Why papaya and not moka, which the design names: measured side by side with a million verdicts of a rule
//! (`benches/decisions.rs`), moka takes its own lists and counters for each entry, lets a reader do its housekeeping, and
//! decides by itself whom to forget. papaya's readers take no lock, and its table grows in small steps beside them. What
//! must go when there is no room is known better here: the verdict that would end first, see [`super::Keeper`].

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ipnet::IpNet;
use papaya::HashMap;
use portcullis_schema::{AppId, Source, Subject, SubjectKind};

use super::held::Held;

/// Found by a hash of app, kind and value, 16 bytes instead of a text of any length; the value is kept beside it and
/// compared, so two subjects of one hash are never taken for each other.
pub(super) struct Store {
    by_subject: HashMap<u128, Entry, BuildHasherDefault<Hashed>>,
    hashers: [RandomState; 2],
    /// How many subjects of each kind there are: a kind that nobody has a verdict about costs no look-up.
    kinds: [AtomicI64; SubjectKind::ALL.len()],
    /// How many prefixes of each length there are, of v4 and of v6.
    prefixes: Box<[[AtomicI64; 129]; 2]>,
    subjects: AtomicU64,
}

/// What holds about one subject: at most one verdict of each source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    app: AppId,
    subject: Subject,
    first: Held,
    /// Of the other source; seldom there.
    second: Option<Box<Held>>,
}

impl Entry {
    pub(super) fn new(app: AppId, subject: Subject, held: Held) -> Self {
        Self {
            app,
            subject,
            first: held,
            second: None,
        }
    }

    /// Replaces the verdict of that source.
    pub(super) fn with(mut self, held: Held) -> Self {
        if self.first.ruling.source == held.ruling.source {
            self.first = held;
        } else {
            self.second = Some(Box::new(held));
        }
        self
    }

    /// Without those that `gone` names; `None` when nothing is left.
    pub(super) fn without(self, gone: impl Fn(&Held) -> bool) -> Option<Self> {
        let second = self.second.filter(|held| !gone(held));
        if !gone(&self.first) {
            return Some(Self { second, ..self });
        }
        second.map(|held| Self {
            first: *held,
            second: None,
            ..self
        })
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.first).chain(self.second.as_deref())
    }

    pub(super) fn of(&self, source: Source) -> Option<&Held> {
        self.held().find(|held| held.ruling.source == source)
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn app(&self) -> AppId {
        self.app
    }

    fn is_of(&self, app: AppId, kind: SubjectKind, value: &str) -> bool {
        self.app == app && self.subject.kind() == kind && self.subject.value() == value
    }
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            by_subject: HashMap::with_hasher(BuildHasherDefault::default()),
            hashers: [RandomState::new(), RandomState::new()],
            kinds: std::array::from_fn(|_| AtomicI64::new(0)),
            prefixes: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicI64::new(0)))),
            subjects: AtomicU64::new(0),
        }
    }

    /// Whether anything may be known about subjects of that kind.
    pub(super) fn has(&self, kind: SubjectKind) -> bool {
        self.kinds[kind as usize].load(Ordering::Relaxed) > 0
    }

    pub(super) fn subjects(&self) -> u64 {
        self.subjects.load(Ordering::Relaxed)
    }

    /// The verdicts about exactly that subject, expired ones among them.
    pub(super) fn each_of(&self, app: AppId, kind: SubjectKind, value: &str, visit: &mut impl FnMut(&Held)) {
        if !self.has(kind) {
            return;
        }
        let guard = self.by_subject.guard();
        if let Some(entry) = self.by_subject.get(&self.hash(app, kind, value), &guard)
            && entry.is_of(app, kind, value)
        {
            entry.held().for_each(visit);
        }
    }

    /// The verdicts about that address and every prefix around it, the longest first.
    pub(super) fn each_covering(&self, app: AppId, address: IpAddr, visit: &mut impl FnMut(&Held)) {
        if !self.has(SubjectKind::ClientIp) {
            return;
        }
        let whole = IpNet::from(address.to_canonical());
        let lengths = self.lengths_of(whole);
        for length in (0..=whole.max_prefix_len()).rev() {
            if lengths[usize::from(length)].load(Ordering::Relaxed) <= 0 {
                continue;
            }
            if let Ok(prefix) = IpNet::new(whole.addr(), length) {
                let subject = Subject::prefix(prefix.trunc());
                self.each_of(app, SubjectKind::ClientIp, subject.value(), visit);
            }
        }
    }

    /// What holds about the subject with that hash. For the keeper alone: there is one, so what it reads does not change
    /// before it writes.
    pub(super) fn entry(&self, hash: u128, app: AppId, subject: &Subject) -> Option<Entry> {
        let guard = self.by_subject.guard();
        let entry = self.by_subject.get(&hash, &guard)?;
        entry.is_of(app, subject.kind(), subject.value()).then(|| entry.clone())
    }

    pub(super) fn entry_at(&self, hash: u128) -> Option<Entry> {
        self.by_subject.get(&hash, &self.by_subject.guard()).cloned()
    }

    /// Each with its hash, as it is when it is come to: those that change meanwhile may be seen before or after.
    pub(super) fn each(&self, mut visit: impl FnMut(u128, &Entry)) {
        let guard = self.by_subject.guard();
        self.by_subject
            .iter(&guard)
            .for_each(|(hash, entry)| visit(*hash, entry));
    }

    /// Makes the table large enough for so many more at once.
    pub(super) fn reserve(&self, more: usize) {
        self.by_subject.reserve(more, &self.by_subject.guard());
    }

    /// Replaces what holds about the subject with that hash.
    pub(super) fn put(&self, hash: u128, entry: Entry) {
        // Counted first: a count too high costs a look-up, one too low would miss a verdict.
        self.count(&entry.subject, 1);
        let guard = self.by_subject.guard();
        match self.by_subject.insert(hash, entry, &guard) {
            None => {
                self.subjects.fetch_add(1, Ordering::Relaxed);
            }
            // The same subject, or another one of the same hash, which has to go.
            Some(former) => self.count(&former.subject, -1),
        }
    }

    /// Forgets the subject.
    pub(super) fn remove(&self, hash: u128) {
        let guard = self.by_subject.guard();
        if let Some(entry) = self.by_subject.remove(&hash, &guard) {
            self.subjects.fetch_sub(1, Ordering::Relaxed);
            self.count(&entry.subject, -1);
        }
    }

    pub(super) fn hash_of(&self, app: AppId, subject: &Subject) -> u128 {
        self.hash(app, subject.kind(), subject.value())
    }

    fn count(&self, subject: &Subject, change: i64) {
        self.kinds[subject.kind() as usize].fetch_add(change, Ordering::Relaxed);
        if let Some(net) = subject.addresses() {
            self.lengths_of(net)[usize::from(net.prefix_len())].fetch_add(change, Ordering::Relaxed);
        }
    }

    fn lengths_of(&self, net: IpNet) -> &[AtomicI64; 129] {
        &self.prefixes[usize::from(net.max_prefix_len() == 128)]
    }

    /// Two hashes under random keys: a caller cannot choose names that collide.
    fn hash(&self, app: AppId, kind: SubjectKind, value: &str) -> u128 {
        let halves = self
            .hashers
            .each_ref()
            .map(|hasher| u128::from(hasher.hash_one((app, kind, value))));
        halves[0] << 64 | halves[1]
    }
}

/// A key that is a hash already.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64; // one of its two halves
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
