use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Before a reader is taken to stand still: a client that is well has met the loss of its broker by then, within
/// `socket.timeout.ms`, and found the new leader.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where a new client does not get on either, the next one has to wait twice as long, up to this: the last offsets of a
/// partition may hold nothing that is ever delivered.
const PATIENCE_MAX: Duration = Duration::from_secs(1_280);
/// Without a look for so long, the time before does not count: the brokers told no ends, or the reader had other work.
const LOOK_GAP_MAX: Duration = Duration::from_secs(10);

/// Notices that nothing of a partition is read though the broker has more of it.
///
/// A client that has met the death of a broker may fetch no more of a partition and never say so: seen once in some
/// hundred brokers that were killed or frozen, with librdkafka 2.12.1. Only a new client gets on. What is compared comes
/// from two sides: the offset that the reader has reached, and the end that the broker tells over another connection.
///
/// Bounded by the number of partitions that were ever looked at.
#[derive(Debug)]
pub struct Standstill<P> {
    partitions: HashMap<P, Progress>,
    patience: Duration,
}

/// A partition as a reader has it, and as the broker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached<P> {
    /// Which partition.
    pub partition: P,
    /// The offset that the reader comes to next.
    pub next: i64,
    /// The offset behind the last message.
    pub end: i64,
}

#[derive(Debug)]
struct Progress {
    next: i64,
    /// A reader that begins anew further back gets on only when it passes this.
    highest: i64,
    moved: Instant,
    looked: Instant,
    patience: Duration,
}

impl<P> Default for Standstill<P> {
    fn default() -> Self {
        Self::after(PATIENCE)
    }
}

impl<P> Standstill<P> {
    /// Noticed after `patience` instead of the usual 20 s.
    pub fn after(patience: Duration) -> Self {
        Self {
            partitions: HashMap::new(),
            patience,
        }
    }
}

impl<P: Copy + Eq + Hash> Standstill<P> {
    /// Tells a partition for which a new client is due. To be called about once a second, with ends that were asked for
    /// within the last seconds; partitions of which none is known are left out.
    pub fn look(&mut self, now: Instant, reached: impl IntoIterator<Item = Reached<P>>) -> Option<Reached<P>> {
        let (mut still, patience) = (None, self.patience);
        for reached in reached {
            let progress = self
                .partitions
                .entry(reached.partition)
                .or_insert_with(|| Progress::begin(now, reached.next, patience));
            if progress.stands_still(now, reached, patience) {
                still = still.or(Some(reached));
            }
        }
        still
    }
}

impl Progress {
    fn begin(now: Instant, next: i64, patience: Duration) -> Self {
        Self {
            next,
            highest: next,
            moved: now,
            looked: now,
            patience,
        }
    }

    fn stands_still<P>(&mut self, now: Instant, reached: Reached<P>, first: Duration) -> bool {
        let Reached { next, end, .. } = reached;
        let gap = now.saturating_duration_since(self.looked);
        self.looked = now;
        if next > self.highest || next >= end {
            self.patience = first;
        }
        if next != self.next || next >= end || gap > LOOK_GAP_MAX {
            self.moved = now;
        }
        self.next = next;
        self.highest = self.highest.max(next);
        let still = now.saturating_duration_since(self.moved) >= self.patience;
        if still {
            self.moved = now;
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        still
    }
}

#[cfg(test)]
mod tests {
    use super::{Reached, Standstill};
    use std::time::{Duration, Instant};

    const NEVER: [u64; 0] = [];

    /// Looks each second; the seconds at which a new client was due.
    fn due(seconds: u64, next_and_end: impl Fn(u64) -> Option<(i64, i64)>) -> Vec<u64> {
        let (began, mut standstill) = (Instant::now(), Standstill::default());
        let mut due = Vec::new();
        for second in 0..seconds {
            let reached = next_and_end(second).map(|(next, end)| Reached {
                partition: 7,
                next,
                end,
            });
            if standstill.look(began + Duration::from_secs(second), reached).is_some() {
                due.push(second);
            }
        }
        due
    }

    #[test]
    fn a_reader_stands_still_when_there_is_more_and_nothing_comes() {
        assert_eq!(due(21, |_| Some((5, 9))), [20]);
        assert_eq!(due(60, |_| Some((9, 9))), NEVER, "at the end there is nothing to come");
        let slow = |second| Some((i64::try_from(second / 10).unwrap_or(0), 1_000));
        assert_eq!(due(600, slow), NEVER, "a message in ten seconds is slow, and not still");
    }

    #[test]
    fn time_without_a_known_end_does_not_count() {
        let away = |second| (!(10..40).contains(&second)).then_some((5, 9));
        assert_eq!(due(70, away), [60]);
        let told_rarely = |second| (second % 4 == 0).then_some((5, 9));
        assert_eq!(due(24, told_rarely), [20]);
    }

    #[test]
    fn a_new_client_in_vain_is_followed_by_ever_fewer() {
        assert_eq!(due(400, |_| Some((5, 9))), [20, 60, 140, 300]);
        // One that reads its history again first, and comes no further, was in vain too.
        let again = |second| Some((if second == 21 { 2 } else { 5 }, 9));
        assert_eq!(due(70, again), [20, 62]);
        let got_on = |second| Some((if second < 25 { 5 } else { 6 }, 9));
        assert_eq!(due(50, got_on), [20, 45]);
    }

    #[test]
    fn each_partition_is_looked_at_by_itself() {
        let (began, mut standstill) = (Instant::now(), Standstill::default());
        let mut still = Vec::new();
        for second in 0..=20 {
            let busy = Reached {
                partition: 0,
                next: i64::try_from(second).unwrap_or(0),
                end: 1_000,
            };
            let stuck = Reached {
                partition: 1,
                next: 3,
                end: 4,
            };
            let now = began + Duration::from_secs(second);
            still.extend(standstill.look(now, [busy, stuck]));
        }
        let partitions: Vec<i32> = still.iter().map(|reached| reached.partition).collect();
        assert_eq!(partitions, [1]);
    }
}
