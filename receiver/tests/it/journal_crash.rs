//! Kills between any two writes: another process works on a journal and says what was durable, and is killed at one of
//! its system calls, with what the kernel has by then; on the same journal again and again.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_receiver::journal::{Durability, Journal, Options};

use crate::scratch::{Scratch, append_all, eventually, noise, read_all};

const DIRECTORY: &str = "PORTCULLIS_TEST_JOURNAL";
const SEED: &str = "PORTCULLIS_TEST_SEED";
/// Small, with segments of 128 KiB, so that they are taken, given back and used again all the time.
const BYTES_MAX: u64 = 8 << 20;
const LIFE: Duration = Duration::from_secs(2);
const KILLS: u64 = 16;
/// What appends, and what making segments and using them again does beside that.
const CALLS: [&str; 2] = [
    "write,pwrite64,fdatasync",
    "rename,renameat,renameat2,unlink,unlinkat,fsync,ftruncate,fallocate",
];

#[test]
fn a_kill_between_any_two_writes_loses_nothing_that_was_durable() {
    let scratch = Scratch::with_bytes_max(BYTES_MAX);
    let strace = Command::new("strace").arg("--version").output().is_ok();
    if !strace {
        let _ = writeln!(
            std::io::stderr(),
            "NOT CHECKED: kills at each kind of write, only at any time, because strace is not installed here"
        );
    }
    let (mut durable, mut trimmed, mut killed) = (None, 0, 0);
    for seed in 0..KILLS {
        let said = worked_until_killed(&scratch, seed, strace);
        killed += u32::from(!said.contains("ended"));
        for (word, position) in said.lines().filter_map(|line| line.split_once(' ')) {
            match (word, position.parse::<u64>()) {
                ("durable", Ok(position)) => durable = durable.max(Some(position)),
                ("trim", Ok(before)) => trimmed = trimmed.max(before),
                _ => {}
            }
        }

        let journal = scratch.open();
        let recovery = journal.recovery();
        assert!(
            recovery.set_aside.is_none() || durable.is_none(),
            "kill {seed}: {recovery:?}"
        );
        assert_eq!((recovery.missing, recovery.again), (0, 0), "kill {seed}");
        assert!(recovery.first <= trimmed, "kill {seed}: nothing is trimmed unasked");
        assert!(
            durable.is_none_or(|last| recovery.next > last),
            "kill {seed}: {recovery:?}"
        );
        let read = read_all(&journal, recovery.first);
        let positions = read.iter().map(|(position, _)| *position);
        assert!(positions.eq(recovery.first..recovery.next), "kill {seed}: {recovery:?}");
        for (position, bytes) in read {
            assert_eq!(
                bytes,
                entry(position),
                "kill {seed}: the entry at {position} is another"
            );
        }
        journal.close();
    }
    assert!(killed > KILLS as u32 / 2, "only {killed} were killed");
}

/// What the process said before it was killed, or had come to its end.
fn worked_until_killed(scratch: &Scratch, seed: u64, strace: bool) -> String {
    let own = std::env::current_exe().expect("the tests' own binary");
    let random = u64::from_le_bytes(noise(seed + 1, 8).try_into().expect("8 bytes"));
    let mut command = if strace {
        let (calls, most) = if seed.is_multiple_of(2) {
            (CALLS[0], 500)
        } else {
            (CALLS[1], 8)
        };
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args([
                "-e",
                &format!("inject={calls}:signal=SIGKILL:when={}", 1 + random % most),
            ])
            .arg(own);
        command
    } else {
        Command::new(own)
    };
    let mut child = command
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "journal_crash::works_on_a_journal_until_it_is_killed",
        ])
        .env(DIRECTORY, scratch.path())
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    if !strace {
        std::thread::sleep(Duration::from_millis(random % 3_000));
        child.kill().expect("killed");
    }
    let output = child.wait_with_output().expect("its output");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "it is the process that the test above starts and kills"]
fn works_on_a_journal_until_it_is_killed() {
    let (Ok(directory), Ok(seed)) = (std::env::var(DIRECTORY), std::env::var(SEED)) else {
        return;
    };
    let seed: u64 = seed.parse().expect("a number");
    let journal = Journal::open(Options {
        directory: directory.into(),
        bytes_max: BYTES_MAX,
        durability: [Durability::Process, Durability::Host][seed as usize / 2 % 2],
    })
    .expect("opens");
    let mut random = noise(seed, 1 << 20).into_iter();
    let began = Instant::now();
    while began.elapsed() < LIFE
        && let (Some(action), Some(share)) = (random.next(), random.next())
    {
        let next = journal.next_position();
        if action < 64 {
            let before = journal.first_position() + journal.backlog_records() * u64::from(share) / 255;
            say("trim", before);
            journal.trim(before);
        } else if journal.used_bytes() < journal.capacity_bytes() / 2 {
            let many = 1 + u64::from(share) % 6;
            let last = append_all(&journal, (next..next + many).map(entry)).pop();
            say("durable", last.expect("not empty"));
        } else {
            say("trim", next);
            journal.trim(next);
            eventually("the space is back", || {
                journal.used_bytes() < journal.capacity_bytes() / 4
            });
        }
    }
    say("ended", 0);
}

/// A line at once: what stays in a buffer dies with the process.
fn say(word: &str, position: u64) {
    let line = format!("{word} {position}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("somebody listens");
    std::io::stdout().flush().expect("somebody listens");
}

/// The one that is at that position.
fn entry(position: u64) -> Vec<u8> {
    noise(position, [10, 700, 700, 40_000][position as usize % 4])
}
