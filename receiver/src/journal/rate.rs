use std::time::Duration;

/// Long enough that one burst is no trend, short enough that a morning's rise shows within minutes.
const SMOOTHED_OVER: Duration = Duration::from_secs(60);
/// Less than that is the rest of traffic that has ended.
const LEAST: f64 = 1.0;

/// Bytes a second, smoothed exponentially. Pure: time comes in with the bytes.
#[derive(Debug, Default)]
pub(super) struct Rate {
    smoothed: f64,
    /// How much of the smoothing is made of what was seen, and not of the zero at the start.
    seen: f64,
}

impl Rate {
    /// So many bytes came in the last `elapsed`.
    pub(super) fn observe(&mut self, bytes: u64, elapsed: Duration) {
        if elapsed.is_zero() {
            return;
        }
        let share = 1.0 - (-elapsed.as_secs_f64() / SMOOTHED_OVER.as_secs_f64()).exp();
        self.smoothed += share * (bytes as f64 / elapsed.as_secs_f64() - self.smoothed);
        self.seen += share * (1.0 - self.seen);
    }

    /// 0 while nothing comes.
    pub(super) fn per_second(&self) -> f64 {
        let rate = if self.seen > 0.0 {
            self.smoothed / self.seen
        } else {
            0.0
        };
        if rate < LEAST { 0.0 } else { rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_steady_rate_is_told_from_the_first_second_on() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        for _ in 0..200 {
            rate.observe(5_000, SECOND);
            assert!((rate.per_second() - 5_000.0).abs() < 1e-6, "{rate:?}");
        }
    }

    #[test]
    fn a_burst_is_spread_over_a_minute_and_forgotten() {
        let mut rate = Rate::default();
        for _ in 0..600 {
            rate.observe(1_000, SECOND);
        }
        rate.observe(601_000, SECOND);
        assert!((9_000.0..12_000.0).contains(&rate.per_second()), "{rate:?}");
        for _ in 0..600 {
            rate.observe(1_000, SECOND);
        }
        assert!((999.0..1_001.0).contains(&rate.per_second()), "{rate:?}");
    }

    #[test]
    fn it_does_not_matter_how_often_one_looks() {
        let (mut often, mut seldom) = (Rate::default(), Rate::default());
        for _ in 0..100 {
            often.observe(100, SECOND / 10);
        }
        seldom.observe(10_000, SECOND * 10);
        assert!((often.per_second() - seldom.per_second()).abs() < 1e-6);
    }

    #[test]
    fn traffic_that_ended_is_no_rate() {
        let mut rate = Rate::default();
        rate.observe(10_000_000, SECOND);
        rate.observe(0, SECOND * 3_600);
        assert_eq!(rate.per_second(), 0.0);
    }
}
