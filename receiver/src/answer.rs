//! One request: who calls, what is decided, what is kept, what goes back. Reads like its own summary; what it takes to
//! parse, to decide, to keep and to reply stands in the modules of those names.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use portcullis_schema::{AppId, Command, DecidedBy, Effect, Rung, Timestamp};
use tokio::time::Instant;

use crate::authenticity::Authenticity;
use crate::budget::Budget;
use crate::callback::{self, Callback, Caller, Forged, Query};
use crate::config::Tokens;
use crate::decision::{Decision, Decisions, Question};
use crate::journal::{Journal, State as JournalState};
use crate::loss::Loss;
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::overload::Overload;
use crate::patience::Patience;
use crate::received::{self, End, Received};
use crate::record::{self, Boot, Unnumbered};
use crate::recording::Recording;
use crate::reply::{self, Reply};

/// What answering needs. One for all requests.
pub(crate) struct Answering {
    /// Replaced as a whole when the configuration is reloaded.
    pub(crate) apps: ArcSwap<BTreeMap<AppId, Tokens>>,
    /// How long a callback may wait for its body and for the disk.
    pub(crate) patience: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) decisions: Decisions,
    pub(crate) boot: Boot,
    pub(crate) journal: Journal,
    pub(crate) metrics: Metrics,
    pub(crate) forged_budget: Budget,
    pub(crate) authenticity: Authenticity,
    pub(crate) overload: Overload,
}

/// What one callback led to, before it is kept.
struct Judged {
    command: Command,
    reply: Reply,
    outcome: Outcome,
    rung: Rung,
    entry: Option<Unnumbered>,
}

/// What the head of a request leads to.
enum Head {
    Callback(Announced, Incoming),
    /// It is none, or not from Chat.
    Over(Reply),
}

/// A callback whose body is still to come.
struct Announced {
    caller: Caller,
    /// What is kept of its query.
    query: BTreeMap<String, String>,
    received_at: Timestamp,
    began: Instant,
}

/// `patience` is the connection's, where it brings one callback at a time; `then` gets it back with the reply.
///
/// The head is read at once, and nothing of it is kept that a record does not need. What a callback holds while it waits
/// for the disk stands beside what hundreds of others hold: beyond the processor's own cache each further line of it
/// costs as much as a hundred instructions.
pub(crate) fn answer<R>(
    app: Arc<Answering>,
    request: Request<Incoming>,
    mut patience: Patience,
    then: impl FnOnce(Reply, Patience) -> R,
) -> impl Future<Output = R> {
    let head = app.read_head(request);
    async move {
        let (announced, body) = match head {
            Head::Callback(announced, body) => (announced, body),
            Head::Over(reply) => return then(reply, patience),
        };
        let began = announced.began;
        patience.lasts_until(began + app.patience);
        let received = received::receive(body, app.body_bytes_max, &mut patience).await;
        let closing = received.must_close();
        let judged = app.judge(announced, received);
        if let Some(entry) = judged.entry {
            let recording = app.record(entry);
            // A full or broken journal is not waited for: the record stays in its queue, or is counted as lost; nor is any
            // when there is no time to wait in. Otherwise the answer goes first only past its deadline, and the record follows.
            if judged.rung < Rung::JournalFull {
                let _late = patience.within(recording).await;
            }
        }
        app.metrics.answered(&judged.command, judged.outcome, began.elapsed());
        if judged.rung == Rung::Overloaded {
            app.overload.answered();
        }
        let reply = match closing {
            true => reply::closing(judged.reply),
            false => judged.reply,
        };
        then(reply, patience)
    }
}

/// A body that nobody reads ends its connection, and that is said: a proxy may send Chat's next callback on it.
fn unread(body: &Incoming, reply: Reply) -> Reply {
    match body.is_end_stream() {
        true => reply,
        false => reply::closing(reply),
    }
}

/// The answer to what is no callback at all: a browser, the console's probe.
fn no_callback(method: &Method, query: &Query<'_>, body: &Incoming) -> Option<Reply> {
    match *method {
        Method::POST if query.claims_nothing() && body.is_end_stream() => Some(reply::alive()),
        Method::POST => None,
        Method::GET | Method::HEAD => Some(reply::alive()),
        _ => {
            let mut refused = reply::refused(StatusCode::METHOD_NOT_ALLOWED, "callbacks are sent by POST");
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("POST, GET, HEAD"));
            Some(refused)
        }
    }
}

impl Answering {
    /// Step 2, up to the body.
    fn read_head(&self, request: Request<Incoming>) -> Head {
        let (received_at, began) = (Timestamp::now(), Instant::now());
        let (head, body) = request.into_parts();
        let mut query = Query::parse(head.uri.query().unwrap_or_default());
        if let Some(reply) = no_callback(&head.method, &query, &body) {
            return Head::Over(unread(&body, reply));
        }
        let caller = match Caller::authenticate(&mut query, &self.apps.load(), received_at) {
            Ok(caller) => caller,
            Err(forged) => return Head::Over(unread(&body, self.turn_away(query, &forged, received_at, began))),
        };
        self.authenticity.holds(caller.app);
        let announced = Announced {
            caller,
            query: query.into_others(),
            received_at,
            began,
        };
        Head::Callback(announced, body)
    }

    /// Decides and encodes. Nothing in here is meant to panic; if it does, Chat still gets its answer and the record
    /// that is missing is counted.
    fn judge(&self, announced: Announced, received: Received) -> Judged {
        let command = announced.caller.command.clone();
        let judging = AssertUnwindSafe(|| self.judge_unguarded(announced, received));
        catch_unwind(judging).unwrap_or_else(|_| {
            self.lose(Loss::Panic);
            Judged {
                reply: reply::to_decision(&command, &[], &self.decisions.fall_back(&command)),
                command,
                outcome: Outcome::Panicked,
                rung: Rung::Normal,
                entry: None,
            }
        })
    }

    fn judge_unguarded(&self, announced: Announced, received: Received) -> Judged {
        let Announced {
            caller,
            query,
            received_at,
            ..
        } = announced;
        let end = received.end;
        let body = callback::Body::parse(&received.bytes, self.body_bytes_max);
        let callback = Callback::new(caller, query, body);
        let rung = self.rung();
        let decision = match rung {
            Rung::Overloaded => self.decisions.fall_back(callback.command()),
            _ => self.decisions.decide(&question(&callback, end), received_at),
        };
        let outcome = outcome(&callback, end, rung, &decision);
        let reply = reply::to_decision(callback.command(), &callback.items, &decision);
        let command = callback.command().clone();
        let record = self.boot.record(callback, &decision, outcome, rung, received_at);
        Judged {
            command,
            reply,
            outcome,
            rung,
            entry: self.encoded(&record),
        }
    }

    /// 403: the sender is not Chat. Recorded within a budget, so that it cannot fill the journal; not at all where the
    /// memory in front of it is the last place that a callback's record has.
    fn turn_away(&self, query: Query<'_>, forged: &Forged, at: Timestamp, began: Instant) -> Reply {
        let (app, command) = query.claims();
        let (app, command) = (
            app.and_then(|text| text.parse().ok()),
            Command::parse(command.unwrap_or_default()),
        );
        let ahead_seconds = query.ahead_seconds(at);
        self.authenticity.fails(app, forged, ahead_seconds, began.into_std());
        let rung = self.rung();
        if rung < Rung::JournalFull && self.forged_budget.take(began.into_std()) {
            let record = self.boot.record_of_forged(query, Outcome::Forged, rung, at);
            if let Some(entry) = self.encoded(&record) {
                drop(self.record(entry));
            }
        } else {
            self.metrics.forged_unrecorded();
        }
        self.metrics.answered(&command, Outcome::Forged, began.elapsed());
        reply::refused(StatusCode::FORBIDDEN, &forged.to_string())
    }

    fn record(&self, entry: Unnumbered) -> Recording {
        let append = self.journal.append_with(|| entry.numbered(self.boot.next_seq()));
        Recording::of(append, self.metrics.losses())
    }

    fn encoded(&self, record: &portcullis_schema::AuditRecord) -> Option<Unnumbered> {
        match record::encode(record) {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::error!(%error, id = %record.id, "record cannot be encoded");
                self.lose(Loss::Unencodable);
                None
            }
        }
    }

    /// A record that never came as far as the journal: counted, and missing in the sequence.
    fn lose(&self, reason: Loss) {
        self.boot.next_seq();
        self.metrics.lost(reason);
    }

    /// The highest one where several hold.
    fn rung(&self) -> Rung {
        if self.overload.is_now() {
            return Rung::Overloaded;
        }
        match self.journal.state() {
            JournalState::Normal => Rung::Normal,
            JournalState::Slow => Rung::JournalSlow,
            JournalState::Overrun | JournalState::Full | JournalState::Broken => Rung::JournalFull,
        }
    }

    /// Watches the rung, also while nobody calls, what the journal cannot say itself while it hangs, and whether losses
    /// are over. Never returns.
    pub(crate) async fn watch_rung(&self, reply_deadline: Duration) {
        let looked = || {
            self.metrics.rung(self.rung());
            self.journal.look();
            self.metrics.look();
        };
        self.overload.watch(reply_deadline, looked).await;
    }
}

fn question(callback: &Callback, end: End) -> Question<'_> {
    Question {
        app: callback.app(),
        command: callback.command(),
        operator: callback.operator(),
        client_ip: callback.client_ip(),
        name: callback.name(),
        items: &callback.items,
        readable: end == End::Whole && callback.is_json,
    }
}

/// What hinders a normal answer is told before what was answered.
fn outcome(callback: &Callback, end: End, rung: Rung, decision: &Decision) -> Outcome {
    match end {
        End::TooLarge { .. } => Outcome::TooLarge,
        End::Stalled => Outcome::Stalled,
        End::Whole if !callback.is_json => Outcome::Unreadable,
        End::Whole if rung == Rung::Overloaded => Outcome::Overloaded,
        End::Whole if decision.effect != Effect::Allow || !decision.refused.is_empty() => Outcome::Denied,
        End::Whole if decision.by == DecidedBy::Fallback => Outcome::Fallback,
        End::Whole => Outcome::Allowed,
    }
}
