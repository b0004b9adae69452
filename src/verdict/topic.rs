//! The topic of verdicts, written to and read whole.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::{issue, lift};
