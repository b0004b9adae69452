//! Percentiles in bounded memory.

use std::time::Duration;

/// Buckets for each power of two: a percentile is told at most 1/64, 1.6 %, too high, never too low.
const STEPS: u64 = 64;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// 72 minutes in microseconds fit below 2^32; nothing is waited for that long.
const MICROS_MAX: u64 = u32::MAX as u64;
/// 1,728 counts, 14 KiB, however long it lasts.
const BUCKETS: usize = ((32 - STEPS_BITS + 1) * (STEPS as u32)) as usize;

/// How long answers took, counted in buckets of microseconds that widen with the time.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(MICROS_MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// The time in milliseconds within which `per_mille` of 1,000 answers came; `None` without an answer.
    pub(super) fn within(&self, per_mille: u64) -> Option<f64> {
        let rank = self.count.saturating_mul(per_mille).div_ceil(1_000).max(1);
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank {
                return Some(millis(highest_of(bucket).min(self.max)));
            }
        }
        None
    }

    /// The longest in milliseconds.
    pub(super) fn longest(&self) -> Option<f64> {
        (self.count > 0).then(|| millis(self.max))
    }
}

/// Each microsecond below 128 has its own bucket; above, the highest seven bits choose it.
fn bucket_of(micros: u64) -> usize {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(STEPS_BITS + 1);
    usize::try_from(u64::from(shift) * STEPS + (micros >> shift)).unwrap_or(usize::MAX)
}

fn highest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    ((bucket - shift * STEPS + 1) << shift) - 1
}

fn millis(micros: u64) -> f64 {
    // At most 2^32: exact.
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKETS, Latencies, MICROS_MAX, bucket_of, highest_of};

    #[test]
    fn buckets_follow_each_other_and_none_is_wider_than_a_64th() {
        assert_eq!(bucket_of(MICROS_MAX), BUCKETS - 1);
        let mut lowest = 0;
        for bucket in 0..BUCKETS {
            let highest = highest_of(bucket);
            assert_eq!((bucket_of(lowest), bucket_of(highest)), (bucket, bucket));
            assert!((highest - lowest) * 64 <= lowest, "{lowest} to {highest}");
            lowest = highest + 1;
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.within(500), None);
        // In any order: 1 ms to 1 s.
        for number in 0..1_000_u64 {
            latencies.add(Duration::from_millis(number * 7 % 1_000 + 1));
        }
        for (per_mille, exact) in [(500, 500.0), (900, 900.0), (990, 990.0), (999, 999.0)] {
            let told = latencies.within(per_mille).expect("answers");
            assert!((exact..exact * 1.016).contains(&told), "{per_mille}: {told}");
        }
        assert_eq!(latencies.longest(), Some(1_000.0));
        latencies.add(Duration::MAX);
        assert_eq!(latencies.within(1_000), latencies.longest());
    }
}
