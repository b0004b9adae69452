//! Reads the records, finds abuse, says so.

mod condition;
mod config;
mod detector;
mod field;
mod rules;
mod worker;

pub use condition::ConditionError;
pub use config::Config;
pub use detector::{BRAKE, BrakeChange, Brakes, Capacity, Detector, Hit, Observed, Standing};
pub use rules::{Rule, Rules, TestOutcome};
pub use worker::{Drained, StartError, Worker};
