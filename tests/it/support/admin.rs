use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::{Folder, Kafka, PATIENCE, Portcullis};

/// What an administrator does to the topics of a real Kafka: the test cluster cannot be asked to.
impl Kafka {
    /// Makes the topic as it should be, with one setting more.
    pub(crate) fn create_with(&self, topic: &str, name: &str, value: &str) {
        let plan = self.topics.plans().into_iter().find(|plan| plan.name == topic);
        let plan = plan.expect("one of the topics");
        let mut topic = NewTopic::new(topic, plan.partitions, TopicReplication::Fixed(1)).set(name, value);
        for (name, value) in &plan.settings {
            topic = topic.set(name, value);
        }
        let created = runtime().block_on(self.admin().create_topics([&topic], &options()));
        for outcome in created.expect("an answer") {
            outcome.expect("the topic is made");
        }
    }

    /// Returns when it is gone.
    pub(crate) fn delete(&self, topic: &str) {
        let deleted = runtime().block_on(self.admin().delete_topics(&[topic], &options()));
        for outcome in deleted.expect("an answer") {
            outcome.expect("the topic is deleted");
        }
    }

    /// Makes the topics that are missing.
    pub(crate) fn create_missing(&self) {
        let folder = Folder::new();
        folder.write("portcullis.toml", &self.section());
        Portcullis::command(folder.path(), &["topics", "create"])
            .run()
            .expect(0);
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.create().expect("an admin client")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(PATIENCE))
        .request_timeout(Some(PATIENCE))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
