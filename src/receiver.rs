mod listening;

use std::net::TcpListener;

use clap::Args;
use portcullis_receiver::{Config, Receiver};
use prometheus_client::registry::Registry;
use tracing::warn;

use crate::admin;
use crate::failure::Failure;
use crate::process::{Signals, bind, runtime, told};
use crate::settings::File;
use listening::Listening;

/// The receiver process.
#[derive(Args)]
pub(crate) struct Process {
    #[command(flatten)]
    file: File,
}

impl Process {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.file.load_with_apps()?.receiver;
        let callbacks = Listening::start(config.listen)?;
        let admin = bind("receiver.admin", config.admin)?;
        runtime()?.block_on(serve(config, callbacks, admin))
    }
}

async fn serve(config: Config, callbacks: Listening, admin: TcpListener) -> Result<(), Failure> {
    for (app, _) in config.apps.iter().filter(|(_, tokens)| tokens.accepts_unsigned()) {
        warn!(%app, "callbacks of this app are accepted unsigned: anybody who reaches the address can send them");
    }
    let signals = Signals::listen()?;
    let mut registry = Registry::default();
    let started = Receiver::start(config, callbacks.socket, &mut registry);
    let receiver = started.map_err(|error| Failure::Away(format!("the receiver does not start: {}", told(&error))))?;
    admin::serve(admin, receiver.readiness(), registry)?;
    let namesake = tokio::select! {
        () = signals.stop_requested() => None,
        namesake = receiver.yields_to() => Some(namesake),
    };
    receiver.drain(callbacks.drain).await;
    match namesake {
        None => Ok(()),
        Some(namesake) => Err(Failure::Unusable(format!(
            "receiver.instance: {namesake}; give each receiver a name of its own, or stop one of the two"
        ))),
    }
}
