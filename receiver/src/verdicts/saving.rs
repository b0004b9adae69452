use std::path::PathBuf;
use std::thread::JoinHandle;

use portcullis_schema::Timestamp;
use tracing::warn;

use super::snapshot::{self, Place};
use crate::decision::Decisions;

/// Writes snapshots on a thread of its own, one at a time: a million verdicts take a second, and no verdict that comes
/// meanwhile may wait for that.
#[derive(Default)]
pub(super) struct Saving(Option<JoinHandle<()>>);

impl Saving {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// `place`: where what is in force now ends.
    pub(super) fn begin(&mut self, path: PathBuf, place: Place, decisions: Decisions) {
        self.finish();
        let save = move || {
            if let Err(error) = snapshot::save(&path, place, Timestamp::now(), &decisions) {
                warn!(file = %path.display(), %error, "verdict snapshot cannot be written, a restart reads the whole topic");
            }
        };
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(save);
        self.0 = thread
            .inspect_err(|error| warn!(%error, "verdict snapshot cannot be written, the system gives no thread"))
            .ok();
    }

    /// Waits for the one that is being written. A panic in it has been printed, and the former snapshot stays.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}
