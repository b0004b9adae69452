//! Whether any callback is authentic at all. A wrong clock or a changed token turns every callback away with 403, and Chat
//! then lets every operation through: the gate stands open and looks as if nobody came. So it is said loudly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{error, info};

use crate::callback::Forged;

/// So many in a row, over at least so long, with none between that is authentic: a stranger who tries something while
/// Chat calls at all never comes that far.
const TURNED_AWAY_MIN: u32 = 5;
const TURNED_AWAY_FOR: Duration = Duration::from_secs(30);

/// Counts what is turned away since the last authentic callback. One for all requests; an authentic one costs two loads.
pub(crate) struct Authenticity {
    /// Since the last forged one.
    authentic: AtomicBool,
    alarmed: AtomicBool,
    row: Mutex<Row>,
    gauge: Gauge,
}

/// Requests that were turned away, one after the other.
#[derive(Default)]
struct Row {
    since: Option<Instant>,
    count: u32,
}

impl Authenticity {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let gauge = Gauge::default();
        registry.register(
            "receiver_gate_open",
            "1 while no callback is authentic and all are turned away: Chat then lets everything through",
            gauge.clone(),
        );
        Self {
            authentic: AtomicBool::new(false),
            alarmed: AtomicBool::new(false),
            row: Mutex::default(),
            gauge,
        }
    }

    /// A callback is from Chat.
    pub(crate) fn holds(&self) {
        if !self.authentic.load(Ordering::Relaxed) {
            self.authentic.store(true, Ordering::Relaxed);
        }
        if self.alarmed.load(Ordering::Relaxed) && self.alarmed.swap(false, Ordering::Relaxed) {
            self.gauge.set(0);
            info!("callbacks are authentic again");
        }
    }

    /// A request at `now` is not; `ahead_seconds` is how far its time is ahead of this machine's clock.
    pub(crate) fn fails(&self, forged: &Forged, ahead_seconds: Option<i64>, now: Instant) {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if self.authentic.swap(false, Ordering::Relaxed) {
            *row = Row::default();
        }
        if row.add(now) && !self.alarmed.swap(true, Ordering::Relaxed) {
            self.gauge.set(1);
            let reason = advice(forged, ahead_seconds);
            error!(
                turned_away = row.count,
                reason, "the gate is open: no callback is authentic, all are answered 403, and Chat lets them through"
            );
        }
    }
}

impl Row {
    /// Whether that makes it long enough.
    fn add(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        self.count = self.count.saturating_add(1);
        self.count >= TURNED_AWAY_MIN && now.saturating_duration_since(since) >= TURNED_AWAY_FOR
    }
}

/// What the last one failed for, and what to do.
fn advice(forged: &Forged, ahead_seconds: Option<i64>) -> String {
    match (forged, ahead_seconds) {
        (Forged::OutsideWindow, Some(seconds)) if seconds < 0 => format!(
            "their RequestTime is {} s behind this machine's clock: set the clock right",
            seconds.unsigned_abs()
        ),
        (Forged::OutsideWindow, Some(seconds)) => {
            format!("their RequestTime is {seconds} s ahead of this machine's clock: set the clock right")
        }
        (Forged::OutsideWindow, None) => "their RequestTime is no number of seconds".to_owned(),
        (Forged::WrongSign, _) => {
            "no token matches their Sign: take the token of Chat's console into apps.tokens".to_owned()
        }
        (Forged::Unsigned, _) => {
            "they are not signed: switch authentication on in Chat's console, or set apps.tokens = []".to_owned()
        }
        (Forged::UnknownApp, _) => "their SdkAppid is not configured: add it to [[apps]]".to_owned(),
        (Forged::Repeated(parameter), _) => format!("their parameter {parameter} is repeated"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use prometheus_client::registry::Registry;

    use super::{Authenticity, TURNED_AWAY_FOR, TURNED_AWAY_MIN, advice};
    use crate::callback::Forged;

    #[test]
    fn the_gate_is_said_to_be_open_only_when_nothing_authentic_came_for_long_enough() {
        let (authenticity, start) = (Authenticity::new(&mut Registry::default()), Instant::now());
        let fail = |at: Duration| {
            authenticity.fails(&Forged::WrongSign, None, start + at);
            authenticity.gauge.get() == 1
        };
        for _ in 0..10 * TURNED_AWAY_MIN {
            assert!(!fail(Duration::ZERO), "many at once are somebody's try");
        }
        authenticity.holds();
        assert!(!fail(TURNED_AWAY_FOR), "Chat called between them");
        for _ in 1..TURNED_AWAY_MIN {
            assert!(!fail(TURNED_AWAY_FOR));
        }
        assert!(fail(2 * TURNED_AWAY_FOR));
        authenticity.holds();
        assert_eq!(authenticity.gauge.get(), 0);
    }

    #[test]
    fn the_advice_names_the_clock_and_how_wrong_it_is() {
        assert!(advice(&Forged::OutsideWindow, Some(-3_600)).contains("3600 s behind this machine's clock"));
        assert!(advice(&Forged::OutsideWindow, Some(3_600)).contains("3600 s ahead of"));
    }
}
