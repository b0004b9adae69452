use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::book::{Fate, Gate, Page, locked};
use crate::plan::Random;
use crate::support::{Answer, CREATE_TOPIC, Callback, Caller};

/// Chat gives up after so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// The receiver's own deadline is 270 ms after it has read the head; what was answered sooner did not pass it.
const LATE_AFTER: Duration = Duration::from_millis(250);
/// Between two callbacks of one caller, at most. Eight callers post some 600 a second, so that two cores have time for
/// everything else, and a hundred rounds fill neither memory nor disk.
const PAUSE_MICROS_MAX: u64 = 20_000;
/// After a callback that was not answered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// Of a large callback, below the receiver's bound of 64 KiB: memory is full after 300 of them.
pub(crate) const LARGE_BYTES: usize = 56 << 10;
/// Of one that fills what a full disk's journal has left, in 2 s, and not memory.
pub(crate) const MIDDLE_BYTES: usize = 6 << 10;

/// The operator whom a moderator has refused, and the code.
pub(crate) const DENIED: (&str, i64) = ("denied", 10_101);
/// The operator whom the rule refuses at some time, and the code.
pub(crate) const ABUSER: (&str, i64) = ("abuser", 10_102);

/// Those who play Chat, each in a thread of its own, until they are dropped.
pub(crate) struct Callers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    pages: Vec<Mutex<Page>>,
    paused: AtomicBool,
    ended: AtomicBool,
    answered: AtomicU64,
    posted: AtomicU64,
}

impl Callers {
    /// `count` of them, spread over `receivers`. With `noise`, large callbacks do not compress, so that they fill a disk
    /// and not only memory; a test cluster has no room for them.
    pub(crate) fn start(count: usize, receivers: &[(SocketAddr, Arc<Gate>)], noise: bool) -> Self {
        let shared = Arc::new(Shared {
            pages: (0..count).map(|_| Mutex::default()).collect(),
            paused: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            posted: AtomicU64::new(0),
        });
        let threads = (0..count).map(|number| {
            let (address, gate) = receivers[receiver_of(number, receivers.len())].clone();
            let shared = Arc::clone(&shared);
            thread::spawn(move || Chat::new(number, address, gate, noise).post_until_ended(&shared))
        });
        Self {
            threads: threads.collect(),
            shared,
        }
    }

    /// Callbacks that were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Callbacks that were sent.
    pub(crate) fn posted(&self) -> u64 {
        self.shared.posted.load(Ordering::Relaxed)
    }

    /// Returns when nothing is under way, and nothing will be until [`Callers::resume`].
    pub(crate) fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        for page in &self.shared.pages {
            drop(locked(page));
        }
    }

    pub(crate) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// What each has noted.
    pub(crate) fn pages(&self) -> impl Iterator<Item = MutexGuard<'_, Page>> {
        self.shared.pages.iter().map(locked)
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Which receiver a caller posts to.
pub(crate) fn receiver_of(caller: usize, receivers: usize) -> usize {
    caller % receivers
}

/// The name that no other callback has.
fn name(caller: usize, number: usize) -> String {
    format!("campaign {caller} {number}")
}

/// Whose callback a name is.
pub(crate) fn of_name(name: &str) -> Option<(usize, usize)> {
    let (caller, number) = name.strip_prefix("campaign ")?.split_once(' ')?;
    Some((caller.parse().ok()?, number.parse().ok()?))
}

/// One caller.
struct Chat {
    number: usize,
    address: SocketAddr,
    gate: Arc<Gate>,
    noise: bool,
    connection: Caller,
    random: Random,
}

impl Chat {
    fn new(number: usize, address: SocketAddr, gate: Arc<Gate>, noise: bool) -> Self {
        Self {
            number,
            address,
            gate,
            noise,
            connection: connect(address),
            random: Random(number as u64),
        }
    }

    fn post_until_ended(mut self, shared: &Shared) {
        let mut connections = self.gate.connections();
        while !shared.ended.load(Ordering::SeqCst) {
            let mut page = locked(&shared.pages[self.number]);
            if shared.paused.load(Ordering::SeqCst) {
                drop(page);
                sleep(Duration::from_millis(5));
                continue;
            }
            if connections != self.gate.connections() {
                connections = self.gate.connections();
                self.connection = connect(self.address);
            }
            let fate = self.post(&mut page);
            page.add(fate);
            drop(page);
            shared.posted.fetch_add(1, Ordering::Relaxed);
            if fate == Fate::Unanswered {
                sleep(PAUSE_AFTER_FAILURE);
            } else {
                shared.answered.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_micros(self.random.below(PAUSE_MICROS_MAX)));
            }
        }
    }

    fn post(&mut self, page: &mut Page) -> Fate {
        let number = page.next();
        let operator = self.operator(number);
        let callback = self.callback(&operator, number);
        let (calm, full) = (self.gate.calm(), self.gate.is_full());
        let began = Instant::now();
        let answer = self.connection.exchange(&callback.request());
        let took = began.elapsed();
        let owed = calm.is_some() && calm == self.gate.calm();
        let full = full || self.gate.is_full();

        if owed {
            page.slowest = page.slowest.max(took);
        }
        let name = name(self.number, number);
        let in_time = took <= PATIENCE;
        let code = answer.as_ref().ok().and_then(Answer::in_contract).map(|(code, _)| code);
        if owed && !(in_time && code.is_some_and(|code| is_due(&operator, code))) {
            page.broke(format!("{name:?} by {operator} after {took:.1?}: {answer:?}"));
        }
        match code {
            Some(_) if !in_time => Fate::Unanswered,
            Some(_) if full => Fate::AnsweredFromMemory,
            Some(_) if took >= LATE_AFTER => Fate::AnsweredLate,
            Some(_) => Fate::Answered,
            None => Fate::Unanswered,
        }
    }

    /// Few are refused; the others share some keys, so that every partition has records.
    fn operator(&self, number: usize) -> String {
        match number % 40 {
            7 => DENIED.0.to_owned(),
            23 => ABUSER.0.to_owned(),
            other => format!("user-{}-{other}", self.number),
        }
    }

    fn callback(&self, operator: &str, number: usize) -> Callback {
        let name = name(self.number, number);
        let bytes = self.gate.more_bytes();
        if bytes == 0 {
            return Callback::topic(operator, &name);
        }
        let body = json!({
            "CallbackCommand": CREATE_TOPIC, "Operator_Account": operator, "Type": "Community", "Name": name,
            "Introduction": if self.noise { noise(number as u64, bytes) } else { "x".repeat(bytes) },
        });
        Callback::new(CREATE_TOPIC, body.to_string())
    }
}

fn noise(seed: u64, bytes: usize) -> String {
    let mut random = Random(seed);
    let letters = std::iter::repeat_with(|| char::from(b'#' + random.below(56) as u8));
    letters.take(bytes).collect()
}

fn connect(address: SocketAddr) -> Caller {
    Caller::at(address).patience(PATIENCE)
}

/// Whether this is what a warm receiver answers.
fn is_due(operator: &str, code: i64) -> bool {
    match operator {
        _ if operator == DENIED.0 => code == DENIED.1,
        _ if operator == ABUSER.0 => code == 0 || code == ABUSER.1,
        _ => code == 0,
    }
}
