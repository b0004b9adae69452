//! Who holds a connection, what happens on it, and who must leave.
//!
//! Places are few ([`super::Server`]'s `connections_max`), and a caller that holds one without calling keeps Chat out. So
//! nobody is waited for longer than it can make sense: a head has [`HEAD_MAX`] from its first byte, an answer
//! [`TAKEN_WITHIN`] to be read. Silent connections are welcome for long, since Chat keeps its own; but when no place is left,
//! those leave that are silent, or in the middle of a head or an answer that Chat would not wait for, the longest: as in a
//! drain, never one that a request has come in on.
//!
//! A silent connection is asked first, and ends by itself as soon as nobody is owed an answer on it. Not everyone lets it:
//! half a TLS record may be the begin of a callback, an HTTP/2 caller may say nothing to the last ping. So who is still
//! there after a while, and still silent, is cut: [`GONE_WITHIN`] after it was asked when its place is wanted,
//! [`TAKEN_WITHIN`] when it is not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::{Instant, interval};
use tracing::{info, warn};

use super::told::{News, Told};
use super::{HEAD_TIMEOUT, Until};

/// Chat waits 2 s for the whole of a callback: whose head takes longer is answered for nobody.
const CHAT_WAITS: Duration = Duration::from_secs(2);
/// A line or a machine that is that slow is a trickle on purpose.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// An answer of 60 bytes fits into the kernel's buffer at once. Only who sends without ever reading gets here, or who
/// grants no byte for it in HTTP/2. As long for who was asked to end: it has only that left to read.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// To end after being asked takes a round trip. Short, because a caller who waits for the place is Chat, maybe, and needs
/// its answer within 2 s; what is sent meanwhile is there by then.
const GONE_WITHIN: Duration = Duration::from_secs(1);
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
    epoch: Instant,
    /// The stage in the lowest two bits, above it the milliseconds since `epoch` at which it began.
    stage: AtomicU64,
    told: Told,
    heard: Notify,
}

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
    epoch: Instant,
    taken: Mutex<Taken>,
    open: Gauge,
    ended: Family<Ended, Counter>,
}

#[derive(Default)]
struct Taken {
    seats: HashMap<u64, Seat>,
    next: u64,
    crowded: bool,
}

/// A place as those see it who look who must leave.
struct Seat {
    talk: Arc<Talk>,
    /// Why it has to end, and since when.
    ending: Option<(Reason, Instant)>,
}

/// A place in use; given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) talk: Arc<Talk>,
}

impl Talk {
    pub(super) fn new(epoch: Instant) -> Self {
        let talk = Self {
            epoch,
            stage: AtomicU64::new(0),
            told: Told::new(Until::Ended),
            heard: Notify::new(),
        };
        talk.enter(Stage::Silent);
        talk
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.enter_at(stage, Instant::now());
    }

    /// The stage has lasted since then.
    pub(super) fn enter_at(&self, stage: Stage, since: Instant) {
        let millis = since.saturating_duration_since(self.epoch).as_millis() as u64; // no process lives 500 million years
        self.stage.store(millis << 2 | stage as u64, Ordering::Relaxed);
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage_and_age(self.epoch).0
    }

    /// The stage, and for how long it has lasted at `now`.
    fn stage_and_age(&self, now: Instant) -> (Stage, Duration) {
        let packed = self.stage.load(Ordering::Relaxed);
        let stage = match packed & 3 {
            0 => Stage::Silent,
            1 => Stage::Head,
            2 => Stage::Answering,
            _ => Stage::Writing,
        };
        let began = self.epoch + Duration::from_millis(packed >> 2);
        (stage, now.saturating_duration_since(began))
    }

    pub(super) fn tell(&self, until: Until) {
        self.told.tell_at_least(until);
        self.heard.notify_one();
    }

    /// Returns when it was told that, or more.
    pub(super) async fn was_told(&self, at_least: Until) -> Until {
        loop {
            let told = self.told();
            if told >= at_least {
                return told;
            }
            self.heard.notified().await;
        }
    }

    fn told(&self) -> Until {
        self.told.news().until()
    }

    /// For who has no time for [`Talk::was_told`].
    pub(super) fn news(&self) -> News {
        self.told.news()
    }
}

impl Seat {
    /// Why it must leave, if it must.
    fn overdue(&self, now: Instant) -> Option<(Reason, Until)> {
        match self.talk.stage_and_age(now) {
            (Stage::Head, age) if age > HEAD_MAX => Some((Reason::SlowHead, Until::Cut)),
            (Stage::Writing, age) if age > TAKEN_WITHIN => Some((Reason::SlowReader, Until::Cut)),
            (Stage::Silent, age) => match self.ending {
                Some((reason, asked)) => (now > asked + TAKEN_WITHIN).then_some((reason, Until::Cut)),
                None => (age > HEAD_TIMEOUT).then_some((Reason::Silent, Until::Quiet)),
            },
            // A request has a deadline of its own.
            (Stage::Head | Stage::Writing | Stage::Answering, _) => None,
        }
    }

    /// What would make room, and how long it has been of no use.
    fn useless(&self, now: Instant) -> Option<(Until, Duration)> {
        match self.talk.stage_and_age(now) {
            (Stage::Head | Stage::Writing, age) if age > CHAT_WAITS => Some((Until::Cut, age)),
            (Stage::Silent, age) => match self.ending {
                Some((_, asked)) => (now > asked + GONE_WITHIN).then_some((Until::Cut, age)),
                None => Some((Until::Quiet, age)),
            },
            (Stage::Head | Stage::Answering | Stage::Writing, _) => None,
        }
    }

    fn end(&mut self, reason: Reason, until: Until, now: Instant) {
        self.ending = Some((reason, now));
        self.talk.tell(until);
    }
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
            epoch: Instant::now(),
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
        let talk = Arc::new(Talk::new(self.epoch));
        let mut taken = self.lock();
        let number = taken.next;
        taken.next += 1;
        let seat = Seat {
            talk: Arc::clone(&talk),
            ending: None,
        };
        taken.seats.insert(number, seat);
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
        loop {
            ticks.tick().await;
            self.end_overdue(Instant::now());
        }
    }

    fn end_overdue(&self, now: Instant) {
        let mut taken = self.lock();
        for seat in taken.seats.values_mut() {
            if let Some((reason, until)) = seat.overdue(now)
                && seat.talk.told() < until
            {
                seat.end(reason, until, now);
            }
        }
        if taken.crowded && taken.seats.len() <= self.max * CALM_TENTHS / 10 {
            taken.crowded = false;
            info!(open = taken.seats.len(), "there is room for connections again");
        }
    }

    /// Has those leave that are silent the longest.
    pub(super) fn make_room(&self) {
        self.make_room_at(Instant::now());
    }

    /// The same where a place is left, and no descriptor for it.
    pub(super) fn give_up_some(&self) {
        self.lock().give_up_some(Instant::now());
    }

    fn make_room_at(&self, now: Instant) {
        let mut taken = self.lock();
        if !std::mem::replace(&mut taken.crowded, true) {
            warn!(
                connections_max = self.max,
                "no place is left for another connection, those that are silent the longest are ended: raise receiver.connections_max if Chat needs more"
            );
        }
        taken.give_up_some(now);
    }

    /// Nothing in it is ever half changed.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn give_up_some(&mut self, now: Instant) {
        let share = (self.seats.len() / LEAVING_SHARE).max(1);
        let mut useless: Vec<_> = self
            .seats
            .values_mut()
            .filter(|seat| seat.talk.told() < Until::Cut)
            .filter_map(|seat| seat.useless(now).map(|(until, age)| (until, age, seat)))
            .collect();
        let leaving = share.min(useless.len());
        if leaving == 0 {
            return;
        }
        // Those that were asked already come before those that would have to be.
        useless.select_nth_unstable_by(leaving - 1, |one, other| (other.0, other.1).cmp(&(one.0, one.1)));
        for (until, _, seat) in &mut useless[..leaving] {
            seat.end(Reason::Room, *until, now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.places.lock().seats.remove(&self.number);
        if let Some((reason, _)) = left.and_then(|seat| seat.ending) {
            let ended = Ended { reason: reason.name() };
            self.places.ended.get_or_create(&ended).inc();
        }
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

    #[test]
    fn only_who_dawdles_is_ended() {
        let places = places(10);
        let taken: Vec<Place> = (0..4).map(|_| places.take()).collect();
        let stages = [Stage::Silent, Stage::Head, Stage::Answering, Stage::Writing];
        let began = Instant::now();
        for (place, stage) in taken.iter().zip(stages) {
            place.talk.enter_at(stage, began);
        }
        places.end_overdue(began + HEAD_MAX - LOOK_EVERY);
        assert_eq!(told(&taken), [Until::Ended; 4]);
        places.end_overdue(began + HEAD_MAX + LOOK_EVERY);
        assert_eq!(told(&taken), [Until::Ended, Until::Cut, Until::Ended, Until::Cut]);
        places.end_overdue(began + HEAD_TIMEOUT + LOOK_EVERY);
        assert_eq!(told(&taken), [Until::Quiet, Until::Cut, Until::Ended, Until::Cut]);
        places.end_overdue(began + HEAD_TIMEOUT + TAKEN_WITHIN);
        assert_eq!(told(&taken)[0], Until::Quiet, "it has time to end by itself");
        places.end_overdue(began + HEAD_TIMEOUT + TAKEN_WITHIN + 2 * LOOK_EVERY);
        assert_eq!(told(&taken)[0], Until::Cut);
        assert_eq!(told(&taken)[2], Until::Ended, "nobody who is being answered");
    }

    #[test]
    fn who_was_asked_to_end_and_is_silent_all_the_same_is_cut_when_its_place_is_wanted() {
        let places = places(1);
        let place = places.take();
        let asked = Instant::now() + Duration::from_secs(1);
        places.make_room_at(asked);
        places.make_room_at(asked + GONE_WITHIN);
        assert_eq!(place.talk.told(), Until::Quiet, "it has time to end by itself");
        // A callback that was on its way meanwhile is answered.
        let late = asked + 2 * GONE_WITHIN;
        for stage in [Stage::Head, Stage::Answering, Stage::Writing] {
            place.talk.enter_at(stage, late);
            places.make_room_at(late);
            assert_eq!(place.talk.told(), Until::Quiet, "{stage:?}");
        }
        place.talk.enter_at(Stage::Silent, late);
        places.make_room_at(late);
        assert_eq!(place.talk.told(), Until::Cut);
    }

    #[test]
    fn what_chat_does_not_wait_for_any_more_makes_room() {
        for stage in [Stage::Head, Stage::Writing] {
            let places = places(1);
            let place = places.take();
            let began = Instant::now();
            place.talk.enter_at(stage, began);
            places.make_room_at(began + CHAT_WAITS - LOOK_EVERY);
            assert_eq!(place.talk.told(), Until::Ended, "{stage:?}");
            places.make_room_at(began + CHAT_WAITS + LOOK_EVERY);
            assert_eq!(place.talk.told(), Until::Cut, "{stage:?}");
        }
    }

    #[test]
    fn who_is_counted_as_ended_is_gone() {
        let places = places(1);
        let place = places.take();
        places.make_room_at(Instant::now());
        let counted = || places.ended.get_or_create(&Ended { reason: "room" }).get();
        assert_eq!(counted(), 0, "told to, and still there");
        drop(place);
        assert_eq!(counted(), 1);
        drop(places.take());
        assert_eq!(counted(), 1, "it went by itself");
    }

    #[test]
    fn room_is_made_by_those_who_are_silent_the_longest() {
        let places = places(4);
        let began = Instant::now();
        let taken: Vec<Place> = (0..4).map(|_| places.take()).collect();
        let later = |seconds| began + Duration::from_secs(seconds);
        taken[0].talk.enter_at(Stage::Answering, later(0));
        taken[1].talk.enter_at(Stage::Silent, later(3));
        taken[2].talk.enter_at(Stage::Silent, later(1));
        taken[3].talk.enter_at(Stage::Silent, later(2));
        places.make_room_at(later(10));
        assert_eq!(told(&taken), [Until::Ended, Until::Ended, Until::Quiet, Until::Ended]);
        places.make_room_at(later(10));
        assert_eq!(told(&taken), [Until::Ended, Until::Ended, Until::Quiet, Until::Quiet]);
        places.make_room_at(later(10));
        places.make_room_at(later(10));
        assert_eq!(told(&taken)[0], Until::Ended, "nobody who is being answered");
        drop(taken);
        assert_eq!(places.open.get(), 0);
    }
}
