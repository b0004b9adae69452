//! Knows all parts of a receiver, and starts and stops them in order.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use portcullis_schema::{Readiness, Timestamp, Uuid};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::answer::Answering;
use crate::authenticity::Authenticity;
use crate::budget::Budget;
use crate::config::Config;
use crate::decision::Decisions;
use crate::drain::Drain;
use crate::instance::{Instance, Namesake, Namesakes};
use crate::journal::{self, Journal, OpenError};
use crate::ledger::{Former, Ledger, Speaker};
use crate::loss::Losses;
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::publisher::{Publisher, PublisherMetrics};
use crate::record::Boot;
use crate::server::Server;
use crate::tls::{Expiry, Handshakes};
use crate::verdicts::{self, Verdicts};

/// Records of requests that are not from Chat: enough to see who tries what. Each has at most 6 KiB of query and a
/// kilobyte of all else, so these are 4 MB a minute at the most.
const FORGED_PER_SECOND: u32 = 10;
const FORGED_BURST: u32 = 100;
/// The share of the reply's deadline that is kept for deciding and for the way back through a busy machine.
const REPLY_SHARE: u32 = 10;

/// A running receiver.
pub struct Receiver {
    server: Server,
    journal: Journal,
    publisher: Publisher,
    verdicts: Verdicts,
    ledger: Ledger,
    instance: Instance,
    readiness: Readiness,
    boot: Uuid,
    answering: Arc<Answering>,
    /// Of the rung.
    watching: JoinHandle<()>,
    tls: Option<(Handshakes, Expiry)>,
    /// As it started; what can be reloaded stands in `answering`.
    config: Config,
}

/// Why a receiver does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("receiver.data: {folder} cannot be created")]
    Data {
        /// As configured.
        folder: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The journal cannot be opened.
    #[error("the journal cannot be opened")]
    Journal(#[source] OpenError),
    /// The certificate cannot be used.
    #[error("receiver.tls: the certificate cannot be used")]
    Tls(#[source] rustls::Error),
    /// A thread or the listener was refused by the system.
    #[error("the system refused a thread or a socket")]
    System(#[source] std::io::Error),
}

/// What a stop leaves for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Records that are in the journal and not yet in Kafka.
    pub records: u64,
}

/// What became of another configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// All of it holds from here on.
    InForce,
    /// Apps, fallback and certificate do; these keys hold from the next start on.
    NeedsRestart(Vec<&'static str>),
}

impl Receiver {
    /// Starts every part; `listener` is bound already. Must be called within a tokio runtime.
    pub fn start(config: Config, listener: TcpListener, registry: &mut Registry) -> Result<Self, StartError> {
        let now = Timestamp::now();
        std::fs::create_dir_all(&config.data).map_err(|source| StartError::Data {
            folder: config.data.display().to_string(),
            source,
        })?;
        let journal = open_journal(&config)?;
        journal.register(registry);
        let losses = Losses::new(registry);
        let publisher_metrics = PublisherMetrics::new(registry, losses.clone());
        let metrics = Metrics::new(registry, losses.clone());
        let readiness = Readiness::default();
        let boot = Boot::new(config.instance.clone(), now);
        let former = Former::read(config.data.join("boots"), &journal);
        former.remember(boot.id());
        let speaker = Speaker {
            boot: boot.clone(),
            host: config.host.clone(),
            journal: journal.clone(),
            losses,
        };
        let ledger = Ledger::start(speaker, &former);
        let namesakes = Namesakes::new(config.instance.clone(), boot.id(), former.boots());
        let instance =
            Instance::start(config.kafka.clone(), namesakes, readiness.clone()).map_err(StartError::System)?;
        let (decisions, keeper) = Decisions::new(config.verdicts_max, config.fallback.clone());
        let publisher = Publisher::start(&config.kafka, &config.instance, journal.clone(), publisher_metrics)
            .map_err(StartError::System)?;
        let verdicts = Verdicts::start(verdicts::Options {
            kafka: config.kafka.clone(),
            snapshot: config.data.join("verdicts.snapshot"),
            stale: config.stale_verdicts,
            decisions: decisions.clone(),
            keeper,
            readiness: readiness.clone(),
            metrics: metrics.clone(),
        })
        .map_err(StartError::System)?;
        let answering = Arc::new(Answering {
            apps: ArcSwap::from_pointee(config.apps.clone()),
            patience: config.reply_deadline - config.reply_deadline / REPLY_SHARE,
            body_bytes_max: config.body_bytes_max,
            decisions,
            boot: boot.clone(),
            journal: journal.clone(),
            metrics,
            forged_budget: Budget::new(FORGED_PER_SECOND, FORGED_BURST, Instant::now()),
            authenticity: Authenticity::new(&config.apps, registry),
            overload: Overload::default(),
        });
        let (watched, deadline) = (Arc::clone(&answering), config.reply_deadline);
        let watching = tokio::spawn(async move { watched.watch_rung(deadline).await });
        let tls = start_tls(&config, registry)?;
        let handshakes = tls.as_ref().map(|(handshakes, _)| handshakes.clone());
        let server = Server::start(
            listener,
            Arc::clone(&answering),
            config.connections_max,
            handshakes,
            registry,
        )
        .map_err(StartError::System)?;
        readiness.set("accepting", "callbacks are accepted");
        info!(receiver = config.instance, boot = %boot.id(), "receiver has started");
        Ok(Self {
            server,
            journal,
            publisher,
            verdicts,
            ledger,
            instance,
            readiness,
            boot: boot.id(),
            answering,
            watching,
            tls,
            config,
        })
    }

    /// The latches of `/ready`.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The id of this start, as it stands in records.
    pub fn boot(&self) -> Uuid {
        self.boot
    }

    /// Takes over whose callbacks are taken and what is answered when no decision can be made, for every callback from
    /// here on, and which certificate is shown, for every connection.
    pub fn reload(&self, config: Config) -> Reloaded {
        let Config {
            apps, fallback, tls, ..
        } = &config;
        self.answering.apps.store(Arc::new(apps.clone()));
        self.answering.authenticity.set_apps(apps);
        self.answering.decisions.set_fallback(fallback.clone());
        if let (Some((handshakes, expiry)), Some(certificate)) = (&self.tls, tls)
            && handshakes.show(certificate)
        {
            expiry.of(certificate);
        }
        let fixed = self.config.fixed_that_differ(&config);
        if fixed.is_empty() {
            Reloaded::InForce
        } else {
            Reloaded::NeedsRestart(fixed)
        }
    }

    /// Returns when another receiver of the same instance name runs and this one, not ready yet, has to yield to it: the
    /// caller should drain and end.
    pub async fn yields_to(&self) -> Namesake {
        let mut found = self.instance.found();
        match found.wait_for(Option::is_some).await.map(|namesake| namesake.clone()) {
            Ok(Some(namesake)) => namesake,
            // The listener is gone: there is nobody who could find one.
            _ => std::future::pending().await,
        }
    }

    /// Ends in order: not ready, every connection ended by an answer, no new ones, the ledger told, the journal sealed,
    /// what it holds published within a bound, the journal closed. What remains is published by the next start.
    pub async fn drain(self, drain: Drain) -> Remaining {
        self.readiness.unset("accepting", "the receiver is stopping");
        self.server.drain(drain).await;
        self.ledger.stop();
        self.instance.stop();
        let rest = move || {
            self.verdicts.ask_to_stop();
            self.journal.seal();
            let records = self.publisher.drain(drain.catch_up()).records;
            self.verdicts.stop();
            Remaining { records }
        };
        // Joins threads and waits for Kafka: not on a thread of the runtime.
        let stopped = tokio::task::spawn_blocking(rest).await;
        // Not before: it says that a stop waits for the disk.
        self.watching.abort();
        let losses = self.answering.metrics.losses();
        losses.end();
        let Ok(remaining) = stopped else {
            error!("stopping failed, the next start publishes what remains");
            return Remaining { records: 0 };
        };
        match remaining.records {
            0 if losses.so_far().is_empty() => info!("receiver has stopped, every record is in Kafka"),
            0 => warn!("receiver has stopped, every record that is not lost is in Kafka"),
            records => {
                let journal = self.config.data.join("journal");
                warn!(records, journal = %journal.display(), "receiver has stopped, the next start publishes what remains");
            }
        }
        remaining
    }
}

fn start_tls(config: &Config, registry: &mut Registry) -> Result<Option<(Handshakes, Expiry)>, StartError> {
    let Some(certificate) = &config.tls else {
        return Ok(None);
    };
    let handshakes = Handshakes::new(certificate, registry).map_err(StartError::Tls)?;
    Ok(Some((handshakes, Expiry::new(certificate, registry))))
}

fn open_journal(config: &Config) -> Result<Journal, StartError> {
    let options = journal::Options {
        directory: config.data.join("journal"),
        bytes_max: config.journal_bytes_max,
        durability: config.journal_durability,
    };
    Journal::open(options).map_err(StartError::Journal)
}
