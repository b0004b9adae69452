use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portcullis_schema::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::call::Call;
use super::contract::Answer;
use super::target::Target;

/// Longer than Chat waits, to tell a late answer from none.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Of an answer: a thousand times the usual one.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection to the receiver, which is kept, and made anew when it is needed and was closed.
pub(super) struct Connection {
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no connection: {0}")]
    Unconnected(#[from] std::io::Error),
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error("it cannot be sent: {0}")]
    Unsendable(#[from] hyper::http::Error),
    #[error("nothing within {} s", ANSWER_MAX.as_secs())]
    Nothing,
    #[error("longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("its body breaks off: {0}")]
    BreaksOff(String),
}

impl Connection {
    /// Tries to; what fails is tried again, and told, when something is to be sent.
    pub(super) async fn open(target: &Target) -> Self {
        let connecting = timeout(ANSWER_MAX, connect(target)).await;
        Self {
            sender: connecting.ok().and_then(Result::ok),
        }
    }

    pub(super) async fn post(&mut self, target: &Target, call: &Call) -> Result<Answer, Unanswered> {
        match timeout(ANSWER_MAX, self.exchange(target, call)).await {
            Ok(answered) => answered,
            Err(_) => {
                // What was asked is still under way on it.
                self.sender = None;
                Err(Unanswered::Nothing)
            }
        }
    }

    async fn exchange(&mut self, target: &Target, call: &Call) -> Result<Answer, Unanswered> {
        // Not one that the receiver has closed meanwhile.
        let kept = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        let sender = match self.sender.take().filter(|_| kept) {
            Some(sender) => sender,
            None => connect(target).await?,
        };
        let sender = self.sender.insert(sender);
        let request = Request::post(target.of(call, Timestamp::now()))
            .header(HOST, target.host())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(call.body.clone()))?;
        read(sender.send_request(request).await?).await
    }
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>, Unanswered> {
    let stream = TcpStream::connect(target.host()).await?;
    stream.set_nodelay(true)?;
    match target.tls() {
        Some((connector, name)) => begin(TokioIo::new(connector.connect(name.clone(), stream).await?)).await,
        None => begin(TokioIo::new(stream)).await,
    }
}

async fn begin(stream: impl Read + Write + Unpin + Send + 'static) -> Result<SendRequest<Full<Bytes>>, Unanswered> {
    let (sender, connection) = handshake(stream).await?;
    // Ends with the sender; what goes wrong is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(answer: Response<Incoming>) -> Result<Answer, Unanswered> {
    let (head, body) = answer.into_parts();
    let content_type = head.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => Unanswered::TooLong,
        false => Unanswered::BreaksOff(error.to_string()),
    })?;
    Ok(Answer {
        status: head.status.as_u16(),
        content_type: content_type.to_owned(),
        body: body.to_bytes().to_vec(),
    })
}
