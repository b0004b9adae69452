//! A disk that hangs. One is played by a pipe in the place of the file beside the journal: whoever opens it for writing
//! waits until somebody opens it for reading.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use portcullis_receiver::journal::{Append, AppendError, Journal, State, StoreError};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::scratch::{DEADLINE, Scratch, eventually, read_all, written};

/// Much less than a queue of 16 MiB holds; so many of them are more.
const ENTRY_BYTES: usize = 60 << 10;
const TOO_MANY: usize = 300;

/// Where the file of the positions would be.
struct Hanging(PathBuf);

impl Hanging {
    /// A journal whose writer hangs, behind its first block as a rule.
    fn journal(scratch: &Scratch) -> (Self, Journal) {
        let path = scratch.positions();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let empty = path.clone();
        // The start reads it, and must find an end.
        let writing = thread::spawn(move || drop(OpenOptions::new().write(true).open(empty).expect("opened")));
        let journal = scratch.open();
        writing.join().expect("it was read");
        drop(journal.append(b"first".to_vec()));
        eventually("it is slow", || journal.state() == State::Slow);
        (Self(path), journal)
    }

    /// Nobody waits for it any more, until what is returned is dropped.
    #[must_use]
    fn ends(&self) -> File {
        let both_ends = OpenOptions::new().read(true).write(true).open(&self.0);
        both_ends.expect("opened")
    }
}

fn overrun(journal: &Journal) -> Vec<Append> {
    let appends: Vec<Append> = (0..TOO_MANY).map(|_| journal.append(vec![7; ENTRY_BYTES])).collect();
    let refused = appends.last().and_then(Append::refusal);
    assert!(matches!(refused, Some(AppendError::Overrun { .. })), "{refused:?}");
    appends
}

#[test]
fn the_journal_is_slow_while_the_disk_hangs_wherever_its_writer_waits() {
    let scratch = Scratch::new();
    let (hanging, journal) = Hanging::journal(&scratch);
    let waits = journal.append(b"second".to_vec());
    assert!(journal.has_waiting());

    let _ended = hanging.ends();
    written(waits).expect("written");
    eventually("it is normal again", || journal.state() == State::Normal);
    journal.close();
}

#[test]
fn a_queue_that_overruns_while_the_disk_hangs_is_seen_until_it_has_room_again() {
    let scratch = Scratch::new();
    let (hanging, journal) = Hanging::journal(&scratch);
    let appends = overrun(&journal);
    assert_eq!(journal.state(), State::Overrun);
    let small = journal.append(b"there is room for a small one".to_vec());
    assert!(small.refusal().is_none() && journal.state() == State::Overrun);

    let _ended = hanging.ends();
    eventually("it is over", || journal.state() < State::Overrun);
    let mut kept: Vec<Append> = appends
        .into_iter()
        .filter(|append| append.refusal().is_none())
        .collect();
    kept.push(small);
    let expected = 1 + kept.len();
    for append in kept {
        written(append).expect("written");
    }
    assert_eq!(read_all(&journal, 0).len(), expected);
    journal.close();
}

#[test]
fn a_close_does_not_wait_for_a_disk_that_hangs_and_tells_each_entry_that_it_is_lost() {
    let scratch = Scratch::new();
    let (hanging, journal) = Hanging::journal(&scratch);
    let waiting: Vec<Append> = (0..10).map(|number| journal.append(vec![number])).collect();

    let began = Instant::now();
    journal.close();
    assert!(began.elapsed() < DEADLINE);

    for append in waiting {
        let told = written(append);
        let Err(AppendError::Broken(cause)) = told else {
            panic!("{told:?}");
        };
        assert!(matches!(*cause, StoreError::Hangs), "{cause}");
    }
    assert!(!journal.has_waiting());
    drop(hanging.ends());
}
