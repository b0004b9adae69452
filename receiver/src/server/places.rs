//! Who holds a connection, what happens on it, and who must leave.
//!
//! Places are few ([`super::Server`]'s `connections_max`), and a caller that holds one without calling keeps Chat out. So
//! nobody is waited for longer than it can make sense: a head has [`HEAD_MAX`] from its first byte, an answer
//! [`TAKEN_WITHIN`] to be read. Silent connections are welcome for long, since Chat keeps its own; but when no place is left,
//! those leave that are silent, or in the middle of a head that Chat would not wait for, the longest: as in a drain, never
//! one that a request has come in on.
//!
//! Time is counted in looks ([`LOOK_EVERY`]): nobody is ended earlier than said, and at most two looks later. A callback
//! passes four stages, which then cost no clock and no timer; and a receiver that stood still itself blames nobody for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Until;

/// Chat waits 2 s for the whole of a callback: whose head takes longer is answered for nobody.
const CHAT_WAITS: Duration = Duration::from_secs(2);
/// From one request to the beginning of the next one. Long, because Chat keeps connections and never repeats a callback:
/// one that meets a closing connection passes unseen.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// A line or a machine that is that slow is a trickle on purpose.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// An answer of 60 bytes fits into the kernel's buffer at once. Only who sends without ever reading gets here.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked who must leave: a walk over 10,000 places takes some 0.1 ms.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// When no place is left, this share of all leaves at once, so that a rush of newcomers does not look for each.
const LEAVING_SHARE: usize = 64;
/// Below this share of the places, in tenths, the rush is over.
const CALM_TENTHS: usize = 9;

/// What happens on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Nothing has come that is not answered.
    Silent,
    /// A part of a head has come.
    Head,
    /// A request has come, and its answer is not made yet.
    Answering,
    /// An answer is on its way out.
    Writing,
}

/// One connection, as others see it.
#[derive(Debug)]
pub(super) struct Talk {
    looks: Looks,
    /// The stage in the lowest two bits, above it how many looks there had been when it began.
    stage: AtomicU64,
    /// Requests that are being answered at once, of a connection that can carry several.
    under_way: AtomicUsize,
    /// An [`Until`].
    told: AtomicU8,
    news: Notify,
}

/// How often it was looked who must leave: the clock of all talks. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(Arc<AtomicU64>);

/// Why a connection was ended by the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    SlowHead,
    SlowReader,
    Silent,
    Room,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    reason: &'static str,
}

/// All of them.
pub(super) struct Places {
    max: usize,
    looks: Looks,
    taken: Mutex<Taken>,
    open: Gauge,
    ended: Family<Ended, Counter>,
}

#[derive(Default)]
struct Taken {
    talks: HashMap<u64, Arc<Talk>>,
    next: u64,
    crowded: bool,
}

/// A place in use; given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) talk: Arc<Talk>,
}

impl Talk {
    pub(super) fn new(looks: Looks) -> Self {
        let talk = Self {
            looks,
            stage: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            told: AtomicU8::new(Until::Ended as u8),
            news: Notify::new(),
        };
        talk.enter(Stage::Silent);
        talk
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage
            .store(self.looks.count() << 2 | stage as u64, Ordering::Relaxed);
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage_and_looks().0
    }

    /// The stage, and how many looks there have been in it.
    fn stage_and_looks(&self) -> (Stage, u64) {
        let packed = self.stage.load(Ordering::Relaxed);
        let stage = match packed & 3 {
            0 => Stage::Silent,
            1 => Stage::Head,
            2 => Stage::Answering,
            _ => Stage::Writing,
        };
        (stage, self.looks.count().saturating_sub(packed >> 2))
    }

    /// One more of several requests at once is being answered.
    pub(super) fn one_more(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.enter(Stage::Answering);
    }

    /// One less is.
    pub(super) fn one_less(&self) {
        if self.under_way.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Stage::Silent);
        }
    }

    pub(super) fn tell(&self, until: Until) {
        self.told.fetch_max(until as u8, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Returns when it was told that, or more.
    pub(super) async fn was_told(&self, at_least: Until) -> Until {
        loop {
            let told = self.told();
            if told >= at_least {
                return told;
            }
            self.news.notified().await;
        }
    }

    fn told(&self) -> Until {
        let each = [Until::Ended, Until::Answered, Until::Quiet, Until::Cut];
        each[usize::from(self.told.load(Ordering::Relaxed)).min(each.len() - 1)]
    }

    /// Why it must leave, if it must.
    fn overdue(&self) -> Option<(Reason, Until)> {
        match self.stage_and_looks() {
            (Stage::Head, looks) if looks > looks_in(HEAD_MAX) => Some((Reason::SlowHead, Until::Cut)),
            (Stage::Writing, looks) if looks > looks_in(TAKEN_WITHIN) => Some((Reason::SlowReader, Until::Cut)),
            (Stage::Silent, looks) if looks > looks_in(SILENCE_MAX) => Some((Reason::Silent, Until::Quiet)),
            // A request has a deadline of its own.
            (Stage::Head | Stage::Writing | Stage::Silent | Stage::Answering, _) => None,
        }
    }
}

impl Looks {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Something that has lasted for more looks has lasted longer: the first of them may have come at once.
const fn looks_in(time: Duration) -> u64 {
    (time.as_millis() / LOOK_EVERY.as_millis()) as u64 // seconds, a few
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::SlowHead => "slow_head",
            Self::SlowReader => "slow_reader",
            Self::Silent => "silent",
            Self::Room => "room",
        }
    }
}

impl Places {
    pub(super) fn new(max: usize, registry: &mut Registry) -> Arc<Self> {
        let places = Self {
            max,
            looks: Looks::default(),
            taken: Mutex::default(),
            open: Gauge::default(),
            ended: Family::default(),
        };
        registry.register("receiver_connections", "Connections that are open", places.open.clone());
        registry.register(
            "receiver_connections_ended",
            "Connections that the receiver ended, by why: a slow head, an answer that nobody reads, silence, or no place for another one",
            places.ended.clone(),
        );
        Arc::new(places)
    }

    pub(super) fn take(self: &Arc<Self>) -> Place {
        let talk = Arc::new(Talk::new(self.looks.clone()));
        let mut taken = self.lock();
        let number = taken.next;
        taken.next += 1;
        taken.talks.insert(number, Arc::clone(&talk));
        drop(taken);
        self.open.inc();
        Place {
            places: Arc::clone(self),
            number,
            talk,
        }
    }

    /// Looks again and again who is overdue.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    fn look(&self) {
        self.looks.one_more();
        let mut taken = self.lock();
        for talk in taken.talks.values() {
            if let Some((reason, until)) = talk.overdue()
                && talk.told() < until
            {
                self.end(talk, reason, until);
            }
        }
        if taken.crowded && taken.talks.len() <= self.max * CALM_TENTHS / 10 {
            taken.crowded = false;
            info!(open = taken.talks.len(), "there is room for connections again");
        }
    }

    /// Has those leave that are silent the longest.
    pub(super) fn make_room(&self) {
        let mut taken = self.lock();
        if !std::mem::replace(&mut taken.crowded, true) {
            warn!(
                connections_max = self.max,
                "no place is left for another connection, those that are silent the longest are ended: raise receiver.connections_max if Chat needs more"
            );
        }
        let mut useless: Vec<_> = taken
            .talks
            .values()
            .filter(|talk| talk.told() == Until::Ended)
            .filter_map(|talk| match talk.stage_and_looks() {
                (Stage::Silent, looks) => Some((looks, Until::Quiet, talk)),
                (Stage::Head, looks) if looks > looks_in(CHAT_WAITS) => Some((looks, Until::Cut, talk)),
                (Stage::Head | Stage::Answering | Stage::Writing, _) => None,
            })
            .collect();
        let leaving = (self.max / LEAVING_SHARE).max(1).min(useless.len());
        if leaving == 0 {
            return;
        }
        useless.select_nth_unstable_by(leaving - 1, |(looks, ..), (other, ..)| other.cmp(looks));
        for (_, until, talk) in &useless[..leaving] {
            self.end(talk, Reason::Room, *until);
        }
    }

    fn end(&self, talk: &Talk, reason: Reason, until: Until) {
        talk.tell(until);
        self.ended.get_or_create(&Ended { reason: reason.name() }).inc();
    }

    /// Nothing in it is ever half changed.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().talks.remove(&self.number);
        self.places.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize) -> Arc<Places> {
        Places::new(max, &mut Registry::default())
    }

    fn told(places: &[Place]) -> Vec<Until> {
        places.iter().map(|place| place.talk.told()).collect()
    }

    fn look(places: &Places, times: u64) {
        (0..times).for_each(|_| places.look());
    }

    #[test]
    fn only_who_dawdles_is_ended() {
        let places = places(10);
        let taken: Vec<Place> = (0..4).map(|_| places.take()).collect();
        let stages = [Stage::Silent, Stage::Head, Stage::Answering, Stage::Writing];
        for (place, stage) in taken.iter().zip(stages) {
            place.talk.enter(stage);
        }
        // The first of so many looks may have come at once, so not all of the time is over.
        look(&places, looks_in(HEAD_MAX));
        assert_eq!(told(&taken), [Until::Ended; 4]);
        look(&places, 1);
        assert_eq!(told(&taken), [Until::Ended, Until::Cut, Until::Ended, Until::Cut]);
        look(&places, looks_in(SILENCE_MAX - HEAD_MAX));
        assert_eq!(told(&taken), [Until::Quiet, Until::Cut, Until::Ended, Until::Cut]);
    }

    #[test]
    fn room_is_made_by_those_who_are_silent_the_longest() {
        let places = places(4);
        let taken: Vec<Place> = (0..4).map(|_| places.take()).collect();
        taken[0].talk.enter(Stage::Answering);
        for silent in [2, 3, 1] {
            look(&places, 4);
            taken[silent].talk.enter(Stage::Silent);
        }
        look(&places, 4);
        places.make_room();
        assert_eq!(told(&taken), [Until::Ended, Until::Ended, Until::Quiet, Until::Ended]);
        places.make_room();
        assert_eq!(told(&taken), [Until::Ended, Until::Ended, Until::Quiet, Until::Quiet]);
        places.make_room();
        places.make_room();
        assert_eq!(told(&taken)[0], Until::Ended, "nobody who is being answered");
        drop(taken);
        assert_eq!(places.open.get(), 0);
    }
}
