//! Sends callbacks over kept connections and judges every answer.
//!
//! All connections are made before the first callback is due. One thread for all of them: with a thread for each, hundreds of them wait for one core and for each other, and
//! what is measured is that. At a fixed rate a callback's intended time follows from its number alone, so a slow
//! answer delays nobody's clock: latency counts from the intended time. A caller gives up after 2 s, as Chat does, and
//! comes back on a new connection.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Chat's own patience.
const PATIENCE: Duration = Duration::from_secs(2);
/// Callbacks that are due closer together are sent together: the sender would do nothing but wake up.
const PACE_MIN: Duration = Duration::from_micros(100);
/// An answer of the contract has 200 to 400 bytes with its headers; what is longer is wrong.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// How many operators are denied, as a rule.
pub(crate) const DENIED: u64 = 100_000;
/// One callback in so many carries a digest that is not Chat's.
const FORGED_EVERY: u64 = 100;
const DENIED_EVERY: u64 = 10;
/// The app and the token of every callback.
pub(crate) const APP: u32 = 1_400_000_001;
/// See `APP`.
pub(crate) const TOKEN: &str = "bench-token";

/// How callbacks are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// The next as soon as the last was answered.
    Saturation,
    /// So many a second, whatever the answers do.
    Fixed(u64),
}

/// What one load is.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) pace: Pace,
    pub(crate) lasts: Duration,
    /// One for each callback that may be waiting at once.
    pub(crate) connections: usize,
    /// The first callback's number; numbers are unique within a topic.
    pub(crate) first: u64,
    /// The bare floor knows nobody and checks nothing, so its answers are only read.
    pub(crate) judged: bool,
    /// So many operators are denied; every tenth callback is one of theirs, if there is one.
    pub(crate) denied: u64,
}

/// What became of one callback.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// 200 and the code of the contract: must be recorded.
    Answered,
    /// 403 for what was forged.
    Refused,
    /// No answer, or not 200, or too late for Chat.
    Unanswered,
    /// An answer that the contract does not allow.
    Wrong,
}

/// One callback and its end.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) number: u64,
    pub(crate) latency_us: u32,
    pub(crate) end: End,
}

/// Callers that are connected, and have not called yet.
pub(crate) struct Connected {
    load: Load,
    runtime: Runtime,
    callers: Vec<Caller>,
}

/// Runs the load to its end; outcomes in no order.
pub(crate) fn run(load: Load) -> io::Result<Vec<Outcome>> {
    Connected::make(load)?.run()
}

impl Connected {
    /// May take seconds, where a contestant accepts slowly.
    pub(crate) fn make(load: Load) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut callers = Vec::with_capacity(load.connections);
        runtime.block_on(async {
            for _ in 0..load.connections {
                callers.push(Caller::connect(load).await);
            }
        });
        Ok(Self { load, runtime, callers })
    }

    /// See [`run`]; the first callback is due now.
    pub(crate) fn run(self) -> io::Result<Vec<Outcome>> {
        let (load, connected) = (self.load, self.callers);
        self.runtime.block_on(async {
            let schedule = Arc::new(Schedule::begin(load));
            let mut callers = JoinSet::new();
            for caller in connected {
                callers.spawn(caller.call_until_the_end(Arc::clone(&schedule)));
            }
            if let Pace::Fixed(rate) = load.pace {
                let ticking = Arc::clone(&schedule);
                std::thread::Builder::new()
                    .name("clock".to_owned())
                    .spawn(move || ticking.tick(rate))?;
                schedule.keep(rate).await;
            }
            let mut outcomes = Vec::new();
            while let Some(ended) = callers.join_next().await {
                outcomes.extend(ended.map_err(io::Error::other)?);
            }
            Ok(outcomes)
        })
    }
}

/// When callbacks are due.
struct Schedule {
    load: Load,
    started: Instant,
    tickets: AtomicU64,
    queue: Mutex<Queue>,
    clock: Notify,
}

/// Callbacks or callers: one of both always waits for the other.
#[derive(Default)]
struct Queue {
    /// Callbacks that are due and that nobody has taken.
    due: usize,
    /// Callers with nothing to do. The one that called last calls next, as in the pools of HTTP clients (Go's net/http,
    /// hyper-util, OkHttp): in turn, as many connections as there are would be in use at any rate.
    idle: Vec<Arc<Notify>>,
}

impl Schedule {
    fn begin(load: Load) -> Self {
        Self {
            load,
            started: Instant::now(),
            tickets: AtomicU64::new(0),
            queue: Mutex::default(),
            clock: Notify::new(),
        }
    }

    /// The next callback and its intended time, as soon as it is due; `None` at the end.
    async fn next(&self, caller: &Arc<Notify>) -> Option<(u64, Instant)> {
        let (ticket, intended) = match self.load.pace {
            Pace::Saturation => (self.tickets.fetch_add(1, Ordering::Relaxed), Instant::now()),
            Pace::Fixed(rate) => {
                self.turn(caller).await;
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                (ticket, self.started + at(ticket, rate))
            }
        };
        (intended < self.started + self.load.lasts).then_some((ticket, intended))
    }

    /// Lets callbacks become due until the end, and then every caller once more, to see the end.
    async fn keep(&self, rate: u64) {
        let mut issued = 0;
        while at(issued, rate) < self.load.lasts {
            self.clock.notified().await;
            let elapsed = self.started.elapsed().min(self.load.lasts);
            let due = (elapsed.as_nanos() * u128::from(rate) / 1_000_000_000) as u64 + 1;
            self.let_call(usize::try_from(due.saturating_sub(issued)).unwrap_or(usize::MAX));
            issued = issued.max(due);
        }
        self.let_call(self.load.connections);
    }

    async fn turn(&self, caller: &Arc<Notify>) {
        if !self.queue().takes(caller) {
            caller.notified().await;
        }
    }

    fn let_call(&self, callbacks: usize) {
        let mut queue = self.queue();
        let called = callbacks.min(queue.idle.len());
        let rest = queue.idle.len() - called;
        queue.idle.drain(rest..).for_each(|caller| caller.notify_one());
        queue.due += callbacks - called;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when callbacks are due, to within 0.1 ms: the runtime's own timer knows whole milliseconds. Blocks until the
    /// end.
    fn tick(&self, rate: u64) {
        let mut next = 0;
        while at(next, rate) < self.load.lasts {
            let pause = at(next, rate).saturating_sub(self.started.elapsed());
            std::thread::sleep(pause.max(PACE_MIN));
            self.clock.notify_one();
            next = (self.started.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64 + 1;
        }
        self.clock.notify_one();
    }
}

impl Queue {
    /// Whether a callback was due, and is the caller's now; otherwise the caller waits.
    fn takes(&mut self, caller: &Arc<Notify>) -> bool {
        let is_due = self.due > 0;
        match is_due {
            true => self.due -= 1,
            false => self.idle.push(Arc::clone(caller)),
        }
        is_due
    }
}

/// When the callback of this number is due, from the start on.
fn at(ticket: u64, rate: u64) -> Duration {
    Duration::from_nanos(ticket * 1_000_000_000 / rate)
}

struct Caller {
    load: Load,
    connection: Option<TcpStream>,
    request: Vec<u8>,
    answer: Vec<u8>,
    signed_for: u64,
    sign: String,
    /// One wrong answer of a caller is enough to see what is wrong.
    has_shown: bool,
}

impl Caller {
    /// Whoever cannot be connected to yet is so when it is called.
    async fn connect(load: Load) -> Self {
        let connecting = timeout(PATIENCE, connect(load.address)).await;
        let (request, answer) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
        Self {
            load,
            connection: connecting.ok().and_then(Result::ok),
            request,
            answer,
            signed_for: 0,
            sign: String::new(),
            has_shown: false,
        }
    }

    async fn call_until_the_end(mut self, schedule: Arc<Schedule>) -> Vec<Outcome> {
        let (mut outcomes, called) = (Vec::new(), Arc::new(Notify::new()));
        while let Some((ticket, intended)) = schedule.next(&called).await {
            let number = self.load.first + ticket;
            // Nobody is waiting for it any more: Chat has let it through long ago.
            let end = if intended.elapsed() > PATIENCE {
                End::Unanswered
            } else {
                self.call(number).await
            };
            let latency_us = u32::try_from(intended.elapsed().as_micros()).unwrap_or(u32::MAX);
            outcomes.push(Outcome {
                number,
                latency_us,
                end,
            });
            if end == End::Unanswered && matches!(self.load.pace, Pace::Saturation) {
                // A contestant that is gone must not be called a million times a second.
                sleep(Duration::from_millis(10)).await;
            }
        }
        outcomes
    }

    async fn call(&mut self, number: u64) -> End {
        let forged = number % FORGED_EVERY == FORGED_EVERY - 1;
        let denied = self.load.denied > 0 && number.is_multiple_of(DENIED_EVERY);
        self.write_request(number, denied, forged);
        let Ok(Ok(length)) = timeout(PATIENCE, self.exchange()).await else {
            self.connection = None;
            return End::Unanswered;
        };
        if !self.load.judged {
            return End::Answered;
        }
        let end = judge(&self.answer[..length], denied, forged);
        if end == End::Wrong && !self.has_shown {
            self.has_shown = true;
            let answer = String::from_utf8_lossy(&self.answer[..length]);
            eprintln!("bench: a wrong answer to callback {number}, denied: {denied}, forged: {forged}: {answer:?}");
        }
        end
    }

    fn write_request(&mut self, number: u64, denied: bool, forged: bool) {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if seconds != self.signed_for {
            self.signed_for = seconds;
            self.sign = sign(seconds);
        }
        let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let operator = if denied {
            denied_operator(spread % self.load.denied)
        } else {
            format!("user-{}", spread % 1_000_000)
        };
        let body = format!(
            r#"{{"CallbackCommand":"Group.CallbackBeforeCreateTopic","Operator_Account":"{operator}","Type":"Community","Name":"callback-{number}"}}"#
        );
        let sign = if forged { "00" } else { self.sign.as_str() };
        self.request.clear();
        // Writing into a Vec cannot fail.
        let _ = write!(
            self.request,
            "POST /?SdkAppid={APP}&CallbackCommand=Group.CallbackBeforeCreateTopic&contenttype=json&ClientIP=203.0.113.7\
             &OptPlatform=iOS&Sign={sign}&RequestTime={seconds} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }

    /// Sends the request and reads one whole answer; its length.
    async fn exchange(&mut self) -> io::Result<usize> {
        let mut connection = match self.connection.take().filter(is_open) {
            Some(connection) => connection,
            None => connect(self.load.address).await?,
        };
        connection.write_all(&self.request).await?;
        self.answer.clear();
        let length = loop {
            let read = connection.read_buf(&mut self.answer).await?;
            if read == 0 || self.answer.len() > ANSWER_BYTES_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(length) = whole_length(&self.answer)
                && self.answer.len() >= length
            {
                break length;
            }
        };
        self.connection = Some(connection).filter(|_| !is_last(&self.answer));
        Ok(length)
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// A connection that rested may have been closed meanwhile, and a callback sent into it would be the sender's own
/// loss.
fn is_open(connection: &TcpStream) -> bool {
    connection
        .try_read(&mut [0])
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// The name of one of the denied.
pub(crate) fn denied_operator(index: u64) -> String {
    format!("denied-{index}")
}

fn sign(seconds: u64) -> String {
    let digest = Sha256::new()
        .chain_update(TOKEN)
        .chain_update(seconds.to_string())
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the contestant says that it closes the connection behind this answer (RFC 9112, 9.6).
fn is_last(answer: &[u8]) -> bool {
    header(answer, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The length of head and body, once the head is whole.
fn whole_length(answer: &[u8]) -> Option<usize> {
    let length: usize = header(answer, "content-length")?.parse().ok()?;
    Some(head_length(answer)? + length)
}

/// A header's value, once the head is whole.
fn header<'answer>(answer: &'answer [u8], asked: &str) -> Option<&'answer str> {
    let text = std::str::from_utf8(&answer[..head_length(answer)?]).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(asked).then(|| value.trim())
    })
}

fn head_length(answer: &[u8]) -> Option<usize> {
    Some(answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4)
}

#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "ActionStatus")]
    action_status: String,
    #[serde(rename = "ErrorInfo")]
    _error_info: String,
    #[serde(rename = "ErrorCode")]
    error_code: u32,
}

fn judge(answer: &[u8], denied: bool, forged: bool) -> End {
    let status = answer.get(9..12).unwrap_or_default();
    // An honest "not now", whatever was asked: Chat lets the operation through, so it counts as no answer, not as a lie.
    if status.starts_with(b"5") {
        return End::Unanswered;
    }
    if forged {
        return if status == b"403" { End::Refused } else { End::Wrong };
    }
    let body = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .map_or(&[][..], |head| &answer[head + 4..]);
    let Ok(reply) = serde_json::from_slice::<Reply>(body) else {
        return End::Wrong;
    };
    let code = if denied { 10_101 } else { 0 };
    if status == b"200" && reply.action_status == "OK" && reply.error_code == code {
        return End::Answered;
    }
    End::Wrong
}

#[cfg(test)]
mod tests {
    use super::{End, is_last, judge, whole_length};

    const ALLOWED: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"ActionStatus\":\"OK\",\"ErrorInfo\":\"\",\"ErrorCode\":0}";

    #[test]
    fn an_answer_is_whole_when_head_and_body_are_there() {
        assert_eq!(whole_length(&ALLOWED[..30]), None);
        assert_eq!(whole_length(ALLOWED), Some(ALLOWED.len()));
        assert!(!is_last(ALLOWED));
        assert!(is_last(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn every_answer_that_the_contract_does_not_allow_is_wrong() {
        assert!(judge(ALLOWED, false, false) == End::Answered);
        assert!(
            judge(ALLOWED, true, false) == End::Wrong,
            "a denied operator was let through"
        );
        assert!(
            judge(ALLOWED, false, true) == End::Wrong,
            "a forged callback was believed"
        );
        assert!(judge(b"HTTP/1.1 200 OK\r\n\r\n{}", false, false) == End::Wrong);
    }

    #[test]
    fn a_5xx_is_no_answer_whatever_was_asked() {
        for (denied, forged) in [(false, false), (true, false), (false, true)] {
            assert!(judge(b"HTTP/1.1 503 Unavailable\r\n\r\n{}", denied, forged) == End::Unanswered);
        }
    }
}
