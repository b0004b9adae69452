//! TLS: which certificate is shown, for how long it holds, and how it is replaced while connections live.
//!
//! Chat checks the certificate; with one that is over, its calls fail and every operation passes. So a certificate is
//! looked at when the configuration is read, its end is a metric, and the last two weeks are said aloud.
//!
//! A renewed pair of files is noticed as any change of the configuration is, because what they hold is a part of it.
//! Handshakes from then on are made with the new certificate; connections go on. Files that do not belong together, as in
//! the moment between the writing of the two, are refused, and the running pair stays. So does one that holds when what
//! replaces it does not hold at that moment; at start there is nothing to stay with, and an answer to whoever does not
//! check is better than none.

mod expiry;
mod files;
mod handshake;
mod records;

pub(crate) use expiry::Expiry;
pub use files::{Certificate, Untimely};
pub(crate) use handshake::{Handshakes, Spoken};
pub(crate) use records::Whole;
