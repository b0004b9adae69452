use std::net::TcpListener;
use std::time::Duration;

use clap::Args;
use portcullis_worker::{Config, Drained, Rules, Worker};
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::process::{Signals, bind, runtime, told};
use crate::settings::File;
use crate::{admin, rules};

/// Below the 30 s that container runtimes wait before they kill.
const LEAVE: Duration = Duration::from_secs(15);
const ALIVE_EVERY: Duration = Duration::from_millis(500);

/// The worker process.
#[derive(Args)]
pub(crate) struct Process {
    #[command(flatten)]
    file: File,
}

impl Process {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.file.load()?.worker;
        let rules = rules::read(&config.rules)?;
        let admin = bind("worker.admin", config.admin)?;
        runtime()?.block_on(serve(config, rules, admin))
    }
}

async fn serve(config: Config, rules: Rules, admin: TcpListener) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let started = Worker::start(config, rules);
    let worker = started.map_err(|error| Failure::Away(format!("the worker does not start: {}", told(&error))))?;
    let mut registry = Registry::default();
    worker.register(&mut registry);
    admin::serve(admin, worker.readiness(), registry)?;
    tokio::select! {
        () = signals.stop_requested() => {}
        () = dead(&worker) => return Err(Failure::Bug),
    }
    match tokio::task::block_in_place(|| worker.drain(LEAVE)) {
        Drained::Left => info!("worker has stopped, everything in hand is written"),
        Drained::Cut => warn!("worker was cut off, the next start reads again what was not committed"),
    }
    Ok(())
}

/// Its thread ends by itself only through a bug; a supervisor then starts the process anew.
async fn dead(worker: &Worker) {
    while worker.is_alive() {
        tokio::time::sleep(ALIVE_EVERY).await;
    }
}
