//! The laws of the worker, one sentence each.

mod conditions;
mod detector;
mod mistakes;
mod records;
mod restart;
mod rule_tests;
