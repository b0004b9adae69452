use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// So many a second, and a burst of so many: for what a stranger can cause.
pub(crate) struct Budget {
    per_second: f64,
    burst: f64,
    left: Mutex<(f64, Instant)>,
}

impl Budget {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self {
            per_second: f64::from(per_second),
            burst,
            left: Mutex::new((burst, now)),
        }
    }

    /// Whether one more fits.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let regained = now.saturating_duration_since(left.1).as_secs_f64() * self.per_second;
        *left = ((left.0 + regained).min(self.burst), now.max(left.1));
        if left.0 < 1.0 {
            return false;
        }
        left.0 -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Budget;

    #[test]
    fn a_burst_fits_then_only_what_time_regains() {
        let start = Instant::now();
        let budget = Budget::new(10, 3, start);
        let taken = |at| {
            std::iter::repeat_with(|| budget.take(at))
                .take(10)
                .filter(|fits| *fits)
                .count()
        };
        assert_eq!(taken(start), 3);
        assert_eq!(taken(start + Duration::from_millis(250)), 2);
        assert_eq!(taken(start + Duration::from_secs(3_600)), 3);
    }
}
