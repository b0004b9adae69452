//! What a connection was told, for who has no time to listen.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Until;

/// What was told, and how often anything was: where neither has changed, a listener has missed nothing.
///
/// What is told is there before it wakes anybody; whoever tells wakes afterwards.
#[derive(Debug)]
pub(super) struct Told(AtomicUsize);

/// A look at it: the order in the lowest two bits, above it how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News(usize);

impl Told {
    pub(super) fn new(until: Until) -> Self {
        Self(AtomicUsize::new(until as usize))
    }

    pub(super) fn tell(&self, until: Until) {
        self.change(|_| until);
    }

    /// Never takes back what was told before.
    pub(super) fn tell_at_least(&self, until: Until) {
        self.change(|before| before.max(until));
    }

    pub(super) fn news(&self) -> News {
        News(self.0.load(Ordering::Acquire))
    }

    fn change(&self, next: impl Fn(Until) -> Until) {
        let told = |before: usize| {
            let times = (before >> 2).wrapping_add(1);
            Some(times << 2 | next(News(before).until()) as usize)
        };
        let _ = self.0.fetch_update(Ordering::Release, Ordering::Relaxed, told); // `told` refuses nothing
    }
}

impl News {
    pub(super) fn until(self) -> Until {
        match self.0 & 3 {
            0 => Until::Ended,
            1 => Until::Answered,
            2 => Until::Quiet,
            _ => Until::Cut,
        }
    }
}
