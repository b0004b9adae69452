use std::io;
use std::time::Duration;

use portcullis_receiver::Config;
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
    /// Why the file is refused, told once.
    refused: Option<String>,
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
            seen: running,
            refused: None,
        })
    }

    /// The next configuration that is another one and can be used.
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
            match read {
                Ok(settings) if settings.receiver != self.seen => {
                    self.refused = None;
                    self.seen = settings.receiver.clone();
                    return settings.receiver;
                }
                Ok(_) => {
                    self.refused = None;
                    if asked {
                        info!("configuration is as it was");
                    }
                }
                Err(failure) => self.refuse(&failure, asked),
            }
        }
    }

    fn refuse(&mut self, failure: &Failure, asked: bool) {
        let reason = failure.to_string();
        if asked || self.refused.as_ref() != Some(&reason) {
            error!(reason, "configuration is refused, the running one stays");
            self.refused = Some(reason);
        }
    }
}
