use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::Callback;

/// Chat gives up after 2 s. A test machine that is busy with other things gets longer, and no speed is asserted.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays Chat over one connection that it keeps, byte for byte: no HTTP library adds a header or mends a request.
pub(crate) struct Caller {
    address: SocketAddr,
    patience: Duration,
    connection: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The header lines, in lower case.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Caller {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            patience: PATIENCE,
            connection: None,
        }
    }

    /// Gives up after `patience`.
    pub(crate) fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Posts it; panics without an answer.
    #[track_caller]
    pub(crate) fn post(&mut self, callback: &Callback) -> Answer {
        self.send(&callback.request())
    }

    /// Sends these bytes; panics without an answer.
    #[track_caller]
    pub(crate) fn send(&mut self, request: &[u8]) -> Answer {
        self.exchange(request).expect("an answer")
    }

    /// Sends these bytes and reads the answer, if there is one.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(request)?;
        let answer = Answer::read(&mut connection, !request.starts_with(b"HEAD"))?;
        if !answer.closes() {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// Sends the beginning of a request on a connection of its own; [`Caller::exchange`] sends the rest.
    pub(crate) fn begin(&mut self, bytes: &[u8]) {
        let mut connection = self.connect().expect("a connection");
        connection.get_mut().write_all(bytes).expect("written");
        self.connection = Some(connection);
    }

    /// Closes the connection, if there is one.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Gives up a connection that was closed from the other side, as every HTTP client does before it writes.
    pub(crate) fn look(&mut self) {
        let still_open = |connection: &mut BufReader<TcpStream>| {
            let stream = connection.get_mut();
            stream.set_nonblocking(true)?;
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            peeked
        };
        if let Some(connection) = &mut self.connection {
            let looked = still_open(connection);
            if looked.is_ok() || looked.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                self.connection = None;
            }
        }
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

impl Answer {
    /// Whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.headers.iter().any(|header| header == "connection: close")
    }

    /// `ErrorCode` and `ErrorInfo`; panics unless the answer is in Chat's contract: 200, JSON, its three fields.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (i64, String) {
        self.in_contract()
            .unwrap_or_else(|| panic!("not in the contract: {self:?}"))
    }

    /// The same; `None` unless the answer is in Chat's contract.
    pub(crate) fn in_contract(&self) -> Option<(i64, String)> {
        let json = self
            .headers
            .iter()
            .any(|header| header == "content-type: application/json");
        let reply: Value = serde_json::from_str(&self.body).ok()?;
        let three = reply.as_object().is_some_and(|fields| fields.len() == 3);
        if self.status != 200 || !json || !three || reply["ActionStatus"] != "OK" {
            return None;
        }
        Some((reply["ErrorCode"].as_i64()?, reply["ErrorInfo"].as_str()?.to_owned()))
    }

    /// `ErrorCode`, 0 where the callback may go on; panics like [`Answer::refusal`].
    #[track_caller]
    pub(crate) fn code(&self) -> i64 {
        self.refusal().0
    }

    pub(super) fn read(connection: &mut impl BufRead, has_body: bool) -> io::Result<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers: Vec<String> = lines.iter().skip(1).map(|line| line.to_lowercase()).collect();
        let length = headers
            .iter()
            .find_map(|header| header.strip_prefix("content-length: ")?.parse::<u64>().ok());
        let mut body = String::new();
        if has_body {
            connection.take(length.unwrap_or(0)).read_to_string(&mut body)?;
            if body.len() as u64 != length.unwrap_or(0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { status, headers, body })
    }
}
