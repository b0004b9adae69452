//! What verdicts cost: memory and time to have them, and the time of a decision, also while many come and go.
//!
//!     cargo bench -p portcullis-receiver --bench decisions
//!
//! Times are of this machine at this moment: compare two runs side by side, never one with a number.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_receiver::Fallback;
use portcullis_receiver::decision::{Decisions, Keeper, Question};
use portcullis_schema::{AppId, Command, Effect, Source, Subject, SubjectKind, Timestamp, Verdict, id};

const MILLION: usize = 1_000_000;
const TERMS: usize = 100_000;
const APP: AppId = AppId(1_400_000_001);

fn main() {
    let now = Timestamp::now();
    for subjects in [1_000, 100_000, MILLION] {
        held(subjects, now);
    }
    at_once(now);
    longest_texts(now);
}

fn operator(number: usize) -> String {
    format!("user-{number:09}")
}

/// As a rule of the worker gives it.
fn verdict(number: usize, issued_at: Timestamp, holds: Duration) -> Verdict {
    Verdict {
        id: id::random(issued_at),
        app: APP,
        subject: Subject::parse(SubjectKind::Operator, &operator(number)).expect("a subject"),
        commands: vec!["Group.CallbackBeforeCreateTopic".to_owned()],
        effect: Effect::Deny,
        code: Some(10_101),
        text: "too many topics, try later".to_owned(),
        source: Source::Rule,
        rule: Some("topic-burst".to_owned()),
        reason: "5 in 60 s".to_owned(),
        by: "worker-1".to_owned(),
        issued_at,
        expires_at: Some(issued_at.after(holds)),
        evidence: Vec::new(),
    }
}

fn decide(decisions: &Decisions, command: &Command, operator: &str, now: Timestamp) -> Duration {
    let question = Question {
        app: APP,
        command,
        operator: Some(operator),
        client_ip: "203.0.113.7".parse().ok(),
        name: Some("MyFirstTopic"),
        items: &[],
        readable: true,
    };
    let began = Instant::now();
    black_box(decisions.decide(black_box(&question), now));
    began.elapsed()
}

/// Memory, the time to put them in force, and one decision with so many held.
fn held(subjects: usize, now: Timestamp) {
    let before = resident_bytes();
    let (decisions, mut keeper) = Decisions::new(2 * MILLION as u64, Fallback::default());
    keeper.warm();
    let began = Instant::now();
    let mut putting = Duration::ZERO;
    for number in 0..subjects {
        let verdict = verdict(number, now, Duration::from_secs(3_600));
        let began = Instant::now();
        keeper.put(&verdict, now);
        putting += began.elapsed();
    }
    keeper.settle(&[1, 2, 3]);
    let took = began.elapsed();
    let bytes = resident_bytes().saturating_sub(before) / subjects as u64;
    let command = Command::parse("Group.CallbackBeforeCreateTopic");
    let mean = |other: usize| {
        let each = (0..200_000).map(|turn| {
            let number = (turn * 7_919) % subjects + other;
            decide(&decisions, &command, &operator(number), now)
        });
        each.sum::<Duration>() / 200_000
    };
    println!(
        "{subjects:>9} verdicts: {bytes:>4} bytes each, put in {:>7.1?} ({:.0?} each, {took:.1?} with making them), decided {:>7.1?} denied, {:>7.1?} allowed",
        putting,
        putting / subjects as u32,
        mean(0),
        mean(subjects)
    );
}

/// One decision about each of the texts that take the most, beside as many terms as there may be.
fn longest_texts(now: Timestamp) {
    let (decisions, mut keeper) = Decisions::new(MILLION as u64, Fallback::default());
    keeper.warm();
    for number in 0..TERMS {
        let term = Subject::parse(SubjectKind::Term, &format!("term {number} of many")).expect("a subject");
        let verdict = Verdict {
            subject: term,
            ..verdict(number, now, Duration::from_secs(3_600))
        };
        keeper.put(&verdict, now);
    }
    keeper.settle(&[1, 2, 3]);
    let command = Command::parse("Group.CallbackBeforeCreateTopic");
    for (what, text) in [
        ("a message of 12 KiB", "Hello modern World 100 ".repeat(534)),
        ("12 KiB of ligatures of sentences", "\u{fdfa}".repeat(4_096)),
        ("64 KiB of letters that become two", "m".repeat(64 << 10)),
        ("64 KiB of marks in the wrong order", "\u{301}\u{316}".repeat(16 << 10)),
        ("64 KiB of the beginnings of terms", "term 9999 of man ".repeat(3_855)),
    ] {
        let question = Question {
            app: APP,
            command: &command,
            operator: Some("leckie"),
            client_ip: None,
            name: Some(&text),
            items: &[],
            readable: true,
        };
        let each = (0..100).map(|_| {
            let began = Instant::now();
            black_box(decisions.decide(black_box(&question), now));
            began.elapsed()
        });
        let mut each: Vec<Duration> = each.collect();
        each.sort();
        println!(
            "{what}: decided in {:.0?}, at best {:.0?}",
            each[each.len() / 2],
            each[0]
        );
    }
}

/// The longest decision while half a million expire together, and while a hundred thousand arrive.
fn at_once(now: Timestamp) {
    let (decisions, mut keeper) = Decisions::new(2 * MILLION as u64, Fallback::default());
    keeper.warm();
    for number in 0..MILLION {
        let holds = if number < MILLION / 2 { 60 } else { 3_600 };
        keeper.put(&verdict(number, now, Duration::from_secs(holds)), now);
    }
    let quiet = longest(&decisions, now, || thread::sleep(Duration::from_secs(1)));
    println!("longest decision with nothing going on: {quiet}");
    let later = now.after(Duration::from_secs(61));
    let began = Instant::now();
    let expiring = longest(&decisions, later, || while keeper.sweep(later) {});
    println!(
        "longest decision while 500,000 expire: {expiring}; they were gone in {:.1?}",
        began.elapsed()
    );
    let coming: Vec<Verdict> = (2 * MILLION..2 * MILLION + 100_000)
        .map(|number| verdict(number, later, Duration::from_secs(60)))
        .collect();
    let began = Instant::now();
    let arriving = longest(&decisions, later, || put_all(&mut keeper, &coming, later));
    println!(
        "longest decision while 100,000 arrive: {arriving}; they were in force in {:.1?}",
        began.elapsed()
    );
}

fn put_all(keeper: &mut Keeper, verdicts: &[Verdict], now: Timestamp) {
    for batch in verdicts.chunks(1_000) {
        for verdict in batch {
            keeper.put(verdict, now);
        }
        keeper.settle(&[1]);
    }
}

/// Decides on a thread of its own while `meanwhile` runs; tells the longest times.
fn longest(decisions: &Decisions, now: Timestamp, meanwhile: impl FnOnce()) -> String {
    let over = AtomicBool::new(false);
    let command = Command::parse("Group.CallbackBeforeCreateTopic");
    let mut times = thread::scope(|scope| {
        let deciding = scope.spawn(|| {
            let mut times = Vec::new();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number = (number + 7_919) % MILLION;
                times.push(decide(decisions, &command, &operator(number), now));
            }
            times
        });
        meanwhile();
        over.store(true, Ordering::Relaxed);
        deciding.join().expect("it decides")
    });
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!(
        "{:.1?}, one in 10,000 {:.1?}, median {:.1?}, of {}",
        at(1.0),
        at(0.9999),
        at(0.5),
        times.len()
    )
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("the system tells");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.expect("a number") * 4_096
}
