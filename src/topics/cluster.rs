use std::collections::HashMap;
use std::future::Future;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_schema::kafka::{Kafka, TopicPlan};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::fault::{self, Fault};
use crate::failure::Failure;
use crate::kafka::{ANSWER_MAX, Witness, client, failure, topics};

const DOING: &str = "the topics were not read";
/// A new topic is known to all brokers within that time; a cluster of one needs some milliseconds.
const KNOWN_MAX: Duration = Duration::from_secs(10);

/// The cluster's own default: how many copies there should be is not for Portcullis to know.
const REPLICATION: TopicReplication<'_> = TopicReplication::Fixed(-1);

/// The cluster that the topics are in.
pub(super) struct Cluster {
    kafka: Kafka,
    witness: Witness,
    admin: AdminClient<Witness>,
    runtime: tokio::runtime::Runtime,
}

/// A topic, and what is wrong with it.
pub(super) struct Examined {
    pub(super) plan: TopicPlan,
    /// None: it does not exist.
    pub(super) partitions: usize,
    pub(super) faults: Vec<Fault>,
}

impl Cluster {
    pub(super) fn of(kafka: Kafka) -> Result<Self, Failure> {
        let witness = Witness::default();
        let admin = client(&kafka).create_with_context(witness.clone());
        let admin = admin.map_err(|error| failure(&kafka, &witness, DOING, &error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self {
            kafka,
            witness,
            admin,
            runtime,
        })
    }

    /// The names of those that it created.
    pub(super) fn create_missing(&self) -> Result<Vec<String>, Failure> {
        let existing = topics(&self.kafka, DOING)?;
        let mut plans = self.kafka.topics.plans();
        plans.retain(|plan| !existing.contains_key(&plan.name));
        let new: Vec<NewTopic<'_>> = plans.iter().map(new_topic).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "the topics were not created";
        let mut created = Vec::new();
        for outcome in self.wait(doing, self.admin.create_topics(&new, &options()))? {
            match outcome {
                Ok(name) => created.push(name),
                // Somebody else was faster.
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let doing = format!("topic {name} was not created");
                    return Err(self.failure(&doing, &KafkaError::AdminOp(code)));
                }
            }
        }
        self.wait_until_known(&created)?;
        Ok(created)
    }

    /// Every topic of the plan.
    pub(super) fn examine(&self) -> Result<Vec<Examined>, Failure> {
        let existing = topics(&self.kafka, DOING)?;
        let plans = self.kafka.topics.plans();
        let names = plans
            .iter()
            .map(|plan| plan.name.as_str())
            .filter(|name| existing.contains_key(*name));
        let resources: Vec<ResourceSpecifier<'_>> = names.map(ResourceSpecifier::Topic).collect();
        let described = match resources.as_slice() {
            [] => Vec::new(),
            some => self.wait(DOING, self.admin.describe_configs(some, &options()))?,
        };
        let mut settings = HashMap::new();
        for resource in described {
            let resource = resource.map_err(|code| self.failure(DOING, &KafkaError::AdminOp(code)))?;
            settings.extend(settings_of(resource));
        }
        let examined = plans.into_iter().map(|plan| {
            let partitions = existing.get(&plan.name).copied().unwrap_or(0);
            let found = |setting: &str| {
                settings
                    .get(&(plan.name.clone(), setting.to_owned()))
                    .map(String::as_str)
            };
            let faults = fault::faults(&self.kafka, &plan, partitions, found);
            Examined {
                plan,
                partitions,
                faults,
            }
        });
        Ok(examined.collect())
    }

    fn wait_until_known(&self, created: &[String]) -> Result<(), Failure> {
        let deadline = Instant::now() + KNOWN_MAX;
        loop {
            let known = topics(&self.kafka, DOING)?;
            if created.iter().all(|name| known.contains_key(name)) || Instant::now() > deadline {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn wait<T>(&self, doing: &str, answer: impl Future<Output = KafkaResult<T>>) -> Result<T, Failure> {
        let answer = self.runtime.block_on(answer);
        answer.map_err(|error| self.failure(doing, &error))
    }

    fn failure(&self, doing: &str, error: &KafkaError) -> Failure {
        failure(&self.kafka, &self.witness, doing, error)
    }
}

fn new_topic(plan: &TopicPlan) -> NewTopic<'_> {
    let topic = NewTopic::new(&plan.name, plan.partitions, REPLICATION);
    plan.settings
        .iter()
        .fold(topic, |topic, (name, value)| topic.set(name, value))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER_MAX))
        .operation_timeout(Some(ANSWER_MAX))
}

fn settings_of(resource: ConfigResource) -> Vec<((String, String), String)> {
    let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = resource.specifier else {
        return Vec::new();
    };
    let entries = resource.entries.into_iter();
    let settings = entries.filter_map(|entry| entry.value.map(|value| ((name.clone(), entry.name), value)));
    settings.collect()
}
