use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::scratch::{Scratch, append_all, eventually, noise, read_all};

/// A closed journal with blocks in files of values, in the log, and trimmed; and what was written to it.
fn journal_with_a_history() -> (Scratch, Vec<(u64, Vec<u8>)>) {
    let scratch = Scratch::with_bytes_max(32 << 20);
    let journal = scratch.open();
    let large = (0..80).map(|seed| noise(seed, 32 << 10));
    let small = (0..4).map(|seed| noise(seed, 500));
    let entries: Vec<_> = (0..).zip(large.chain(small)).collect();
    for group in entries.chunks(4) {
        append_all(&journal, group.iter().map(|(_, entry)| entry.clone()));
    }
    journal.trim(20);
    eventually("the start is trimmed", || journal.first_position() == 20);
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
fn one_flipped_byte_anywhere_does_not_stop_the_journal() {
    let (scratch, entries) = journal_with_a_history();
    let (mut set_aside, mut cut) = (0, 0);
    for (number, path) in files(&scratch.path()).into_iter().enumerate() {
        let length = path.metadata().expect("metadata").len();
        // The start, the end, and places between that differ from file to file.
        for share in [0, 13 + number as u64 * 7, 60, 100] {
            let offset = (length - 1) * share.min(100) / 100;
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
            let position = append_all(&journal, [b"goes on".to_vec()])[0];
            assert_eq!(
                read_all(&journal, position),
                [(position, b"goes on".to_vec())],
                "{context}"
            );
            let recovery = journal.recovery();
            if let Some(aside) = &recovery.set_aside {
                assert!(aside.is_dir(), "{context}");
                set_aside += 1;
            }
            cut += usize::from(recovery.cut_bytes > 0);
            journal.close();
        }
    }
    assert!(
        set_aside > 0 && cut > 0,
        "damage went unnoticed: {set_aside} set aside, {cut} cut"
    );
}

#[test]
fn a_torn_last_write_costs_only_itself() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    append_all(&journal, [noise(1, 700)]);
    let before = log_bytes_written(&scratch);
    append_all(&journal, [noise(2, 700)]);
    let after = log_bytes_written(&scratch);
    for cut in [before + 1, before + 30, after - 1] {
        let torn = scratch.crash();
        let log = OpenOptions::new()
            .write(true)
            .open(torn.path().join("0.jnl"))
            .expect("open");
        log.set_len(cut).expect("cut");

        let recovered = torn.open();

        assert_eq!(recovered.recovery().set_aside, None, "cut at {cut}");
        assert!(recovered.recovery().cut_bytes > 0, "cut at {cut}");
        assert_eq!(read_all(&recovered, 0), [(0, noise(1, 700))], "cut at {cut}");
        assert_eq!(append_all(&recovered, [b"again".to_vec()]), [1], "cut at {cut}");
        recovered.close();
    }
    journal.close();
}

fn log_bytes_written(scratch: &Scratch) -> u64 {
    let log = fs::read(scratch.path().join("0.jnl")).expect("read");
    log.iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

#[test]
fn a_journal_that_was_killed_while_it_was_created_is_replaced() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path()).expect("create");
    fs::write(scratch.path().join("0.jnl"), b"").expect("write");

    let journal = scratch.open();

    assert!(journal.recovery().set_aside.is_some());
    assert_eq!(append_all(&journal, [b"works".to_vec()]), [0]);
    journal.close();
}

#[test]
fn a_journal_whose_files_are_taken_away_goes_on_with_new_ones() {
    let scratch = Scratch::with_bytes_max(32 << 20);
    let journal = scratch.open();
    append_all(&journal, [b"taken away".to_vec()]);

    fs::remove_dir_all(scratch.path()).expect("removed");

    // The first flush fails; what was being written then is written to the new files.
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
