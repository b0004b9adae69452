//! Work that nobody waits for gives way to answering.
//!
//! Where every core is busy, the system gives each thread that can run an equal share. Publishing an outage's backlog is
//! work for a whole core for a while, and so is filling files ahead; at an equal share, answers would wait for it.
//! With a higher nice value it gets what answering leaves, and where nothing is left still something: the journal is behind
//! it. The value holds for the thread that sets it and for those that it starts, which is how the threads of libraries
//! come by it.

use tracing::debug;

/// Kafka's client, and who feeds it: a tenth of a share each. Enough to keep up with one core that does nothing but answer,
/// measured: 2,000 of 700,000 records wait at the end. At 5, a third, several times as many answers take over 5 ms while a
/// backlog is published; at 19 a saturated core publishes next to nothing.
pub(crate) const PUBLISHING: i32 = 10;
/// The thread that makes the journal's segments ready: a thirtieth. It has the seconds in which one is filled.
pub(crate) const STORING: i32 = 15;

/// For the calling thread, and those it will start. A value may be raised by anyone.
pub(crate) fn give_way(nice: i32) {
    if let Err(error) = rustix::process::nice(nice) {
        debug!(%error, nice, "a thread keeps its priority");
    }
}
