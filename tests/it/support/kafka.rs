use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_schema::Uuid;
use portcullis_schema::kafka::Topics;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{Folder, Portcullis};

/// The address of a real Kafka, to be used instead of the test cluster.
const REAL: &str = "PORTCULLIS_TEST_KAFKA";

/// A Kafka with topics that are this test's own.
pub(crate) struct Kafka {
    pub(crate) bootstrap: String,
    pub(crate) topics: Topics,
    cluster: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Kafka {
    /// With every topic, made by the binary itself where the Kafka is real: the test cluster cannot be asked to.
    pub(crate) fn start() -> Self {
        let kafka = Self::without_topics();
        match &kafka.cluster {
            Some(cluster) => {
                for plan in kafka.topics.plans() {
                    cluster.create_topic(&plan.name, plan.partitions, 1).expect("a topic");
                }
            }
            None => {
                let folder = Folder::new();
                folder.write("portcullis.toml", &kafka.section());
                Portcullis::command(folder.path(), &["topics", "create"])
                    .run()
                    .expect(0);
            }
        }
        kafka
    }

    /// With names for topics that do not exist.
    pub(crate) fn without_topics() -> Self {
        let real = std::env::var(REAL).ok();
        let cluster = match real {
            Some(_) => None,
            None => Some(MockCluster::new(1).expect("a test cluster")),
        };
        let bootstrap = cluster.as_ref().map(MockCluster::bootstrap_servers).or(real);
        Self {
            bootstrap: bootstrap.expect("one of both"),
            topics: own_topics(),
            cluster,
        }
    }

    /// Whether it is a real Kafka, which can do all that brokers do.
    pub(crate) fn is_real(&self) -> bool {
        self.cluster.is_none()
    }

    /// What leads a process here: the section `[kafka]`.
    pub(crate) fn section(&self) -> String {
        let Topics {
            callbacks,
            verdicts,
            findings,
            signals,
            ledger,
            dead_letters,
        } = &self.topics;
        // A fetch that finds nothing waits for the whole of it in the test cluster.
        let wait = if self.is_real() { "500" } else { "10" };
        format!(
            "[kafka]\nbootstrap = \"{}\"\nproperties = {{ \"fetch.wait.max.ms\" = \"{wait}\" }}\n\
             topics = {{ callbacks = \"{callbacks}\", verdicts = \"{verdicts}\", findings = \"{findings}\", \
             signals = \"{signals}\", ledger = \"{ledger}\", dead_letters = \"{dead_letters}\" }}\n",
            self.bootstrap
        )
    }
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
