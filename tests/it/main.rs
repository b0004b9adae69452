//! System tests over the real binary, on librdkafka's own test cluster, or on a real Kafka where
//! `PORTCULLIS_TEST_KAFKA` names one (`tests/kafka/run --help`).

mod configuration;
mod processes;
mod rules;
mod support;
mod topics;
mod usage;
mod verdicts;
