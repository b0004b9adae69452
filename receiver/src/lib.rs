//! Answers callbacks and records every one of them.
//!
//! One callback, seven steps, each a module that knows nothing of those behind it:
//!
//! 1. [`server`]: a connection within the limits, encrypted where [`tls`] is configured; its requests.
//! 2. [`callback`]: bytes and query become a [`callback::Callback`], or the request is turned away as not from Chat
//!    before its body is read. From here on every way ends in HTTP 200: Chat reads anything else as "let it through".
//! 3. [`decision`]: yes or no from memory, without a wait.
//! 4. [`record`]: what is kept of it, with its id and its place in the boot's dense sequence.
//! 5. [`journal`]: the record becomes durable together with those that wait beside it.
//! 6. [`reply`]: the decision in the command's own shape. Past the deadline it goes out before step 5 has ended.
//! 7. [`publisher`]: from the journal to Kafka, in order, trimmed when acknowledged.
//!
//! [`answer`] is steps 2 to 6 for one request. [`verdicts`] fills step 3's memory from Kafka, which is the only way
//! back: what a worker concludes of the records of step 7 arrives there. [`ledger`] says how far the sequence is, the
//! same way as the records; [`instance`] listens to it for another receiver of the same name. [`app`] starts and stops
//! all of it.
//!
//! What each promise rests on: the answer promise on steps 2 to 6 never waiting for Kafka, and for the disk only up
//! to the deadline; the record promise on step 5 standing before step 6, and on step 7 trimming only what Kafka has.

#![allow(rustdoc::private_intra_doc_links)] // the path goes through private modules, for who reads the source

mod answer;
mod app;
mod authenticity;
mod budget;
pub mod callback;
mod config;
mod consumer;
pub mod decision;
mod drain;
pub mod entry;
mod instance;
pub mod journal;
mod ledger;
pub mod loss;
mod metrics;
pub mod outcome;
mod overload;
mod patience;
mod priority;
pub mod publisher;
mod received;
pub mod record;
mod recording;
pub mod reply;
mod server;
mod tls;
mod verdicts;

pub use app::{Receiver, Reloaded, Remaining, StartError};
pub use config::{Config, Fallback, FallbackReply, StaleVerdicts, Tokens};
pub use drain::Drain;
pub use instance::Namesake;
pub use tls::{Certificate, Untimely};
