use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::BaseRecord;
use tracing::error;

use super::{Failed, Follower};
use crate::entry::Entry;
use crate::journal::{Block, Position};
use crate::loss::Loss;
use crate::publisher::client::{Client, Tag};
use crate::publisher::message;

/// Sends a record in one form after the other until one is not too large: in a batch with others, in a batch of its
/// own, as a dead letter, as a dead letter without its body.
impl Follower {
    /// In the form of `tag` or, where that is too large already for the client, in the first one that is not.
    pub(super) fn send(&mut self, client: &mut Client, tag: Tag, entry: &Entry<'_>) -> Result<(), Failed> {
        match self.send_as(client, tag, entry) {
            Err(error) if is_too_large(&error) => match smaller(tag) {
                Some(form) => self.send(client, form, entry),
                None => {
                    self.lose(tag.position(), entry);
                    Ok(())
                }
            },
            sent => sent.map_err(|error| self.refused(client, tag, error)),
        }
    }

    /// What the broker found too large, each in the form that follows.
    pub(super) fn send_smaller(&mut self, client: &mut Client, too_large: Vec<Tag>) -> Result<(), Failed> {
        let mut read: Option<Block> = None;
        for tag in too_large {
            let position = tag.position();
            let Some(first) = self.flight.block_of(position) else {
                continue;
            };
            if read.as_ref().is_none_or(|block| block.first() != first) {
                // What cannot be read now is sent again, and found too large again, when it can be.
                read = self.journal.read(first).map_err(|_| Failed::Away)?;
            }
            let entries = read.iter().flat_map(Block::entries);
            let bytes = entries.filter(|(at, _)| *at == position).map(|(_, bytes)| bytes).next();
            match (bytes.map(Entry::decode), smaller(tag)) {
                (Some(Ok(entry)), Some(form)) => self.send(client, form, &entry)?,
                (Some(Ok(entry)), None) => self.lose(position, &entry),
                (Some(Err(_)) | None, _) => {
                    self.metrics.lost(Loss::Undecodable, 1);
                    self.flight.settle(position);
                }
            }
        }
        Ok(())
    }

    fn send_as(&self, client: &mut Client, tag: Tag, entry: &Entry<'_>) -> KafkaResult<()> {
        let headers = match tag {
            Tag::Record(_) | Tag::Alone(_) | Tag::Ledger(_) => self.headers.of(entry),
            Tag::DeadWhole(_) | Tag::DeadBare(_) => self.headers.of_dead_letter(entry, &self.kafka.topics.callbacks),
        };
        let bare = match tag {
            // A record that cannot be read has no such form.
            Tag::DeadBare(_) => Some(message::without_body(entry).ok_or_else(too_large)?),
            _ => None,
        };
        let message = BaseRecord::with_opaque_to(self.topic(tag), tag.to_opaque())
            .key(&*entry.key)
            .payload(bare.as_deref().unwrap_or(&*entry.payload))
            .timestamp(entry.received_at.as_millis())
            .headers(headers);
        match tag {
            Tag::Record(_) | Tag::Ledger(_) => client.send(message),
            Tag::Alone(_) | Tag::DeadWhole(_) | Tag::DeadBare(_) => client.send_alone(message),
        }
    }

    fn lose(&mut self, position: Position, entry: &Entry<'_>) {
        error!(position, id = %entry.id, bytes = entry.payload.len(), "record is too large even for dead-letters, lost");
        self.metrics.lost(Loss::TooLargeForBroker, 1);
        self.flight.settle(position);
    }

    pub(super) fn refused(&self, client: &Client, tag: Tag, source: KafkaError) -> Failed {
        match client.fatal_error() {
            Some((code, text)) => Failed::Fatal(code, text),
            None => Failed::Refused {
                topic: self.topic(tag).to_owned(),
                source,
            },
        }
    }

    fn topic(&self, tag: Tag) -> &str {
        let topics = &self.kafka.topics;
        match tag {
            Tag::Record(_) | Tag::Alone(_) => &topics.callbacks,
            Tag::DeadWhole(_) | Tag::DeadBare(_) => &topics.dead_letters,
            Tag::Ledger(_) => &topics.ledger,
        }
    }
}

/// The form to try when this one is too large.
fn smaller(tag: Tag) -> Option<Tag> {
    match tag {
        Tag::Record(position) => Some(Tag::Alone(position)),
        Tag::Alone(position) => Some(Tag::DeadWhole(position)),
        Tag::DeadWhole(position) => Some(Tag::DeadBare(position)),
        Tag::DeadBare(_) | Tag::Ledger(_) => None,
    }
}

pub(super) fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

fn too_large() -> KafkaError {
    KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)
}
