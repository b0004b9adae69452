use portcullis_schema::kafka::Kafka;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Why a client is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("client cannot be made")]
    Client(#[source] KafkaError),
    #[error("client failed for good: {1}")]
    Fatal(Code, String),
    #[error("topic {topic} takes no message")]
    Refused { topic: String, source: KafkaError },
    #[error("a record that Kafka refuses cannot be read again at present")]
    Away,
    #[error("Kafka acknowledges nothing of this client though it answers others")]
    Lost,
}

impl Failed {
    /// What is wrong and what to do, for the person who can mend it.
    pub(super) fn told(&self, kafka: &Kafka) -> String {
        let bootstrap = &kafka.bootstrap;
        let (topic, error) = match self {
            Self::Refused { topic, source } => (topic, source),
            Self::Client(source) => return format!("{self}, check [kafka] properties: {source}"),
            Self::Fatal(code, text) => return advice(*code, bootstrap).unwrap_or_else(|| format!("{self} ({text})")),
            Self::Away | Self::Lost => return self.to_string(),
        };
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => format!(
                "Kafka at {bootstrap} does not let this client write to topic {topic}: grant it Write and Describe on that topic"
            ),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                format!("topic {topic} is not in Kafka at {bootstrap}: run `portcullis topics create`")
            }
            Some(code) => advice(code, bootstrap).unwrap_or_else(|| format!("{self}: {source}", source = error)),
            None => format!("{self}: {error}"),
        }
    }
}

/// For what concerns no single topic.
fn advice(code: Code, bootstrap: &str) -> Option<String> {
    let told = match code {
        Code::ClusterAuthorizationFailed => format!(
            "Kafka at {bootstrap} does not let this client write idempotently: grant it IdempotentWrite on the cluster"
        ),
        Code::SaslAuthenticationFailed | Code::Authentication => {
            format!("Kafka at {bootstrap} refuses this client's credentials: check sasl.* in [kafka] properties")
        }
        Code::InvalidTimestamp => format!(
            "Kafka at {bootstrap} refuses the time of a record: set the clocks of this machine and of the broker right"
        ),
        _ => return None,
    };
    Some(told)
}
