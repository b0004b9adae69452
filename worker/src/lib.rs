//! Reads the records, finds abuse, says so.
//!
//! The path of a record:
//!
//! 1. **Read.** The workers of a group share the partitions of `callbacks` and `signals`. Each follows its own with
//!    one thread (`stream.rs`), since a partition's order is what the windows rely on, and one core decodes and
//!    counts 100,000 records a second. A new partition begins where the windows begin that its commit tells of
//!    (`stream/partition.rs`), silently up to the commit.
//! 2. **Decode.** What is no record goes to `dead-letters` with the reason, and the stream goes on.
//! 3. **Observe.** [`Detector`] is the judgement, without clock and I/O: for each rule that the record concerns, by
//!    commands and condition, it counts the record under the rule's subject. Records lie by operator; for any other
//!    subject the record becomes a signal, and whoever owns the subject's partition of `signals` counts it there.
//! 4. **Find.** A count that reaches the rule's threshold within its window is a hit: a finding with its evidence, and
//!    a verdict where the rule is enforced.
//! 5. **Judge.** What needs the clock or the process (`stream/observer.rs`): the switch that stops all automatic
//!    verdicts, verdicts that would be over already, and the [`Brakes`]. A verdict that is held back is said in its
//!    finding.
//! 6. **Write.** Findings, then verdicts, and signals, until Kafka has acknowledged all of them (`stream/output.rs`).
//! 7. **Commit.** Then the offset follows, and never earlier. Whoever reads the same records again after a crash comes
//!    to the same findings with the same ids, since these are derived from the records.
//!
//! Beside it, one worker of the group reads all records once more and looks for holes in their sequences (`audit.rs`).
//!
//! Arrows run one way: `field <- condition <- rules <- detector <- {trial, stream} <- audit <- worker`.

mod audit;
mod condition;
mod config;
mod detector;
mod field;
mod metrics;
mod rules;
mod stream;
mod trial;
mod worker;

pub use condition::ConditionError;
pub use config::Config;
pub use detector::{BRAKE, BrakeChange, Brakes, Capacity, Detector, Hit, Observed, Standing};
pub use rules::{Rule, Rules};
pub use trial::TestOutcome;
pub use worker::{Drained, StartError, Worker};
