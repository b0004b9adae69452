//! `portcullis local`: the whole loop in one process, to see it and to try it. An embedded broker, a receiver, a worker
//! and sample traffic; the receiver and the worker are the real ones and know nothing of each other.

mod broker;
mod cast;
mod story;
mod traffic;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use portcullis_receiver::{Drain, Receiver};
use portcullis_schema::{AppId, Readiness, kafka::Kafka, units};
use portcullis_worker::{Rules, Worker};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::process::{Signals, runtime, told};
use crate::settings::{File, Written};
use crate::{admin, process, rules};
use broker::Broker;
use story::{Story, Told};
use traffic::{Tally, Traffic};

const RULES: &str = include_str!("../deploy/rules.toml");
/// The app of the sample traffic where no configuration names one; unsigned, so that a pasted `curl` line works.
const SETTINGS: &str = "[[apps]]\nid = 1400000001\ntokens = []\n";
/// Joining a group takes the embedded broker 3 s; a machine that is busy building something may take longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Runs everything in this process on an embedded broker, with sample traffic. Nothing is kept when it ends.
#[derive(Args)]
pub(crate) struct Local {
    /// End by itself after this time, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// Only what you send yourself
    #[arg(long)]
    no_traffic: bool,
    /// Where callbacks come in [default: 127.0.0.1:8080, or a free port when that is taken]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// A configuration whose apps, limits and fallbacks are used; its Kafka, ports and folders are not
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Rules instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

/// Both processes, not yet ready.
struct Started {
    receiver: Receiver,
    worker: Worker,
    kafka: Kafka,
}

/// All that plays, to be stopped in order.
struct Running {
    receiver: Receiver,
    worker: Worker,
    traffic: Option<Traffic>,
    story: Story,
    began: Instant,
}

/// Where everything is.
struct Addresses {
    callbacks: SocketAddr,
    receiver_admin: SocketAddr,
    worker_admin: SocketAddr,
    kafka: String,
}

impl Local {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let settings = self.written()?.read()?;
        let rules = self.rules()?;
        let Some((app, tokens)) = settings.receiver.apps.first_key_value() else {
            return Err(Failure::Unusable("[[apps]] names no app".to_owned()));
        };
        let (app, unsigned) = (*app, tokens.accepts_unsigned());
        if !unsigned && !self.no_traffic {
            return Err(Failure::Usage(
                "the sample traffic is not signed, and the configuration's first app has tokens: add --no-traffic, or \
                 set tokens = [] for it"
                    .to_owned(),
            ));
        }
        let away = |error: &dyn std::error::Error| Failure::Away(format!("the embedded broker: {}", told(error)));
        let broker = Broker::start(&settings.kafka).map_err(|error| away(&error))?;
        let kafka = broker.reached_by(&settings.kafka);
        let folder = TempDir::with_prefix("portcullis-local-")?;

        let callbacks = self.listener()?;
        let (receiver_admin, worker_admin) = (free_or(9090)?, free_or(9091)?);
        let addresses = Addresses {
            callbacks: callbacks.local_addr()?,
            receiver_admin: receiver_admin.local_addr()?,
            worker_admin: worker_admin.local_addr()?,
            kafka: broker.address(),
        };
        process::raise_descriptors();
        runtime()?.block_on(async {
            let signals = Signals::listen()?;
            let mut receiver_config = settings.receiver;
            receiver_config.kafka = kafka.clone();
            receiver_config.data = folder.path().to_owned();
            let mut registry = Registry::default();
            let receiver = Receiver::start(receiver_config, callbacks, &mut registry)
                .map_err(|error| Failure::Away(format!("the receiver does not start: {}", told(&error))))?;
            admin::serve(receiver_admin, receiver.readiness(), registry)?;

            let mut worker_config = settings.worker;
            worker_config.kafka = kafka.clone();
            let worker = Worker::start(worker_config, rules)
                .map_err(|error| Failure::Away(format!("the worker does not start: {}", told(&error))))?;
            let mut registry = Registry::default();
            worker.register(&mut registry);
            admin::serve(worker_admin, worker.readiness(), registry)?;

            addresses.print(out, app, unsigned)?;
            let started = Started {
                receiver,
                worker,
                kafka,
            };
            self.play(out, started, addresses.callbacks, app, signals).await
        })
    }

    /// Waits until both are ready, lets the traffic play, and stops all in order.
    async fn play(
        &self,
        out: &mut dyn Write,
        started: Started,
        callbacks: SocketAddr,
        app: AppId,
        signals: Signals,
    ) -> Result<(), Failure> {
        let Started {
            receiver,
            worker,
            kafka,
        } = started;
        let latches = [receiver.readiness(), worker.readiness()];
        let mut stop = std::pin::pin!(signals.stop_requested());
        tokio::select! {
            () = &mut stop => return Ok(()),
            ready = all_ready(&latches) => ready?,
        }
        let began = Instant::now();
        let story = Story::start(&kafka, began)
            .map_err(|error| Failure::Away(format!("the embedded broker: {}", told(&error))))?;
        let traffic = match self.no_traffic {
            true => None,
            false => Some(Traffic::start(callbacks, app)?),
        };
        writeln!(out, "   0.0s  ready    {}", self.what_plays())?;
        out.flush()?;
        let running = Running {
            receiver,
            worker,
            traffic,
            story,
            began,
        };
        tokio::select! {
            () = &mut stop => {}
            () = lasting(self.lasts) => {}
        }
        running.stop(out).await
    }

    fn what_plays(&self) -> &'static str {
        if self.no_traffic {
            "waiting for your callbacks; Ctrl-C ends"
        } else {
            "400 ordinary operators make topics, and some who are not ordinary; Ctrl-C ends"
        }
    }

    fn written(&self) -> Result<Written, Failure> {
        match &self.config {
            Some(path) => File::at(path.clone()).written(),
            None => Ok(Written::new("built-in".to_owned(), SETTINGS.to_owned(), Vec::new())),
        }
    }

    fn rules(&self) -> Result<Rules, Failure> {
        match &self.rules {
            Some(path) => rules::read(path),
            None => Ok(Rules::read("built-in", RULES)?),
        }
    }

    fn listener(&self) -> Result<TcpListener, Failure> {
        match self.listen {
            Some(address) => process::bind("--listen", address),
            None => free_or(8080),
        }
    }
}

impl Running {
    /// The callers first, then what answers them, then what reads that; the story last, so that it has all of it.
    async fn stop(self, out: &mut dyn Write) -> Result<(), Failure> {
        self.story.hush();
        let seconds = self.began.elapsed().as_secs_f64();
        writeln!(out, "{seconds:6.1}s  stopping")?;
        out.flush()?;
        let tally = self
            .traffic
            .map(|traffic| tokio::task::block_in_place(|| traffic.stop()));
        let remaining = self.receiver.drain(Drain::Leaving).await;
        let worker = self.worker;
        tokio::task::block_in_place(|| worker.drain(DRAIN_WITHIN));
        let told = tokio::task::block_in_place(|| self.story.stop());
        if let Some(tally) = tally {
            tally.print(out)?;
        }
        told.print(out, remaining.records)?;
        Ok(())
    }
}

impl Addresses {
    fn print(&self, out: &mut dyn Write, app: AppId, unsigned: bool) -> std::io::Result<()> {
        let Self {
            callbacks,
            receiver_admin,
            worker_admin,
            kafka,
        } = self;
        writeln!(
            out,
            "Portcullis in one process, on an embedded broker. Nothing is kept when it ends.\n\n\
             \x20 callbacks  http://{callbacks}  POST on any path\n\
             \x20 receiver   http://{receiver_admin}/ready  /metrics\n\
             \x20 worker     http://{worker_admin}/ready  /metrics\n\
             \x20 Kafka      {kafka}  any client: kcat -b {kafka} -C -t callbacks -e\n"
        )?;
        if unsigned {
            let (you, mallory) = (self.curl(app, "you"), self.curl(app, "mallory"));
            writeln!(
                out,
                "In another terminal, this topic may be made:\n\n  {you}\n\n\
                 and this one is refused, once the abuse below was seen:\n\n  {mallory}\n"
            )?;
        }
        writeln!(out, "Starting; the worker joins its group, which takes some 3 s ...")?;
        out.flush()
    }

    fn curl(&self, app: AppId, operator: &str) -> String {
        let command = "Group.CallbackBeforeCreateTopic";
        format!(
            "curl -s 'http://{}/?SdkAppid={app}&CallbackCommand={command}&contenttype=json&ClientIP=192.0.2.200&\
             OptPlatform=Web' -d '{{\"CallbackCommand\":\"{command}\",\"Operator_Account\":\"{operator}\",\
             \"Type\":\"Community\",\"Name\":\"MyFirstTopic\"}}'",
            self.callbacks
        )
    }
}

impl Tally {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Self {
            allowed,
            refused,
            unanswered,
            slowest,
        } = self;
        let millis = slowest.as_secs_f64() * 1_000.0;
        writeln!(
            out,
            "         answered {} sample callbacks: {allowed} allowed, {refused} refused, {unanswered} without an \
             answer; the slowest took {millis:.1} ms",
            allowed + refused
        )
    }
}

impl Told {
    fn print(&self, out: &mut dyn Write, remaining: u64) -> std::io::Result<()> {
        let Self {
            records,
            findings,
            verdicts,
            dense,
        } = self;
        let holes = if *dense { "without a hole" } else { "WITH HOLES" };
        writeln!(
            out,
            "         in Kafka: {records} records {holes}, {findings} findings, {verdicts} verdicts; {remaining} remain \
             in the journal"
        )
    }
}

async fn all_ready(processes: &[Readiness]) -> Result<(), Failure> {
    let began = Instant::now();
    while !processes.iter().all(Readiness::is_ready) {
        if began.elapsed() > READY_WITHIN {
            let latches: Vec<_> = processes.iter().map(Readiness::latches).collect();
            return Err(Failure::Away(format!("not ready within {READY_WITHIN:?}: {latches:?}")));
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    Ok(())
}

/// For ever without a bound.
async fn lasting(lasts: Option<Duration>) {
    match lasts {
        Some(lasts) => tokio::time::sleep(lasts).await,
        None => std::future::pending().await,
    }
}

/// The port, or any free one where it is taken.
fn free_or(port: u16) -> Result<TcpListener, Failure> {
    let any = |port| TcpListener::bind(("127.0.0.1", port));
    Ok(any(port).or_else(|_| any(0))?)
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| format!("write {}", units::DURATION_FORM))
}
