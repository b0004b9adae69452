mod listening;
mod reloading;

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;

use clap::Args;
use portcullis_receiver::{Config, Receiver, Reloaded};
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::admin;
use crate::failure::Failure;
use crate::process::{Signals, bind, raise_descriptors, runtime, told};
use crate::settings::File;
use listening::Listening;
use reloading::Reloading;

/// The receiver process.
#[derive(Args)]
pub(crate) struct Process {
    #[command(flatten)]
    file: File,
}

impl Process {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.file.load_with_apps()?.receiver;
        let file = self.file;
        raise_descriptors();
        let callbacks = Listening::start(config.listen)?;
        let admin = bind("receiver.admin", config.admin)?;
        runtime()?.block_on(serve(file, config, callbacks, admin))
    }
}

async fn serve(file: File, config: Config, callbacks: Listening, admin: TcpListener) -> Result<(), Failure> {
    warn_of_unsigned(&config);
    let signals = Signals::listen()?;
    let mut reloading = Reloading::of(file, config.clone())?;
    let mut registry = Registry::default();
    let started = Receiver::start(config, callbacks.socket, &mut registry);
    let receiver = started.map_err(|error| Failure::Away(format!("the receiver does not start: {}", told(&error))))?;
    admin::serve(admin, receiver.readiness(), registry)?;
    let stop = pin!(signals.stop_requested());
    let namesake = tokio::select! {
        () = stop => None,
        namesake = receiver.yields_to() => Some(namesake),
        never = reload(&receiver, &mut reloading) => match never {},
    };
    receiver.drain(callbacks.drain).await;
    match namesake {
        None => Ok(()),
        Some(namesake) => Err(Failure::Unusable(format!(
            "receiver.instance: {namesake}; give each receiver a name of its own, or stop one of the two"
        ))),
    }
}

/// Puts every change in force, as far as it can be.
async fn reload(receiver: &Receiver, reloading: &mut Reloading) -> Infallible {
    loop {
        let config = reloading.changed().await;
        warn_of_unsigned(&config);
        match receiver.reload(config) {
            Reloaded::InForce => info!("configuration is in force"),
            Reloaded::NeedsRestart(keys) => warn!(
                changed = keys.join(", "),
                "configuration is in force as far as apps, receiver.fallback and the certificate go; what else has changed needs a restart"
            ),
        }
    }
}

fn warn_of_unsigned(config: &Config) {
    for (app, _) in config.apps.iter().filter(|(_, tokens)| tokens.accepts_unsigned()) {
        warn!(%app, "callbacks of this app are accepted unsigned: anybody who reaches the address can send them");
    }
}
