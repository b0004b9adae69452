//! What the tests stand on: the binary, a folder, a Kafka, and patience with an end.

mod binary;
mod folder;
mod kafka;
mod wait;

pub(crate) use binary::{Ended, Portcullis, Running};
pub(crate) use folder::Folder;
pub(crate) use kafka::Kafka;
pub(crate) use wait::{free_address, wait_until};
