//! A body as it comes in: bounded in size and in time.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::patience::Patience;

/// What is read and thrown away behind the limit, so that the caller sees its answer instead of a reset connection.
const DISCARDED_BYTES_MAX: usize = 4 << 20;

/// What came of a body.
pub(crate) struct Received {
    /// The bytes up to the limit.
    pub(crate) bytes: Vec<u8>,
    /// How it ended.
    pub(crate) end: End,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All of it is there.
    Whole,
    /// It is longer than the limit.
    TooLarge {
        /// Whether the rest was read.
        discarded: bool,
    },
    /// It did not end before the deadline, or the connection broke.
    Stalled,
}

impl Received {
    /// Whether the connection has unread bytes of this request before the next one.
    pub(crate) fn must_close(&self) -> bool {
        matches!(self.end, End::Stalled | End::TooLarge { discarded: false })
    }
}

pub(crate) async fn receive(mut body: Incoming, bytes_max: usize, patience: &mut Patience) -> Received {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(bytes_max);
    let mut bytes = Vec::with_capacity(announced.min(bytes_max));
    let mut beyond = 0_usize;
    let end = loop {
        match patience.within(body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_else(|_| Bytes::new());
                let fitting = data.len().min(bytes_max - bytes.len());
                bytes.extend_from_slice(&data[..fitting]);
                beyond += data.len() - fitting;
                if beyond > DISCARDED_BYTES_MAX {
                    break End::TooLarge { discarded: false };
                }
            }
            Ok(None) if beyond > 0 => break End::TooLarge { discarded: true },
            Ok(None) => break End::Whole,
            // Too large and slow: what is known of it suffices.
            Ok(Some(Err(_))) | Err(_) if beyond > 0 => break End::TooLarge { discarded: false },
            Ok(Some(Err(_))) | Err(_) => break End::Stalled,
        }
    };
    Received { bytes, end }
}
