//! The laws of the worker, one sentence each.

mod audit;
mod cluster;
mod conditions;
mod detector;
#[path = "../../../receiver/tests/it/front.rs"]
mod front;
mod mistakes;
mod records;
mod restart;
mod rule_tests;
mod stream;
