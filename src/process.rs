//! What every long-running command has in common: its addresses, its threads, its end.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::failure::Failure;

/// What a shell reports for a process that SIGINT ended.
const ENDED_AT_ONCE: i32 = 130;

/// Connections that the kernel holds until they are accepted, as far as `net.core.somaxconn` lets it; 4096 is its usual
/// value. The standard library asks for 128, and who calls beyond that is not refused but not heard: the caller's kernel
/// tries again after a second, half of what Chat waits for an answer.
const UNACCEPTED_MAX: i32 = 4_096;

/// Listens at `address`, which `key` of the configuration names.
pub(crate) fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let listening = TcpListener::bind(address).and_then(|listener| {
        // On a socket that listens already this only changes the number.
        SockRef::from(&listener).listen(UNACCEPTED_MAX)?;
        Ok(listener)
    });
    listening.map_err(|error| {
        Failure::Away(match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{key}: another process listens at {address}; stop it, or set {key} to another address")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!(
                    "{key}: this machine has no address {}; 0.0.0.0 stands for all it has",
                    address.ip()
                )
            }
            _ => format!("{key}: cannot listen at {address}: {error}"),
        })
    })
}

/// Lets this process have as many file descriptors as it may: each connection takes one. The limit that a process starts
/// with, usually 1,024, is for those that use `select`.
pub(crate) fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "limit of file descriptors stays as it was");
    }
}

/// As many threads as the machine has cores.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// An error with all its causes, in one line.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

/// The signals that ask the process to stop, heard from the moment it listens for them.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Must be called within a tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns at the first one. The second one ends the process at once: a person who asks twice means it, and
    /// nothing that was answered is lost by it.
    pub(crate) async fn stop_requested(mut self) {
        self.next().await;
        info!("stopping; a second signal ends at once");
        tokio::spawn(async move {
            self.next().await;
            warn!("ended at once");
            std::process::exit(ENDED_AT_ONCE);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
