use std::pin::Pin;
use std::task::{Context, Poll};
use std::{io, mem};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Type, version and length of a TLS record (RFC 8446, 5.1).
const HEAD_BYTES: usize = 5;

/// A socket that knows whether what was read from it ends where a TLS record ends. Half a record is half a request that
/// nobody above the encryption can see yet.
pub(crate) struct Whole {
    stream: TcpStream,
    head: [u8; HEAD_BYTES],
    head_read: usize,
    body_left: usize,
}

impl Whole {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: [0; HEAD_BYTES],
            head_read: 0,
            body_left: 0,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.head_read == 0 && self.body_left == 0
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let of_body = bytes.len().min(self.body_left);
                self.body_left -= of_body;
                bytes = &bytes[of_body..];
                continue;
            }
            self.head[self.head_read] = bytes[0];
            self.head_read += 1;
            bytes = &bytes[1..];
            if self.head_read == HEAD_BYTES {
                let [.., high, low] = mem::take(&mut self.head);
                self.head_read = 0;
                self.body_left = u16::from_be_bytes([high, low]).into();
            }
        }
    }
}

impl AsyncRead for Whole {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        self.follow(&into.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Whole {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::{TcpListener, TcpStream};

    use super::Whole;

    fn whole() -> Whole {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let stream = runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            TcpStream::connect(listener.local_addr().expect("an address")).await
        });
        Whole::new(stream.expect("a connection"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn only_the_end_of_a_record_is_whole_however_it_is_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
            piece in 1..400_usize,
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for body in &bodies {
                bytes.extend_from_slice(&[23, 3, 3]);
                bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
                bytes.extend_from_slice(body);
                ends.push(bytes.len());
            }
            let mut whole = whole();
            let mut read = 0;
            for piece in bytes.chunks(piece) {
                whole.follow(piece);
                read += piece.len();
                prop_assert_eq!(whole.is_whole(), ends.contains(&read));
            }
        }
    }
}
