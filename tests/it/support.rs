//! What the tests stand on: the binary, a folder, a Kafka, and patience with an end; and on top of them a whole
//! [`Site`], the [`Caller`] that plays Chat, and the [`Topic`] that tells what became of it.

mod admin;
mod aloud;
mod binary;
mod broker;
mod callback;
mod caller;
mod disk;
mod folder;
mod kafka;
mod process;
mod site;
mod tls;
mod topic;
mod wait;

pub(crate) use aloud::not_checked;
pub(crate) use binary::{Ended, Portcullis, Running};
use broker::Broker;
pub(crate) use callback::{APP, CREATE_TOPIC, Callback, TOKEN, head};
pub(crate) use caller::{Answer, Caller};
pub(crate) use disk::{SmallDisk, Tampered};
pub(crate) use folder::Folder;
pub(crate) use kafka::{EMBEDDED, Kafka, Outage};
pub(crate) use process::Process;
pub(crate) use site::Site;
pub(crate) use tls::{Authority, DAY, Http2, TlsCaller};
pub(crate) use topic::{Kept, Topic, publish, publish_at};
pub(crate) use wait::{PATIENCE, free_address, free_neighbours, wait_until};
