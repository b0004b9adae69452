use std::io;
use std::time::Duration;

use portcullis_receiver::{Certificate, Config};
use portcullis_schema::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{error, info};

use crate::failure::Failure;
use crate::settings::File;

/// How often the configuration is read without being asked to: soon enough for a rotated token, at 0.1 ms a time.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Notices that the configuration has changed: on SIGHUP, or because what it reads is another one, the files that it
/// names included.
pub(super) struct Reloading {
    file: File,
    hangup: Signal,
    ticks: Interval,
    seen: Config,
    /// The pair in force; `None`: plain HTTP until the next start, whatever the file says.
    shown: Option<Certificate>,
    /// Why the file is refused, told once.
    refused: Option<String>,
    /// Why its certificate is, likewise.
    certificate_refused: Option<String>,
}

impl Reloading {
    /// Must be called within a tokio runtime.
    pub(super) fn of(file: File, running: Config) -> io::Result<Self> {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            file,
            hangup: signal(SignalKind::hangup())?,
            ticks,
            shown: running.tls.clone(),
            seen: running,
            refused: None,
            certificate_refused: None,
        })
    }

    /// The next configuration that is another one and can be used, as far as it can: a certificate that no caller
    /// believes leaves the running one where it is.
    pub(super) async fn changed(&mut self) -> Config {
        loop {
            let asked = tokio::select! {
                _ = self.hangup.recv() => true,
                _ = self.ticks.tick() => false,
            };
            let file = self.file.clone();
            // A disk that hangs must not hold a thread that answers.
            let Ok(read) = tokio::task::spawn_blocking(move || file.load_with_apps()).await else {
                continue;
            };
            let mut config = match read {
                Ok(settings) => settings.receiver,
                Err(failure) => {
                    self.refuse(&failure, asked);
                    continue;
                }
            };
            self.refused = None;
            self.keep_certificate(&mut config, asked);
            if config != self.seen {
                self.seen = config.clone();
                return config;
            }
            if asked && self.certificate_refused.is_none() {
                info!("configuration is as it was");
            }
        }
    }

    /// Looked at anew each time: a certificate that is to come is taken when its time has come, and any other one as
    /// good as the running one when that is over.
    fn keep_certificate(&mut self, config: &mut Config, asked: bool) {
        let before = self.certificate_refused.take();
        let (Some(shown), Some(next)) = (&mut self.shown, &config.tls) else {
            return;
        };
        let now = Timestamp::now();
        let (Err(untimely), Ok(())) = (next.check_time(now), shown.check_time(now)) else {
            *shown = next.clone();
            return;
        };
        let reason = format!("the one in {:?} {untimely}", next.chain_path().display().to_string());
        if asked || before.as_ref() != Some(&reason) {
            error!(reason, running_holds_until = %shown.holds_until(), "certificate is refused, the running one stays");
        }
        self.certificate_refused = Some(reason);
        config.tls = Some(shown.clone());
    }

    fn refuse(&mut self, failure: &Failure, asked: bool) {
        let reason = failure.to_string();
        if asked || self.refused.as_ref() != Some(&reason) {
            error!(reason, "configuration is refused, the running one stays");
            self.refused = Some(reason);
        }
    }
}
