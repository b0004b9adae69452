//! What the journal keeps of a message, so that the publisher can produce it without reading its JSON again.
//!
//! Layout, integers big-endian: kind (1 byte), id (16), `received_at` in microseconds (8), length of the key (2),
//! length of the command (2), key, command, payload up to the end. A new layout is a new kind.

use std::borrow::Cow;

use portcullis_schema::{Timestamp, Uuid};

const HEAD_BYTES: usize = 1 + 16 + 8 + 2 + 2;

/// A message on its way to Kafka. Read from the journal it borrows the block's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'bytes> {
    /// Where it goes.
    pub kind: Kind,
    /// The record's id; of a ledger entry, one of its own.
    pub id: Uuid,
    /// The record's `received_at`, the ledger entry's `at`: the message's timestamp.
    pub received_at: Timestamp,
    /// The message's key, at most 64 KiB; longer ones are cut at a character.
    pub key: Cow<'bytes, str>,
    /// The record's command, at most 64 KiB; longer ones are cut at a character. A ledger entry has none.
    pub command: Cow<'bytes, str>,
    /// The record or ledger entry as JSON.
    pub payload: Cow<'bytes, [u8]>,
}

/// What a message is. The values stand in journals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An audit record, for `callbacks`.
    Record = 1,
    /// A ledger entry, for `ledger`.
    Ledger = 2,
}

/// The bytes are no entry: the journal's own checksums held, so another version wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of kind {kind} are no entry")]
pub struct EntryError {
    bytes: usize,
    kind: u8,
}

impl<'bytes> Entry<'bytes> {
    /// As the journal keeps it.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with_room(0)
    }

    /// The same, with room for so many bytes more: what is written behind it belongs to the payload.
    pub fn encode_with_room(&self, room: usize) -> Vec<u8> {
        let (key, command) = (sized(&self.key), sized(&self.command));
        let text_bytes = key.1.len() + command.1.len();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + text_bytes + self.payload.len() + room);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.received_at.as_micros().to_be_bytes());
        bytes.extend_from_slice(&key.0.to_be_bytes());
        bytes.extend_from_slice(&command.0.to_be_bytes());
        bytes.extend_from_slice(key.1.as_bytes());
        bytes.extend_from_slice(command.1.as_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// From what the journal kept.
    pub fn decode(bytes: &'bytes [u8]) -> Result<Self, EntryError> {
        Self::read(bytes).ok_or(EntryError {
            bytes: bytes.len(),
            kind: bytes.first().copied().unwrap_or_default(),
        })
    }

    fn read(bytes: &'bytes [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let kind = match kind {
            1 => Kind::Record,
            2 => Kind::Ledger,
            _ => return None,
        };
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (micros, rest) = rest.split_first_chunk::<8>()?;
        let (key_length, rest) = rest.split_first_chunk::<2>()?;
        let (command_length, rest) = rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*key_length).into())?;
        let (command, payload) = rest.split_at_checked(u16::from_be_bytes(*command_length).into())?;
        Some(Self {
            kind,
            id: Uuid::from_bytes(*id),
            received_at: Timestamp::from_micros(i64::from_be_bytes(*micros)),
            key: std::str::from_utf8(key).ok()?.into(),
            command: std::str::from_utf8(command).ok()?.into(),
            payload: payload.into(),
        })
    }

    /// With bytes of its own.
    pub fn into_owned(self) -> Entry<'static> {
        Entry {
            kind: self.kind,
            id: self.id,
            received_at: self.received_at,
            key: self.key.into_owned().into(),
            command: self.command.into_owned().into(),
            payload: self.payload.into_owned().into(),
        }
    }
}

/// The text within what its length can say, and that length.
fn sized(text: &str) -> (u16, &str) {
    let fitting = &text[..text.floor_char_boundary(u16::MAX.into())];
    (u16::try_from(fitting.len()).unwrap_or(u16::MAX), fitting)
}

#[cfg(test)]
mod tests {
    use portcullis_schema::{Timestamp, Uuid};
    use proptest::prelude::*;

    use super::{Entry, Kind};

    proptest! {
        #[test]
        fn what_is_encoded_decodes_the_same(
            ledger: bool, id: [u8; 16], micros: i64, key in "\\PC{0,20}", command in "\\PC{0,20}", payload: Vec<u8>,
        ) {
            let received_at = Timestamp::from_micros(micros);
            let kind = if ledger { Kind::Ledger } else { Kind::Record };
            let (key, command, payload) = (key.into(), command.into(), payload.into());
            let entry = Entry { kind, id: Uuid::from_bytes(id), received_at, key, command, payload };
            let bytes = entry.encode();
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        }

        #[test]
        fn bytes_that_are_no_entry_are_refused_without_a_panic(bytes: Vec<u8>) {
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_key_of_any_length_is_kept_as_far_as_it_fits() {
        let entry = Entry {
            kind: Kind::Record,
            id: Uuid::nil(),
            received_at: Timestamp::default(),
            key: "ü".repeat(40_000).into(),
            command: "".into(),
            payload: b"{}".into(),
        };
        let bytes = entry.encode();
        let kept = Entry::decode(&bytes).expect("an entry");
        assert_eq!(kept.key, "ü".repeat(32_767));
        assert_eq!(kept.payload, entry.payload);
    }
}
