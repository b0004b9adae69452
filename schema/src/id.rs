//! Ids: UUIDv7, so that they sort by time (RFC 9562, section 5.7).

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::Timestamp;

/// A new id of the moment `at`, random behind its milliseconds.
pub fn random(at: Timestamp) -> Uuid {
    let random = Uuid::new_v4().into_bytes();
    from_parts(at, &random)
}

/// The id of the moment `at` that `parts` always lead to, for what is a function of its causes: whoever concludes the
/// same again, after a crash or in a replay, gives it the same id.
pub fn derived(at: Timestamp, parts: &[&[u8]]) -> Uuid {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    from_parts(at, &digest.finalize())
}

fn from_parts(at: Timestamp, noise: &[u8]) -> Uuid {
    let mut behind = [0; 10];
    behind.copy_from_slice(&noise[..10]);
    let millis = u64::try_from(at.as_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &behind).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::{derived, random};
    use crate::Timestamp;

    #[test]
    fn derived_ids_depend_on_every_part_and_on_nothing_else() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let id = derived(at, &[b"rule", b"record"]);
        assert_eq!(id, derived(at, &[b"rule", b"record"]));
        assert_ne!(id, derived(at, &[b"rulerecord", b""]));
        assert_ne!(
            id,
            derived(Timestamp::from_micros(1_700_000_001_000_000), &[b"rule", b"record"])
        );
        assert_eq!(id.get_version_num(), 7);
    }

    #[test]
    fn ids_sort_by_their_moment() {
        let earlier = random(Timestamp::from_micros(1_700_000_000_000_000));
        let later = random(Timestamp::from_micros(1_700_000_000_001_000));
        assert!(earlier < later);
    }
}
