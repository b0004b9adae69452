use std::time::Instant;

use portcullis_receiver::journal::{AppendError, Durability, Journal, OpenError, Options, State};

use crate::scratch::{DEADLINE, Scratch, append_all, eventually, noise, read_all, written};

#[test]
fn entries_are_read_in_the_order_of_their_appends() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    let entries: Vec<Vec<u8>> = (0u32..1000).map(|number| number.to_be_bytes().to_vec()).collect();

    let positions = append_all(&journal, entries.clone());

    assert_eq!(positions, (0..1000).collect::<Vec<_>>());
    assert_eq!(read_all(&journal, 0), (0..).zip(entries).collect::<Vec<_>>());
    journal.close();
}

#[test]
fn an_entry_is_written_when_its_caller_gave_up() {
    let scratch = Scratch::new();
    let journal = scratch.open();

    drop(journal.append(b"abandoned".to_vec()));

    assert!(journal.wait_for(0, DEADLINE));
    assert_eq!(read_all(&journal, 0), [(0, b"abandoned".to_vec())]);
    journal.close();
}

#[test]
fn what_was_durable_is_there_after_a_crash() {
    for durability in [Durability::Host, Durability::Process] {
        let scratch = Scratch::new();
        let journal = Journal::open(Options {
            durability,
            ..scratch.options()
        })
        .expect("opens");
        append_all(&journal, (0..100).map(|number| vec![number; 700]));

        let crashed = scratch.crash();
        let recovered = crashed.open();

        assert_eq!(recovered.recovery().set_aside, None);
        assert_eq!(recovered.backlog_records(), 100);
        assert_eq!(read_all(&recovered, 0), read_all(&journal, 0));
        recovered.close();
        journal.close();
    }
}

#[test]
fn closing_writes_what_waits_and_refuses_the_rest() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    let waiting: Vec<_> = (0..200).map(|number| journal.append(vec![number])).collect();

    journal.close();

    assert!(matches!(written(journal.append(vec![0])), Err(AppendError::Closing)));
    assert!(waiting.into_iter().all(|append| written(append).is_ok()));
    let reopened = scratch.open();
    assert_eq!(reopened.backlog_records(), 200);
    reopened.close();
}

#[test]
fn trimmed_blocks_are_gone_and_positions_go_on_after_a_restart() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    append_all(&journal, (0..3000).map(|number: u32| number.to_be_bytes().to_vec()));

    journal.trim(journal.next_position());
    eventually("everything is trimmed", || journal.backlog_records() == 0);
    journal.close();

    let reopened = scratch.open();
    assert_eq!((reopened.first_position(), reopened.next_position()), (3000, 3000));
    assert_eq!(append_all(&reopened, [b"next".to_vec()]), [3000]);
    assert_eq!(read_all(&reopened, 3000), [(3000, b"next".to_vec())]);
    reopened.close();
}

#[test]
fn a_block_of_which_a_part_is_acknowledged_is_kept_whole() {
    let scratch = Scratch::new();
    let journal = scratch.open();
    append_all(&journal, [b"first".to_vec()]);
    append_all(&journal, (0..10).map(|number| vec![number]));
    let last = read_all(&journal, 0).len() as u64;

    journal.trim(1);
    eventually("the first block is trimmed", || journal.first_position() == 1);
    journal.trim(last - 1);
    append_all(&journal, [b"after the trim".to_vec()]);

    assert_eq!(
        read_all(&journal, journal.first_position()).last(),
        Some(&(last, b"after the trim".to_vec()))
    );
    assert!(journal.first_position() < last);
    journal.close();
}

#[test]
fn a_full_journal_takes_entries_again_after_trimming() {
    let scratch = Scratch::with_bytes_max(8 << 20);
    let journal = scratch.open();
    let mut refused = None;
    for seed in 0.. {
        let append = journal.append(noise(seed, 64 << 10));
        if let Some(refusal) = append.refusal() {
            refused = Some(refusal.clone());
            if matches!(refused, Some(AppendError::Full { .. })) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    assert!(
        matches!(refused, Some(AppendError::Full { used, capacity }) if used >= capacity),
        "{refused:?}"
    );
    assert_eq!(journal.state(), State::Full);

    // What waits in memory goes to disk as room comes back, so trim until nothing waits.
    eventually("entries are taken again", || {
        journal.trim(journal.next_position());
        !journal.has_waiting() && journal.state() == State::Normal
    });

    written(journal.append(b"last".to_vec())).expect("written");
    journal.close();
}

#[test]
fn what_waits_when_a_full_journal_closes_is_written_all_the_same() {
    let scratch = Scratch::with_bytes_max(8 << 20);
    let journal = scratch.open();
    let mut seeds = 0u64..;
    eventually("it is full", || {
        if !journal.has_waiting() {
            drop(journal.append(noise(seeds.next().expect("one more"), 64 << 10)));
        }
        journal.state() == State::Full
    });
    let waiting: Vec<_> = (0..200).map(|number| journal.append(vec![number])).collect();
    assert!(journal.has_waiting());

    journal.close();

    let expected = (0..200).map(|number| vec![number]);
    let positions: Vec<_> = waiting
        .into_iter()
        .map(|append| written(append).expect("written"))
        .collect();
    let reopened = scratch.open();
    let read = read_all(&reopened, 0);
    let there = read.iter().filter(|(position, _)| *position >= positions[0]).cloned();
    assert!(there.eq(positions.iter().copied().zip(expected)));
    reopened.close();
}

#[test]
fn space_comes_back_after_a_backlog_is_trimmed() {
    let scratch = Scratch::with_bytes_max(1 << 30);
    let journal = scratch.open();
    for round in 0..24 {
        append_all(&journal, (0..32).map(|seed| noise(round * 32 + seed, 64 << 10)));
    }
    let backlog_bytes = journal.used_bytes();
    assert!(backlog_bytes > 40 << 20, "{backlog_bytes}");

    // Read from the store, not from memory, then forget.
    assert_eq!(read_all(&journal, 0).len(), 24 * 32);
    journal.trim(journal.next_position());

    eventually("most of the space is back, without any traffic", || {
        journal.used_bytes() < backlog_bytes / 2
    });
    journal.close();
}

#[test]
fn a_journal_that_is_held_says_who_must_act() {
    let scratch = Scratch::new();
    let journal = scratch.open();

    let error = Journal::open(scratch.options()).err().expect("held");

    assert!(matches!(error, OpenError::Held { .. }), "{error}");
    assert!(
        error.to_string().contains(&scratch.path().display().to_string()),
        "{error}"
    );
    assert_eq!(append_all(&journal, [b"unharmed".to_vec()]), [0]);
    journal.close();
    scratch.open().close();
}

#[test]
fn an_entry_is_waiting_until_it_can_be_read() {
    let scratch = Scratch::new();
    let journal = Journal::open(Options {
        durability: Durability::Host,
        ..scratch.options()
    })
    .expect("the journal opens");
    for number in 1..=200 {
        drop(journal.append(vec![7; 100]));
        let start = Instant::now();
        while journal.has_waiting() {
            assert!(start.elapsed() < DEADLINE, "it is never written");
        }
        assert_eq!(journal.next_position(), number, "it was neither waiting nor there");
    }
}
