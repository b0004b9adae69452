use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_schema::Uuid;
use portcullis_schema::kafka::Topics;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::Broker;

/// The address of a real Kafka, to be used instead of the test cluster.
const REAL: &str = "PORTCULLIS_TEST_KAFKA";

/// A Kafka with topics that are this test's own.
pub(crate) struct Kafka {
    pub(crate) bootstrap: String,
    pub(crate) topics: Topics,
    source: Source,
}

/// Who answers at the address.
enum Source {
    /// The test cluster, in this process.
    Embedded(MockCluster<'static, DefaultProducerContext>),
    /// A real one that other tests use too.
    Shared,
    /// A real one of this test alone.
    Own(Broker),
}

/// How a broker can fail those who use it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outage {
    /// Connections break and are refused.
    Down,
    /// Connections stay, and nothing is answered.
    Frozen,
}

/// The test cluster's one broker.
pub(crate) const EMBEDDED: i32 = 1;
/// Longer than any test: a request that is answered then is not answered.
const NEVER: Duration = Duration::from_secs(3_600);

impl Kafka {
    /// With every topic, made by the binary itself where the Kafka is real: the test cluster cannot be asked to.
    pub(crate) fn start() -> Self {
        Self::without_topics().with_topics()
    }

    /// The same, with a broker that nobody else uses: it can have an [`Outage`].
    pub(crate) fn breakable() -> Self {
        let source = match std::env::var(REAL) {
            Ok(_) => Source::Own(Broker::start()),
            Err(_) => embedded(),
        };
        Self::at(source).with_topics()
    }

    /// A real one whose broker knows access rights: everybody may do everything until a topic has an entry of its own,
    /// see [`Kafka::forbid_writing`]. None where there is no real Kafka.
    pub(crate) fn guarded() -> Option<Self> {
        std::env::var(REAL).ok()?;
        let broker = Broker::start_with(&[
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found=true",
        ]);
        Some(Self::at(Source::Own(broker)).with_topics())
    }

    /// With names for topics that do not exist.
    pub(crate) fn without_topics() -> Self {
        Self::at(match std::env::var(REAL) {
            Ok(_) => Source::Shared,
            Err(_) => embedded(),
        })
    }

    fn at(source: Source) -> Self {
        Self {
            bootstrap: match &source {
                Source::Embedded(cluster) => cluster.bootstrap_servers(),
                Source::Shared => std::env::var(REAL).expect("the address of a real Kafka"),
                Source::Own(broker) => broker.address(),
            },
            topics: own_topics(),
            source,
        }
    }

    fn with_topics(self) -> Self {
        if let Source::Embedded(cluster) = &self.source {
            for plan in self.topics.plans() {
                cluster.create_topic(&plan.name, plan.partitions, 1).expect("a topic");
            }
        } else {
            self.create_missing();
        }
        self
    }

    /// The topic is deleted and made again, empty. The test cluster can delete none: another one takes its place, at another
    /// address and with all topics, while nobody uses it.
    pub(crate) fn make_anew(&mut self, topic: &str) {
        match self.source {
            Source::Embedded(_) => {
                let anew = Self::at(embedded());
                (self.bootstrap, self.source) = (anew.bootstrap, anew.source);
                for plan in self.topics.plans() {
                    let Some(cluster) = self.embedded() else { continue };
                    cluster.create_topic(&plan.name, plan.partitions, 1).expect("a topic");
                }
            }
            Source::Shared | Source::Own(_) => {
                self.delete(topic);
                self.create_missing();
            }
        }
    }

    /// From here on the broker fails everybody, until [`Kafka::recover`].
    pub(crate) fn fail(&self, outage: Outage) {
        match (&self.source, outage) {
            (Source::Embedded(cluster), Outage::Down) => cluster.broker_down(EMBEDDED).expect("down"),
            (Source::Embedded(cluster), Outage::Frozen) => {
                cluster.broker_round_trip_time(EMBEDDED, NEVER).expect("frozen");
            }
            (Source::Own(broker), Outage::Down) => broker.kill(),
            (Source::Own(broker), Outage::Frozen) => broker.freeze(),
            (Source::Shared, _) => panic!("other tests use this Kafka"),
        }
    }

    /// The test cluster, for what only it can be told to do.
    pub(crate) fn embedded(&self) -> Option<&MockCluster<'static, DefaultProducerContext>> {
        match &self.source {
            Source::Embedded(cluster) => Some(cluster),
            Source::Shared | Source::Own(_) => None,
        }
    }

    /// Ends what [`Kafka::fail`] began.
    pub(crate) fn recover(&self, outage: Outage) {
        match (&self.source, outage) {
            (Source::Embedded(cluster), Outage::Down) => cluster.broker_up(EMBEDDED).expect("up"),
            (Source::Embedded(cluster), Outage::Frozen) => {
                cluster
                    .broker_round_trip_time(EMBEDDED, Duration::ZERO)
                    .expect("thawed");
            }
            (Source::Own(broker), Outage::Down) => broker.restart(),
            (Source::Own(broker), Outage::Frozen) => broker.thaw(),
            (Source::Shared, _) => panic!("other tests use this Kafka"),
        }
    }

    /// Whether it is a real Kafka, which can do all that brokers do.
    pub(crate) fn is_real(&self) -> bool {
        !matches!(self.source, Source::Embedded(_))
    }

    /// How long a fetch may wait: one that finds nothing waits for the whole of it in the test cluster, where a real
    /// broker answers as soon as something comes.
    pub(crate) fn fetch_wait_max_ms(&self) -> &'static str {
        if self.is_real() { "500" } else { "10" }
    }

    /// What leads a process here: the section `[kafka]`.
    pub(crate) fn section(&self) -> String {
        self.section_with(&[])
    }

    /// The same, with further properties of librdkafka.
    pub(crate) fn section_with(&self, properties: &[(&str, &str)]) -> String {
        let Topics {
            callbacks,
            verdicts,
            findings,
            signals,
            ledger,
            dead_letters,
        } = &self.topics;
        let own = [("fetch.wait.max.ms", self.fetch_wait_max_ms())];
        let properties: Vec<String> = own
            .iter()
            .chain(properties)
            .map(|(name, value)| format!("\"{name}\" = \"{value}\""))
            .collect();
        let properties = properties.join(", ");
        format!(
            "[kafka]\nbootstrap = \"{}\"\nproperties = {{ {properties} }}\n\
             topics = {{ callbacks = \"{callbacks}\", verdicts = \"{verdicts}\", findings = \"{findings}\", \
             signals = \"{signals}\", ledger = \"{ledger}\", dead_letters = \"{dead_letters}\" }}\n",
            self.bootstrap
        )
    }
}

fn embedded() -> Source {
    Source::Embedded(MockCluster::new(1).expect("a test cluster"))
}

fn own_topics() -> Topics {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let own = format!("{}-{}", Uuid::now_v7().simple(), COUNT.fetch_add(1, Ordering::Relaxed));
    Topics {
        callbacks: format!("callbacks-{own}"),
        verdicts: format!("verdicts-{own}"),
        findings: format!("findings-{own}"),
        signals: format!("signals-{own}"),
        ledger: format!("ledger-{own}"),
        dead_letters: format!("dead-letters-{own}"),
    }
}
