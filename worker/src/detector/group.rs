//! The rules that group by the same field, so that a subject is looked up once for all of them: with a million
//! subjects the look-up is what costs.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::{Signal, Timestamp, Uuid};

use super::LATENESS;
use super::capacity::Capacity;
use super::subjects::Subjects;
use super::window::Window;
use crate::field::Path;
use crate::rules::{Measure, Rule};

/// How many idle subjects are looked at for each observation: more than one is added at most, so the sweep keeps up,
/// and no record pays for a million of them.
const SWEPT_PER_OBSERVATION: usize = 2;

/// The windows of all subjects of one field.
pub(super) struct Group {
    by: Path,
    members: Vec<Member>,
    /// After this time without a record, in records' time, a subject's windows are empty.
    idle_max: Duration,
    subjects: Subjects<Tracked>,
    capacity: Arc<Capacity>,
    /// The key of the subject at hand, kept for its memory.
    key: String,
}

/// A rule of the group.
struct Member {
    rule: usize,
    measure: Measure,
    windows: usize,
}

/// What is known of a subject: a window for each rule of the group that has seen it.
struct Tracked {
    last_at: Timestamp,
    windows: Box<[Option<Window>]>,
}

/// An observation for one rule, named by its place in the group.
pub(super) struct Counted<'a> {
    pub(super) place: usize,
    pub(super) distinct: Option<&'a str>,
}

/// A hit of a rule, named by its place in the file.
pub(super) struct Crossing {
    pub(super) rule: usize,
    pub(super) evidence: Vec<Uuid>,
}

impl Group {
    pub(super) fn new(by: Path, capacity: Arc<Capacity>) -> Self {
        Self {
            by,
            members: Vec::new(),
            idle_max: Duration::ZERO,
            subjects: Subjects::default(),
            capacity,
            key: String::new(),
        }
    }

    pub(super) fn add(&mut self, index: usize, rule: &Rule) {
        let measure = rule.measure();
        self.idle_max = self.idle_max.max(measure.length + LATENESS);
        self.members.push(Member {
            rule: index,
            measure,
            windows: 0,
        });
    }

    pub(super) fn by(&self) -> &Path {
        &self.by
    }

    /// Their places in the file.
    pub(super) fn rules(&self) -> impl Iterator<Item = usize> {
        self.members.iter().map(|member| member.rule)
    }

    /// For each rule how many subjects have a window.
    pub(super) fn windows(&self) -> impl Iterator<Item = (usize, usize)> {
        self.members.iter().map(|member| (member.rule, member.windows))
    }

    pub(super) fn observe(&mut self, signal: &Signal, counted: &[Counted<'_>]) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        if counted.is_empty() {
            return crossings;
        }
        self.sweep(signal.at);
        let Self {
            members,
            subjects,
            capacity,
            key,
            ..
        } = self;
        key.clear();
        // Writing to a String cannot fail.
        let _ = write!(key, "{}/{}", signal.app, signal.subject.value);
        if subjects.touch(key).is_none() {
            let windows = members.iter().map(|_| None).collect();
            subjects.insert(
                key,
                Tracked {
                    last_at: signal.at,
                    windows,
                },
            );
            capacity.add(1, 0);
        }
        let Some(tracked) = subjects.touch(key) else {
            return crossings;
        };
        tracked.last_at = tracked.last_at.max(signal.at);
        for Counted { place, distinct } in counted {
            let (Some(member), Some(window)) = (members.get_mut(*place), tracked.windows.get_mut(*place)) else {
                continue;
            };
            let window = window.get_or_insert_with(|| {
                member.windows += 1;
                Window::new(&member.measure, signal.at)
            });
            let before = window.len();
            let evidence = window.observe(&member.measure, signal.at, signal.record, distinct.map(hash));
            capacity.add(0, window.len());
            capacity.give_back(0, before);
            crossings.extend(evidence.map(|evidence| Crossing {
                rule: member.rule,
                evidence,
            }));
        }
        self.make_room();
        crossings
    }

    /// Forgets subjects whose windows are over. By the time of the record at hand: a record from the future, of a
    /// receiver whose clock is wrong, costs two subjects and not all of them.
    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEPT_PER_OBSERVATION {
            let Some(oldest) = self.subjects.oldest() else { return };
            if now.since(oldest.last_at) > self.idle_max {
                self.forget_oldest();
            } else if oldest.last_at > now {
                // It was seen in that future: it must not stand before all others until then.
                self.subjects.pass_over_oldest();
            } else {
                return;
            }
        }
    }

    fn make_room(&mut self) {
        while self.capacity.is_exceeded() && self.subjects.len() > 1 {
            self.forget_oldest();
            self.capacity.count_eviction();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(tracked) = self.subjects.remove_oldest() else {
            return;
        };
        let mut observations = 0;
        for (member, window) in self.members.iter_mut().zip(&tracked.windows) {
            if let Some(window) = window {
                member.windows -= 1;
                observations += window.len();
            }
        }
        self.capacity.give_back(1, observations);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        while self.subjects.len() > 0 {
            self.forget_oldest();
        }
    }
}

/// 64 bits of SipHash with a fixed key. Two values that share one are counted once, and who wants two such names has
/// to try four thousand million of them.
fn hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value.as_bytes());
    hasher.finish()
}
