use std::collections::BTreeMap;

use portcullis_schema::{AuditRecord, Uuid};

use crate::callers::of_name;
use crate::support::{Kafka, Kept, Topic};

/// Of a partition at a time, so that a fault that is due is not late for it: some 50 ms of work.
const MESSAGES_MAX: usize = 50;
/// Nobody reads more of what should not be there.
const STRANGE_MAX: usize = 10;

/// What is in the topic `callbacks`, read as it comes and reduced to what the check needs: 16 bytes and a bit for each
/// record.
pub(crate) struct Seen {
    /// Each partition by a client of its own: where a broker that comes back does not know the leader of some partitions
    /// of a client, librdkafka up to 2.12.1 reads memory that is not its own
    /// (<https://github.com/confluentinc/librdkafka/issues/5280>).
    partitions: Vec<Topic>,
    tally: Tally,
}

#[derive(Default)]
pub(crate) struct Tally {
    /// The next offset of each partition: what is read again is not there twice.
    offsets: BTreeMap<i32, i64>,
    /// The id of each callback, by caller and number; nil where none is there yet.
    ids: Vec<Vec<Uuid>>,
    pub(crate) boots: BTreeMap<Uuid, Boot>,
    /// Messages, repeats among them.
    pub(crate) records: u64,
    /// Messages that were there before with the same id.
    pub(crate) repeats: u64,
    /// What must not be there.
    pub(crate) strange: Vec<String>,
}

/// The sequence numbers of one start of a receiver.
#[derive(Default)]
pub(crate) struct Boot {
    pub(crate) receiver: String,
    numbers: Vec<u64>,
    pub(crate) count: u64,
    /// One above the highest.
    pub(crate) end: u64,
}

impl Seen {
    pub(crate) fn of(kafka: &Kafka) -> Self {
        let name = &kafka.topics.callbacks;
        let plans = kafka.topics.plans();
        let plan = plans.iter().find(|plan| plan.name == *name).expect("one of the topics");
        Self {
            partitions: (0..plan.partitions).map(|partition| of(kafka, partition)).collect(),
            tally: Tally::default(),
        }
    }

    /// Reads some of what has come; false when there was nothing.
    pub(crate) fn read_on(&mut self) -> bool {
        let mut read = false;
        for partition in &mut self.partitions {
            for kept in partition.take(MESSAGES_MAX) {
                self.tally.add(&kept);
                read = true;
            }
        }
        read
    }

    /// Where the topic ends at present; `None` when nobody says so.
    pub(crate) fn ends(&self) -> Option<Vec<i64>> {
        let ends = self.partitions.iter().map(|partition| partition.ends().ok());
        let ends: Option<Vec<Vec<i64>>> = ends.collect();
        ends.map(|ends| ends.concat())
    }

    /// Whether everything before these ends was read.
    pub(crate) fn has_reached(&self, ends: &[i64]) -> bool {
        self.behind(ends).is_empty()
    }

    /// Reads those partitions again, by new clients, that are not read to these ends: a client that has met a broker's
    /// death may wait for ever. What is not there is not found this way either. Tells how far they were.
    pub(crate) fn read_again(&mut self, kafka: &Kafka, ends: &[i64]) -> String {
        let behind = self.behind(ends);
        for (partition, ..) in &behind {
            if let Some(former) = self.partitions.get_mut(*partition as usize) {
                *former = of(kafka, *partition);
            }
        }
        let told = behind
            .iter()
            .map(|(partition, next, end)| format!("partition {partition} at {next} of {end}"));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Partitions that were not read to these ends, how far they were, and the end.
    fn behind(&self, ends: &[i64]) -> Vec<(i32, i64, i64)> {
        let each = (0..).zip(ends).map(|(partition, end)| {
            let next = self.tally.offsets.get(&partition).copied().unwrap_or(0);
            (partition, next, *end)
        });
        each.filter(|(_, next, end)| next < end).collect()
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// One partition, from its beginning.
fn of(kafka: &Kafka, partition: i32) -> Topic {
    Topic::of_partitions(kafka, &kafka.topics.callbacks, partition..partition + 1)
}

impl Tally {
    /// The id under which a callback is there.
    pub(crate) fn id(&self, caller: usize, number: usize) -> Option<Uuid> {
        let id = self.ids.get(caller)?.get(number)?;
        (!id.is_nil()).then_some(*id)
    }

    fn add(&mut self, kept: &Kept) {
        let next = self.offsets.entry(kept.partition).or_default();
        if kept.offset < *next {
            return;
        }
        *next = kept.offset + 1;
        self.records += 1;
        match AuditRecord::decode(kept.value.as_bytes()) {
            Ok(record) => self.add_record(&record),
            Err(error) => self.add_strange(format!("no record: {error}: {}", kept.value)),
        }
    }

    fn add_record(&mut self, record: &AuditRecord) {
        let Some((caller, number)) = record.name.as_deref().and_then(of_name) else {
            self.add_strange(format!("nobody posted {record:?}"));
            return;
        };
        let known = self.id(caller, number);
        let boot = self.boots.entry(record.boot).or_default();
        boot.receiver.clone_from(&record.receiver);
        let again = !boot.add(record.seq);
        match known {
            Some(known) if known != record.id => {
                self.add_strange(format!("{:?} is there as {known} and as {}", record.name, record.id));
            }
            Some(_) => self.repeats += 1,
            None if again => self.add_strange(format!(
                "number {} of boot {} is there a second time, as {:?}",
                record.seq, record.boot, record.name
            )),
            None => self.put(caller, number, record.id),
        }
    }

    fn put(&mut self, caller: usize, number: usize, id: Uuid) {
        if self.ids.len() <= caller {
            self.ids.resize_with(caller + 1, Vec::new);
        }
        let ids = &mut self.ids[caller];
        if ids.len() <= number {
            ids.resize(number + 1, Uuid::nil());
        }
        ids[number] = id;
    }

    fn add_strange(&mut self, what: String) {
        if self.strange.len() < STRANGE_MAX {
            self.strange.push(what);
        }
    }
}

impl Boot {
    /// False when the number is there already.
    fn add(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.numbers.len() <= word {
            self.numbers.resize(word + 1, 0);
        }
        let new = self.numbers[word] & bit == 0;
        self.numbers[word] |= bit;
        self.count += u64::from(new);
        self.end = self.end.max(number + 1);
        new
    }

    /// Numbers below the highest that are not there.
    pub(crate) fn holes(&self) -> u64 {
        self.end - self.count
    }

    /// The first of them.
    pub(crate) fn first_hole(&self) -> Option<u64> {
        (0..self.end).find(|number| self.numbers[(number / 64) as usize] & (1 << (number % 64)) == 0)
    }
}
