//! A body as it comes in: bounded in size and in time.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::patience::Patience;

/// What is read and thrown away behind the limit, so that the caller sees its answer instead of a reset connection.
const DISCARDED_BYTES_MAX: usize = 4 << 20;

/// What came of a body.
pub(crate) struct Received {
    /// The bytes up to the limit. Of a body that came at once they are those that were read from the connection.
    pub(crate) bytes: Bytes,
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

pub(crate) fn receive(
    mut body: Incoming,
    bytes_max: usize,
    patience: &mut Patience,
) -> impl Future<Output = Received> + use<'_> {
    let mut bytes = Bounded {
        held: Bytes::new(),
        beyond: 0,
        bytes_max,
    };
    async move {
        let end = loop {
            // Known where the length is announced: the end needs no look of its own.
            if body.is_end_stream() {
                break bytes.end();
            }
            match patience.within(body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    bytes.append(frame.into_data().unwrap_or_else(|_| Bytes::new()));
                    if bytes.beyond > DISCARDED_BYTES_MAX {
                        break End::TooLarge { discarded: false };
                    }
                }
                Ok(None) => break bytes.end(),
                // Too large and slow: what is known of it suffices.
                Ok(Some(Err(_))) | Err(_) if bytes.beyond > 0 => break End::TooLarge { discarded: false },
                Ok(Some(Err(_))) | Err(_) => break End::Stalled,
            }
        };
        Received { bytes: bytes.held, end }
    }
}

/// What has come of a body: held up to the limit, counted behind it.
struct Bounded {
    held: Bytes,
    beyond: usize,
    bytes_max: usize,
}

impl Bounded {
    fn append(&mut self, mut data: Bytes) {
        let fitting = data.len().min(self.bytes_max - self.held.len());
        self.beyond += data.len() - fitting;
        data.truncate(fitting);
        if self.held.is_empty() {
            self.held = data;
            return;
        }
        // Its own from the second piece on, so that only the first of them is copied for it.
        let mut whole = BytesMut::from(std::mem::take(&mut self.held));
        whole.extend_from_slice(&data);
        self.held = whole.freeze();
    }

    /// Where the body has ended.
    fn end(&self) -> End {
        match self.beyond {
            0 => End::Whole,
            _ => End::TooLarge { discarded: true },
        }
    }
}
