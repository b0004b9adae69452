//! The embedded broker: librdkafka's own test cluster. It speaks Kafka's protocol on loopback to any client, keeps
//! everything in memory, some 5 MiB a partition, and is gone with the process.

use portcullis_schema::kafka::Kafka;
use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A broker with every topic.
pub(crate) struct Broker(MockCluster<'static, DefaultProducerContext>);

impl Broker {
    /// Starts one for the topics of `kafka`.
    pub(crate) fn start(kafka: &Kafka) -> KafkaResult<Self> {
        let cluster = MockCluster::new(1)?;
        for plan in kafka.topics.plans() {
            cluster.create_topic(&plan.name, plan.partitions, 1)?;
        }
        Ok(Self(cluster))
    }

    /// `kafka`, led here and nowhere else.
    pub(crate) fn reached_by(&self, kafka: &Kafka) -> Kafka {
        Kafka {
            bootstrap: self.address(),
            // A fetch that finds nothing waits for the whole of it here, where a real broker answers when data comes.
            properties: [("fetch.wait.max.ms".to_owned(), "10".to_owned())].into(),
            topics: kafka.topics.clone(),
        }
    }

    /// For any Kafka client.
    pub(crate) fn address(&self) -> String {
        self.0.bootstrap_servers()
    }
}
