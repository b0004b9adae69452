//! Whether any callback of an app is authentic at all. A wrong clock or a changed token turns every one away with 403, and
//! Chat then lets every operation through: the gate stands open and looks as if nobody came. So it is said loudly.
//!
//! Each app has tokens of its own, so each is looked at by itself. An app without tokens takes everything, and tells
//! nothing about the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portcullis_schema::AppId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{error, info};

use crate::callback::Forged;
use crate::config::Tokens;

/// So many in a row, over at least so long, with none between that is authentic: a stranger who tries something while
/// Chat calls at all never comes that far.
const TURNED_AWAY_MIN: u32 = 5;
const TURNED_AWAY_FOR: Duration = Duration::from_secs(30);
/// The label of what names no app of ours.
const OTHER: &str = "other";

/// Counts for each signed app what is turned away since its last authentic callback. One for all requests.
pub(crate) struct Authenticity {
    apps: ArcSwap<BTreeMap<AppId, Arc<Watch>>>,
    /// Of requests that name no signed app.
    others: Watch,
    open: Family<App, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app: String,
}

/// Of one app. An authentic callback costs two loads.
struct Watch {
    app: String,
    /// Since the last forged one.
    authentic: AtomicBool,
    alarmed: AtomicBool,
    row: Mutex<Row>,
    open: Gauge,
}

/// Requests that were turned away, one after the other.
#[derive(Default)]
struct Row {
    since: Option<Instant>,
    count: u32,
}

impl Authenticity {
    pub(crate) fn new(apps: &BTreeMap<AppId, Tokens>, registry: &mut Registry) -> Self {
        let open = Family::default();
        registry.register(
            "receiver_gate_open",
            "1 while no callback of the app is authentic and all are turned away: Chat then lets everything through",
            open.clone(),
        );
        let authenticity = Self {
            apps: ArcSwap::default(),
            others: Watch::new(OTHER.to_owned(), &open),
            open,
        };
        authenticity.set_apps(apps);
        authenticity
    }

    /// Other apps from here on.
    pub(crate) fn set_apps(&self, apps: &BTreeMap<AppId, Tokens>) {
        let before = self.apps.load();
        let signed = apps.iter().filter(|(_, tokens)| !tokens.accepts_unsigned());
        let watched: BTreeMap<AppId, Arc<Watch>> = signed
            .map(|(app, _)| {
                let known = before.get(app).map(Arc::clone);
                (
                    *app,
                    known.unwrap_or_else(|| Arc::new(Watch::new(app.to_string(), &self.open))),
                )
            })
            .collect();
        for (app, watch) in before.iter().filter(|(app, _)| !watched.contains_key(app)) {
            self.open.remove(&App { app: watch.app.clone() });
            info!(%app, "app is not signed any more, or not configured");
        }
        self.apps.store(Arc::new(watched));
    }

    /// A callback of the app is taken.
    pub(crate) fn holds(&self, app: AppId) {
        if let Some(watch) = self.apps.load().get(&app) {
            watch.holds();
            self.others.holds();
        }
    }

    /// A request at `now` that names `app` is not from Chat; `ahead_seconds` is how far its time is ahead of this machine's
    /// clock.
    pub(crate) fn fails(&self, app: Option<AppId>, forged: &Forged, ahead_seconds: Option<i64>, now: Instant) {
        let apps = self.apps.load();
        let watch = app.and_then(|app| apps.get(&app)).map_or(&self.others, Arc::as_ref);
        watch.fails(forged, ahead_seconds, now);
    }
}

impl Watch {
    fn new(app: String, open: &Family<App, Gauge>) -> Self {
        let open = open.get_or_create(&App { app: app.clone() }).clone();
        Self {
            app,
            authentic: AtomicBool::new(false),
            alarmed: AtomicBool::new(false),
            row: Mutex::default(),
            open,
        }
    }

    fn holds(&self) {
        if !self.authentic.load(Ordering::Relaxed) {
            self.authentic.store(true, Ordering::Relaxed);
        }
        if self.alarmed.load(Ordering::Relaxed) && self.alarmed.swap(false, Ordering::Relaxed) {
            self.open.set(0);
            info!(app = self.app, "callbacks are authentic again");
        }
    }

    fn fails(&self, forged: &Forged, ahead_seconds: Option<i64>, now: Instant) {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if self.authentic.swap(false, Ordering::Relaxed) {
            *row = Row::default();
        }
        if row.add(now) && !self.alarmed.swap(true, Ordering::Relaxed) {
            self.open.set(1);
            let reason = advice(forged, ahead_seconds);
            error!(
                app = self.app,
                turned_away = row.count,
                reason,
                "the gate is open: no callback is authentic, all are answered 403, and Chat lets them through"
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
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use portcullis_schema::AppId;
    use prometheus_client::registry::Registry;

    use super::{App, Authenticity, OTHER, TURNED_AWAY_FOR, TURNED_AWAY_MIN, advice};
    use crate::callback::Forged;
    use crate::config::Tokens;

    const SIGNED: AppId = AppId(1);
    const ANOTHER: AppId = AppId(2);
    const UNSIGNED: AppId = AppId(3);

    fn apps(signed: &[AppId]) -> BTreeMap<AppId, Tokens> {
        let tokens = |app: &AppId| (*app, Tokens::new(vec!["token".to_owned()]));
        let unsigned = (UNSIGNED, Tokens::new(vec![]));
        signed.iter().map(tokens).chain([unsigned]).collect()
    }

    fn watching() -> Authenticity {
        Authenticity::new(&apps(&[SIGNED, ANOTHER]), &mut Registry::default())
    }

    fn is_open(authenticity: &Authenticity, app: &str) -> bool {
        let open = authenticity.open.get_or_create(&App { app: app.to_owned() });
        open.get() == 1
    }

    #[test]
    fn the_gate_is_said_to_be_open_only_when_nothing_authentic_came_for_long_enough() {
        let (authenticity, start) = (watching(), Instant::now());
        let fail = |at: Duration| {
            authenticity.fails(Some(SIGNED), &Forged::WrongSign, None, start + at);
            is_open(&authenticity, "1")
        };
        for _ in 0..10 * TURNED_AWAY_MIN {
            assert!(!fail(Duration::ZERO), "many at once are somebody's try");
        }
        authenticity.holds(SIGNED);
        assert!(!fail(TURNED_AWAY_FOR), "Chat called between them");
        for _ in 1..TURNED_AWAY_MIN {
            assert!(!fail(TURNED_AWAY_FOR));
        }
        assert!(fail(2 * TURNED_AWAY_FOR));
        authenticity.holds(SIGNED);
        assert!(!is_open(&authenticity, "1"));
    }

    #[test]
    fn callbacks_of_another_app_say_nothing_about_this_one() {
        let (authenticity, start) = (watching(), Instant::now());
        for turn in 0..=TURNED_AWAY_MIN {
            authenticity.holds(ANOTHER);
            authenticity.holds(UNSIGNED);
            let now = start + turn * TURNED_AWAY_FOR;
            authenticity.fails(Some(SIGNED), &Forged::WrongSign, None, now);
            authenticity.fails(Some(AppId(9)), &Forged::UnknownApp, None, now);
        }
        let open = ["1", "2", OTHER].map(|app| is_open(&authenticity, app));
        assert_eq!(
            open,
            [true, false, false],
            "a stranger's app is none that Chat calls for"
        );

        authenticity.set_apps(&apps(&[ANOTHER]));
        assert!(!is_open(&authenticity, "1"), "it is not configured any more");
    }

    #[test]
    fn an_app_that_was_forgotten_is_said_where_no_other_is_signed() {
        let authenticity = Authenticity::new(&apps(&[]), &mut Registry::default());
        for turn in 0..=TURNED_AWAY_MIN {
            authenticity.holds(UNSIGNED);
            let now = Instant::now() + turn * TURNED_AWAY_FOR;
            authenticity.fails(Some(AppId(9)), &Forged::UnknownApp, None, now);
        }
        assert!(is_open(&authenticity, OTHER));
    }

    #[test]
    fn the_advice_names_the_clock_and_how_wrong_it_is() {
        assert!(advice(&Forged::OutsideWindow, Some(-3_600)).contains("3600 s behind this machine's clock"));
        assert!(advice(&Forged::OutsideWindow, Some(3_600)).contains("3600 s ahead of"));
    }
}
