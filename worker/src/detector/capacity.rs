use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What the windows of a process may hold in all, so that its memory has a bound whoever the callers pretend to be.
///
/// Past it the subject that has been idle the longest is forgotten: an attacker with a million names forgets his own
/// oldest ones. Measured: a subject takes 270 bytes with its first observation and 60 for each that follows, so the
/// default takes 600 MB when it is full of both.
#[derive(Debug)]
pub struct Capacity {
    /// 1,000,000 by default: an app of Chat with that many users active within one window is a very large one.
    pub subjects_max: usize,
    /// 5,000,000 by default: five for each subject, or 500 full windows of the largest threshold.
    pub observations_max: usize,
    subjects: AtomicUsize,
    observations: AtomicUsize,
    evicted: AtomicU64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self::new(1_000_000, 5_000_000)
    }
}

impl Capacity {
    /// What the default takes when it is full of both, for people.
    pub const MEMORY: &str = "about 600 MB at most";

    /// With bounds of its own.
    pub fn new(subjects_max: usize, observations_max: usize) -> Self {
        Self {
            subjects_max,
            observations_max,
            subjects: AtomicUsize::new(0),
            observations: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// How many subjects are tracked.
    pub fn subjects(&self) -> usize {
        self.subjects.load(Ordering::Relaxed)
    }

    /// How many subjects were forgotten before their windows were over.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.subjects() > self.subjects_max || self.observations.load(Ordering::Relaxed) > self.observations_max
    }

    pub(super) fn add(&self, subjects: usize, observations: usize) {
        self.subjects.fetch_add(subjects, Ordering::Relaxed);
        self.observations.fetch_add(observations, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, subjects: usize, observations: usize) {
        self.subjects.fetch_sub(subjects, Ordering::Relaxed);
        self.observations.fetch_sub(observations, Ordering::Relaxed);
    }

    pub(super) fn count_eviction(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }
}
