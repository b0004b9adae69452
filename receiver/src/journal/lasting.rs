use std::fmt;

/// How long the journal still takes records at the present rate while Kafka takes none. As text it is for a person.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Lasting {
    seconds: f64,
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
/// Where a person must know: time to look at Kafka, and time to act at once.
const SHORT: f64 = HOUR;
const NEARLY_OVER: f64 = 10.0 * MINUTE;
/// Above a threshold by this factor it is better again, so that a rate that wavers says nothing.
const BETTER_BY: f64 = 1.25;

/// What was said last of how long the journal lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Warned {
    NearlyOver,
    Short,
    Not,
}

impl Lasting {
    /// Nothing comes, so it lasts for ever.
    pub(super) const FOR_EVER: Self = Self { seconds: f64::INFINITY };
    pub(super) const OVER: Self = Self { seconds: 0.0 };

    pub(super) fn new(free_bytes: u64, bytes_per_second: f64) -> Self {
        match (free_bytes, bytes_per_second) {
            (0, _) => Self::OVER,
            (_, 0.0) => Self::FOR_EVER,
            (free, rate) => Self {
                seconds: free as f64 / rate,
            },
        }
    }

    pub(super) fn of_seconds(seconds: f64) -> Self {
        Self { seconds }
    }

    /// Infinite while nothing comes.
    pub fn seconds(self) -> f64 {
        self.seconds
    }
}

impl fmt::Display for Lasting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            seconds if seconds < 2.0 * MINUTE => write!(formatter, "{seconds:.0} seconds"),
            seconds if seconds < 2.0 * HOUR => write!(formatter, "{:.0} minutes", seconds / MINUTE),
            seconds if seconds < 48.0 * HOUR => write!(formatter, "{:.0} hours", seconds / HOUR),
            seconds if seconds < 365.0 * 24.0 * HOUR => write!(formatter, "{:.0} days", seconds / HOUR / 24.0),
            _ => formatter.write_str("more than a year"),
        }
    }
}

impl Warned {
    /// What is to be said now.
    pub(super) fn then(self, lasting: Lasting) -> Self {
        let factor = |warned| if self <= warned { BETTER_BY } else { 1.0 };
        if lasting.seconds < NEARLY_OVER * factor(Self::NearlyOver) {
            Self::NearlyOver
        } else if lasting.seconds < SHORT * factor(Self::Short) {
            Self::Short
        } else {
            Self::Not
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_the_room_divided_by_the_rate() {
        assert_eq!(Lasting::new(7_200_000, 1_000.0).seconds(), 7_200.0);
        assert_eq!(Lasting::new(1, 0.0), Lasting::FOR_EVER);
        assert_eq!(Lasting::new(0, 1_000.0), Lasting::OVER);
        assert_eq!(Lasting::new(0, 0.0), Lasting::OVER, "what comes next has no room");
    }

    #[test]
    fn a_person_reads_a_unit_that_fits() {
        for (seconds, read) in [
            (0.0, "0 seconds"),
            (119.0, "119 seconds"),
            (600.0, "10 minutes"),
            (7_200.0, "2 hours"),
            (172_800.0, "2 days"),
            (f64::INFINITY, "more than a year"),
        ] {
            assert_eq!(Lasting::of_seconds(seconds).to_string(), read);
        }
    }

    #[test]
    fn each_threshold_is_said_once_and_what_is_better_only_when_it_is_clearly_so() {
        use Warned::{NearlyOver, Not, Short};
        let mut warned = Not;
        for (seconds, then) in [
            (3_700.0, Not),
            (3_500.0, Short),
            (3_700.0, Short),
            (500.0, NearlyOver),
            (700.0, NearlyOver),
            (800.0, Short),
            (599.0, NearlyOver),
            (4_400.0, Short),
            (4_600.0, Not),
            (100.0, NearlyOver),
            (f64::INFINITY, Not),
        ] {
            warned = warned.then(Lasting::of_seconds(seconds));
            assert_eq!(warned, then, "{seconds}");
        }
    }
}
