use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use portcullis_receiver::journal::{AppendError, State};

use crate::scratch::{Scratch, append_all, eventually, lost, noise, read_all, written};

/// So many entries of the history are trimmed.
const TRIMMED: u64 = 20;

/// A closed journal with blocks in several segments, and trimmed; and what was written to it.
fn journal_with_a_history() -> (Scratch, Vec<(u64, Vec<u8>)>) {
    let scratch = Scratch::with_bytes_max(32 << 20);
    let journal = scratch.open();
    let large = (0..80).map(|seed| noise(seed, 32 << 10));
    let small = (0..4).map(|seed| noise(seed, 500));
    let entries: Vec<_> = (0..).zip(large.chain(small)).collect();
    for group in entries.chunks(4) {
        append_all(&journal, group.iter().map(|(_, entry)| entry.clone()));
    }
    journal.trim(TRIMMED);
    eventually("the start is trimmed", || journal.first_position() == TRIMMED);
    journal.close();
    (scratch, entries)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("read") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.metadata().expect("metadata").len() > 0 {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn flip_byte(path: &Path, offset: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.read_exact(&mut byte).expect("read");
    file.seek(SeekFrom::Start(offset)).expect("seek");
    file.write_all(&[byte[0] ^ 0x55]).expect("write");
}

#[test]
fn one_flipped_byte_anywhere_neither_stops_the_journal_nor_loses_an_entry_uncounted() {
    let (scratch, entries) = journal_with_a_history();
    let (mut holes, mut cut, mut again) = (0, 0, 0);
    for (number, path) in files(&scratch.path()).into_iter().enumerate() {
        let length = path.metadata().expect("metadata").len();
        // The start, the end, places between that differ from file to file, and what was written last of all: how far
        // all was trimmed.
        let places = [0, 13 + number as u64 * 7, 60, 100].map(|share| (length - 1) * share.min(100) / 100);
        for offset in places.into_iter().chain([length - length.min(20)]) {
            let damaged = scratch.crash();
            let inside = path.strip_prefix(scratch.path()).expect("inside");
            flip_byte(&damaged.path().join(inside), offset);
            let context = format!("{} at {offset} of {length}", inside.display());

            let journal = damaged.open();
            let kept = read_all(&journal, journal.first_position());
            assert!(
                kept.iter().all(|entry| entries.contains(entry)),
                "altered entry: {context}"
            );
            let lost = lost(&journal);
            let there = |(position, _): &&(u64, Vec<u8>)| *position >= TRIMMED;
            assert_eq!(
                lost,
                entries.iter().filter(there).count() as u64 - kept.iter().filter(there).count() as u64,
                "{context}"
            );
            let position = append_all(&journal, [b"goes on".to_vec()])[0];
            assert_eq!(
                read_all(&journal, position),
                [(position, b"goes on".to_vec())],
                "{context}"
            );
            assert!(
                position >= entries.len() as u64,
                "a position is never given again: {context}"
            );
            let recovery = journal.recovery();
            assert!(recovery.missing <= lost, "{context}");
            assert_eq!(
                recovery.again,
                kept.iter().filter(|(position, _)| *position < TRIMMED).count() as u64,
                "{context}"
            );
            again += usize::from(recovery.again > 0);
            assert_eq!(recovery.set_aside, None, "{context}");
            // 4 entries are a block, or fewer where the writer was quick.
            assert!(lost <= 4, "{lost} are lost: {context}");
            holes += usize::from(lost > 0 && recovery.cut_bytes == 0);
            cut += usize::from(recovery.cut_bytes > 0);
            journal.close();
        }
    }
    assert!(
        holes > 0 && cut > 0 && again > 0,
        "damage went unnoticed: {holes} holes, {cut} cut, {again} with entries that came back"
    );
}

#[test]
fn a_torn_last_write_costs_only_itself_and_one_that_was_durable_is_counted() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    let remembers = |next: &str| fs::read_to_string(scratch.positions()).is_ok_and(|line| line.contains(next));
    append_all(&journal, [noise(1, 700)]);
    eventually("it is remembered", || remembers(" 00000000000000000001 "));
    let before = bytes_written(&scratch);
    let positions_before = scratch.crash();
    append_all(&journal, [noise(2, 700)]);
    eventually("both are remembered", || remembers(" 00000000000000000002 "));
    let after = bytes_written(&scratch);
    for cut in [before + 1, before + 30, before + 300, after - 1] {
        for durable in [false, true] {
            let torn = scratch.crash();
            if !durable {
                fs::copy(positions_before.positions(), torn.positions()).expect("copied");
            }
            let segment = OpenOptions::new().write(true).open(&torn.segments()[0]).expect("open");
            segment.set_len(cut).expect("cut");

            let recovered = torn.open();

            let recovery = recovered.recovery();
            assert_eq!(recovery.set_aside, None, "cut at {cut}");
            assert!(recovery.cut_bytes > 0, "cut at {cut}");
            assert_eq!(recovery.missing, u64::from(durable), "cut at {cut}");
            assert_eq!(read_all(&recovered, 0), [(0, noise(1, 700))], "cut at {cut}");
            let next = 1 + u64::from(durable);
            assert_eq!(append_all(&recovered, [b"again".to_vec()]), [next], "cut at {cut}");
            recovered.close();
        }
    }
    journal.close();
}

#[test]
fn a_journal_without_its_positions_keeps_everything() {
    let (scratch, entries) = journal_with_a_history();
    for damage in [None, Some("00000000000000000020 000000")] {
        let damaged = scratch.crash();
        match damage {
            None => fs::remove_file(damaged.positions()).expect("removed"),
            Some(text) => fs::write(damaged.positions(), text).expect("written"),
        }
        let journal = damaged.open();
        assert_eq!((journal.recovery().missing, lost(&journal)), (0, 0), "{damage:?}");
        assert_eq!(read_all(&journal, 0), entries[TRIMMED as usize..], "{damage:?}");
        journal.close();
    }
}

fn bytes_written(scratch: &Scratch) -> u64 {
    let segment = fs::read(&scratch.segments()[0]).expect("read");
    segment
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

#[test]
fn what_is_no_journal_is_set_aside_and_what_stands_beside_one_is_left_alone() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path()).expect("create");
    fs::write(scratch.path().join("0.jnl"), b"of a former version").expect("write");

    let journal = scratch.open();
    let aside = journal.recovery().set_aside.clone().expect("set aside");
    assert_eq!(fs::read(aside.join("0.jnl")).expect("kept"), b"of a former version");
    assert_eq!(append_all(&journal, [b"works".to_vec()]), [0]);
    journal.close();

    let note = scratch.path().join("note");
    fs::write(&note, b"somebody's").expect("write");
    let journal = scratch.open();
    assert_eq!(journal.recovery().set_aside, None);
    assert_eq!(read_all(&journal, 0), [(0, b"works".to_vec())]);
    assert!(note.exists());
    journal.close();
}

#[test]
fn a_journal_that_was_killed_while_a_segment_was_made_goes_on() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    append_all(&journal, [b"kept".to_vec()]);
    journal.close();
    for (name, bytes) in [
        ("0000000100-00000001.segment", 0),
        ("0000000101-00000002.segment", 10_000),
    ] {
        fs::write(scratch.path().join(name), vec![0; bytes]).expect("write");
    }

    let journal = scratch.open();

    assert_eq!((journal.recovery().cut_bytes, journal.recovery().missing), (0, 0));
    assert_eq!(append_all(&journal, [b"works".to_vec()]), [1]);
    assert_eq!(read_all(&journal, 0).len(), 2);
    journal.close();
}

#[test]
fn a_journal_that_is_moved_away_is_noticed_and_goes_on_where_a_start_looks_for_it() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    append_all(&journal, [b"moved away".to_vec()]);
    let elsewhere = tempfile::tempdir().expect("a temporary directory");

    fs::rename(scratch.path(), elsewhere.path().join("journal")).expect("moved");

    eventually("a new one is made, though no segment is full", || {
        scratch.path().is_dir()
    });
    let position = append_all(&journal, [b"kept".to_vec()])[0];
    let crashed = scratch.crash();
    journal.close();
    let reopened = crashed.open();
    assert_eq!(read_all(&reopened, position), [(position, b"kept".to_vec())]);
    assert_eq!(reopened.recovery().missing, position, "what is elsewhere is missed");
    reopened.close();
}

#[test]
fn closing_a_journal_that_cannot_be_written_tells_every_entry_that_waits_that_it_is_lost() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    append_all(&journal, [b"written".to_vec()]);
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    eventually("a file stands in its place", || {
        let _ = fs::rename(scratch.path(), elsewhere.path().join(format!("{:?}", Instant::now())));
        fs::write(scratch.path(), b"").is_ok()
    });
    eventually("it is noticed", || journal.state() == State::Broken);
    let waiting: Vec<_> = (0..200).map(|number| journal.append(vec![number])).collect();

    journal.close();

    for append in waiting {
        let told = written(append);
        assert!(matches!(told, Err(AppendError::Broken(_))), "{told:?}");
    }
    assert!(!journal.has_waiting());
}

#[test]
fn a_journal_whose_files_are_taken_away_goes_on_with_new_ones() {
    let scratch = Scratch::with_bytes_max(32 << 20);
    let journal = scratch.open();
    append_all(&journal, [b"taken away".to_vec()]);

    fs::remove_dir_all(scratch.path()).expect("removed");

    // The next block is written to new files.
    eventually("new files are made", || {
        append_all(&journal, (0..16).map(|seed| noise(seed, 64 << 10)));
        scratch.path().is_dir()
    });
    let position = append_all(&journal, [b"kept".to_vec()])[0];
    journal.close();
    let reopened = scratch.open();
    assert_eq!(reopened.next_position(), position + 1);
    assert_eq!(read_all(&reopened, position), [(position, b"kept".to_vec())]);
    reopened.close();
}
