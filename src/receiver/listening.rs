use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use portcullis_receiver::Drain;
use socket2::SockRef;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::process::bind;

/// Where callbacks come in, and what becomes of it when this process ends.
pub(super) struct Listening {
    pub(super) socket: TcpListener,
    pub(super) drain: Drain,
}

impl Listening {
    /// On the socket that a supervisor passes as systemd does (`LISTEN_FDS`, `LISTEN_PID`), else at `configured`.
    ///
    /// The passed one wins, whatever its address: whoever passes it holds that address open, and another one would be
    /// where nobody calls. Must be called before there are threads: it reads the environment and clears it.
    pub(super) fn start(configured: SocketAddr) -> Result<Self, Failure> {
        let Some(socket) = passed()? else {
            return Ok(Self {
                socket: bind("receiver.listen", configured)?,
                drain: Drain::Leaving,
            });
        };
        let address = socket.local_addr()?;
        if address == configured {
            info!(%address, "callbacks come in on the socket that was passed");
        } else {
            warn!(%address, %configured, "callbacks come in on the socket that was passed, receiver.listen is not used");
        }
        Ok(Self {
            socket,
            drain: Drain::HandingOver,
        })
    }
}

fn passed() -> Result<Option<TcpListener>, Failure> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        return Err(unusable(&format!("{} of them", passed.len())));
    }
    let socket = passed
        .take_tcp_listener(0)
        .map_err(|error| unusable(&error.to_string()))?;
    match &socket {
        Some(socket) if !SockRef::from(socket).is_listener()? => Err(unusable("a socket that does not listen")),
        _ => Ok(socket),
    }
}

fn unusable(found: &str) -> Failure {
    Failure::Unusable(format!(
        "LISTEN_FDS passes what is not one listening TCP socket: {found}; in the .socket unit write one \
         ListenStream=ADDRESS:PORT and no Accept=yes, or unset LISTEN_FDS"
    ))
}
