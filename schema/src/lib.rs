//! The contracts of Portcullis.
//!
//! Two kinds of people write to a Portcullis process: other processes, through Kafka, and the operator, through a
//! file. Both contracts are here, as pure types without I/O, so that the receiver, the worker and the command line
//! read and write the same thing and depend on nothing but this crate.
//!
//! Through Kafka, in the order in which one callback causes them:
//!
//! 1. [`AuditRecord`]: what is kept of a callback, what was decided and why. Topic `callbacks`.
//! 2. [`Signal`]: what the worker re-keys, so that a count over another subject than the operator is whole.
//! 3. [`Finding`]: a rule's hit, enforced or shadow, with its evidence.
//! 4. [`Verdict`]: what was concluded about a [`Subject`]; every receiver keeps it in memory.
//! 5. [`LedgerEntry`]: what proves that nothing is missing between the records.
//!
//! All are JSON. Fields may be added and are ignored by those who do not know them; none changes its meaning.
//! `tests/golden/` holds one file of each kind for every shape that was ever written, and they are decoded for ever.
//!
//! [`account`] lays the last beside the first: which records are missing, and which are only late.
//!
//! From the operator: [`settings`] reads TOML and tells every mistake at once, with its line.

pub mod account;
pub mod headers;
pub mod id;
pub mod kafka;
pub mod settings;
pub mod text;
pub mod units;

mod app;
mod command;
mod finding;
mod ledger;
mod readiness;
mod record;
mod refusal;
mod signal;
mod standstill;
mod subject;
mod timestamp;
mod verdict;

pub use app::AppId;
pub use command::{Command, CommandKind};
pub use finding::{Finding, FindingSubject, Mode};
pub use ledger::{HEARTBEAT_EVERY, LedgerEntry, LedgerEvent};
pub use readiness::{Latch, Readiness};
pub use record::{AuditRecord, DecidedBy, Effect, RecordedDecision, Rung};
pub use refusal::{Codes, Refusal, Shape};
pub use signal::{Signal, SignalCount};
pub use standstill::{Reached, Standstill};
pub use subject::{Subject, SubjectError, SubjectKind};
pub use timestamp::{Timestamp, TimestampError};
pub use verdict::{Source, Verdict, VerdictError, VerdictKey};

/// Ids of records, findings and verdicts.
pub use uuid::Uuid;
