//! System tests over the real binary, on librdkafka's own test cluster, or on a real Kafka where
//! `PORTCULLIS_TEST_KAFKA` names one (`tests/kafka/run --help`).

mod abuse;
mod answers;
mod arbitrary;
mod commands;
mod configuration;
mod crash;
mod disk;
mod image;
mod ladder;
mod ledger;
mod local;
mod malformed;
mod metrics;
mod outage;
mod processes;
mod reconcile;
mod recovery;
mod reload;
mod restarts;
mod rules;
mod simulate;
mod slow;
#[allow(dead_code)] // the campaign of faults uses the rest
mod support;
mod tls;
mod topics;
mod usage;
mod verdicts;
mod warm;
