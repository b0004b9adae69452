use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// One condition of being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latch {
    /// Whether it holds.
    pub ready: bool,
    /// Why it does or does not, for the person who reads `/ready`.
    pub reason: String,
}

/// The conditions under which a process may take traffic: ready when all of them hold. Cheap to clone; all clones are
/// the same one.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Latch>>>);

impl Readiness {
    /// The latch `name` holds.
    pub fn set(&self, name: &'static str, reason: impl Into<String>) {
        self.put(name, true, reason.into());
    }

    /// The latch `name` does not hold.
    pub fn unset(&self, name: &'static str, reason: impl Into<String>) {
        self.put(name, false, reason.into());
    }

    /// Whether every latch holds. Without a latch nothing was promised yet: not ready.
    pub fn is_ready(&self) -> bool {
        let latches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !latches.is_empty() && latches.values().all(|latch| latch.ready)
    }

    /// All latches by name.
    pub fn latches(&self) -> BTreeMap<&'static str, Latch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, name: &'static str, ready: bool, reason: String) {
        let mut latches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latches.insert(name, Latch { ready, reason });
    }
}
