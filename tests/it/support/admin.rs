use std::io::{Read, Write};
use std::net::TcpStream;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
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

    /// Adds partitions to the topic, until it has so many.
    pub(crate) fn grow(&self, topic: &str, partitions: usize) {
        let grown = NewPartitions::new(topic, partitions);
        let grown = runtime().block_on(self.admin().create_partitions([&grown], &options()));
        for outcome in grown.expect("an answer") {
            outcome.expect("the topic has grown");
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

    /// Lets everybody read the topic, and nobody write to it.
    pub(crate) fn forbid_writing(&self, topic: &str) {
        // CreateAcls: one entry; topic, its name, literal; who, from where; read, allowed.
        let body = [
            &[0, 0, 0, 1, 2][..],
            &text(topic),
            &[3],
            &text("User:ANONYMOUS"),
            &text("*"),
            &[3, 3],
        ]
        .concat();
        self.ask(30, &body);
    }

    /// Takes back [`Kafka::forbid_writing`].
    pub(crate) fn allow_writing(&self, topic: &str) {
        // DeleteAcls: one filter; topic, its name, literal; anybody, from anywhere; any operation, allowed or not.
        let body = [
            &[0, 0, 0, 1, 2][..],
            &text(topic),
            &[3],
            &[0xff, 0xff, 0xff, 0xff],
            &[1, 1],
        ]
        .concat();
        self.ask(31, &body);
    }

    /// Sends a request, in version 1, that the client library does not know.
    fn ask(&self, api: u8, body: &[u8]) {
        let head = [&[0, api, 0, 1, 0, 0, 0, 1][..], &text("test")].concat();
        let length = u32::try_from(head.len() + body.len()).expect("short").to_be_bytes();
        let mut connection = TcpStream::connect(&self.bootstrap).expect("a broker");
        connection
            .write_all(&[&length[..], &head, body].concat())
            .expect("sent");
        let mut answer = [0; 4];
        connection.read_exact(&mut answer).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(answer) as usize];
        connection.read_exact(&mut answer).expect("the whole answer");
        // Correlation, throttle time, one result, and its error.
        assert_eq!(answer[12..14], [0, 0], "{}", String::from_utf8_lossy(&answer));
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.create().expect("an admin client")
    }
}

/// A string as the protocol has it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short").to_be_bytes();
    [&length[..], text.as_bytes()].concat()
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
