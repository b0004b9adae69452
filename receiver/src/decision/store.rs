use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ipnet::IpNet;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use portcullis_schema::{AppId, Source, Subject, SubjectKind};

use super::held::Held;

/// The verdicts by subject. Found by a hash of app, kind and value, 16 bytes instead of a text of any length; the value
/// is kept beside it and compared, so two subjects of one hash are never taken for each other.
pub(super) struct Store {
    by_subject: Cache<u128, Arc<Entry>>,
    hashers: [RandomState; 2],
    /// How many subjects of each kind there are: a kind that nobody has a verdict about costs no look-up.
    kinds: [AtomicI64; SubjectKind::ALL.len()],
    /// How many prefixes of each length there are, of v4 and of v6.
    prefixes: Box<[[AtomicI64; 129]; 2]>,
    evicted: Arc<AtomicU64>,
}

/// What holds about one subject: at most one verdict of each source.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    app: AppId,
    subject: Subject,
    pub(super) moderator: Option<Held>,
    pub(super) rule: Option<Held>,
}

impl Entry {
    pub(super) fn new(app: AppId, subject: Subject) -> Self {
        Self {
            app,
            subject,
            moderator: None,
            rule: None,
        }
    }

    pub(super) fn of(&mut self, source: Source) -> &mut Option<Held> {
        match source {
            Source::Moderator => &mut self.moderator,
            Source::Rule => &mut self.rule,
        }
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn app(&self) -> AppId {
        self.app
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moderator.is_none() && self.rule.is_none()
    }

    fn is_of(&self, app: AppId, kind: SubjectKind, value: &str) -> bool {
        self.app == app && self.subject.kind() == kind && self.subject.value() == value
    }
}

impl Store {
    pub(super) fn new(subjects_max: u64) -> Self {
        let evicted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&evicted);
        let by_subject = Cache::builder()
            .max_capacity(subjects_max)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self {
            by_subject,
            hashers: [RandomState::new(), RandomState::new()],
            kinds: std::array::from_fn(|_| AtomicI64::new(0)),
            prefixes: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicI64::new(0)))),
            evicted,
        }
    }

    /// Whether anything may be known about subjects of that kind.
    pub(super) fn has(&self, kind: SubjectKind) -> bool {
        self.kinds[kind as usize].load(Ordering::Relaxed) > 0
    }

    pub(super) fn subjects(&self) -> u64 {
        self.by_subject.entry_count()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// The verdicts about exactly that subject, expired ones among them.
    pub(super) fn each_of(&self, app: AppId, kind: SubjectKind, value: &str, visit: &mut impl FnMut(&Held)) {
        if !self.has(kind) {
            return;
        }
        let Some(entry) = self.by_subject.get(&self.hash(app, kind, value)) else {
            return;
        };
        if entry.is_of(app, kind, value) {
            entry.moderator.iter().chain(&entry.rule).for_each(visit);
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

    /// For the keeper alone: there is one, so what it reads does not change before it writes.
    pub(super) fn entry(&self, app: AppId, subject: &Subject) -> Option<Arc<Entry>> {
        let entry = self.by_subject.get(&self.hash(app, subject.kind(), subject.value()))?;
        entry.is_of(app, subject.kind(), subject.value()).then_some(entry)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Arc<Entry>> + '_ {
        self.by_subject.iter().map(|(_, entry)| entry)
    }

    pub(super) fn entry_at(&self, hash: u128) -> Option<Arc<Entry>> {
        self.by_subject.get(&hash)
    }

    /// Replaces what holds about the subject; an empty entry is forgotten. Gives the hash that it is found by.
    pub(super) fn put(&self, entry: Entry) -> u128 {
        let hash = self.hash(entry.app, entry.subject.kind(), entry.subject.value());
        let known = self.by_subject.contains_key(&hash);
        if entry.is_empty() {
            if known {
                self.count(&entry.subject, -1);
                self.by_subject.invalidate(&hash);
            }
            return hash;
        }
        if !known {
            self.count(&entry.subject, 1);
        }
        self.by_subject.insert(hash, Arc::new(entry));
        hash
    }

    /// Lets the cache do its housekeeping here, on the keeper's time.
    pub(super) fn tidy(&self) {
        self.by_subject.run_pending_tasks();
    }

    /// An evicted subject stays counted: a count too high costs a look-up, one too low would miss a verdict.
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
