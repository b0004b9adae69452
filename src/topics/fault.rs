use portcullis_schema::kafka::{Kafka, TopicPlan};

/// Something that is set wrongly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is set.
    pub(super) setting: String,
    /// To what.
    pub(super) found: String,
    /// What is needed.
    pub(super) needed: String,
    /// The line that sets it right.
    pub(super) fix: String,
}

/// What is wrong with a topic of that many partitions, whose settings `found` knows. More partitions and a longer
/// retention than planned are the operator's choice; less of either is not.
pub(super) fn faults<'a>(
    kafka: &Kafka,
    plan: &TopicPlan,
    partitions: usize,
    found: impl Fn(&str) -> Option<&'a str>,
) -> Vec<Fault> {
    if partitions == 0 {
        return vec![Fault {
            setting: "topic".to_owned(),
            found: "none".to_owned(),
            needed: format!("{} with {} partitions", plan.name, plan.partitions),
            fix: "portcullis topics create".to_owned(),
        }];
    }
    let mut faults = Vec::new();
    let needed = usize::try_from(plan.partitions).unwrap_or(1);
    if partitions < needed {
        let arguments = format!("--alter --topic {} --partitions {needed}", plan.name);
        faults.push(Fault {
            setting: "partitions".to_owned(),
            found: partitions.to_string(),
            needed: format!("{needed} or more"),
            fix: format!(
                "{}, then restart every receiver and worker",
                line(kafka, "kafka-topics.sh", &arguments)
            ),
        });
    }
    for (name, needed) in &plan.settings {
        let value = found(name).unwrap_or("nothing");
        if holds(name, value, needed) {
            continue;
        }
        let of_topic = format!("--alter --entity-type topics --entity-name {}", plan.name);
        let arguments = format!("{of_topic} --add-config {name}={needed}");
        faults.push(Fault {
            setting: (*name).to_owned(),
            found: value.to_owned(),
            needed: needed.clone(),
            fix: line(kafka, "kafka-configs.sh", &arguments),
        });
    }
    faults
}

fn holds(name: &str, found: &str, needed: &str) -> bool {
    if name != "retention.ms" {
        return found == needed;
    }
    // -1 keeps for ever.
    let millis = |text: &str| {
        text.parse::<i64>()
            .map(|millis| if millis < 0 { i64::MAX } else { millis })
    };
    matches!((millis(found), millis(needed)), (Ok(found), Ok(needed)) if found >= needed)
}

fn line(kafka: &Kafka, tool: &str, arguments: &str) -> String {
    let security = kafka
        .properties
        .get("security.protocol")
        .map(|name| name.to_lowercase());
    let login = match security.as_deref() {
        None | Some("plaintext") => "",
        Some(_) => " --command-config client.properties",
    };
    format!("{tool} --bootstrap-server {}{login} {arguments}", kafka.bootstrap)
}

#[cfg(test)]
mod tests {
    use portcullis_schema::kafka::Kafka;

    use super::{Fault, faults};

    fn told(topic: usize, partitions: usize, settings: &[(&str, &'static str)]) -> Vec<Fault> {
        let kafka = Kafka::default();
        let plan = &kafka.topics.plans()[topic];
        faults(&kafka, plan, partitions, |name| {
            settings
                .iter()
                .find(|(setting, _)| *setting == name)
                .map(|(_, value)| *value)
        })
    }

    #[test]
    fn more_partitions_and_a_longer_retention_than_planned_are_fine() {
        for (partitions, retention) in [(12, "604800000"), (100, "604800001"), (12, "-1")] {
            let settings = [("cleanup.policy", "delete"), ("retention.ms", retention)];
            assert_eq!(told(0, partitions, &settings), []);
        }
    }

    #[test]
    fn every_fault_comes_with_the_line_that_sets_it_right() {
        let faults = told(0, 3, &[("cleanup.policy", "compact"), ("retention.ms", "1000")]);
        let fixes: Vec<&str> = faults.iter().map(|fault| fault.fix.as_str()).collect();
        assert_eq!(
            fixes,
            [
                "kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --alter --topic callbacks --partitions 12, then \
                 restart every receiver and worker",
                "kafka-configs.sh --bootstrap-server 127.0.0.1:9092 --alter --entity-type topics --entity-name \
                 callbacks --add-config cleanup.policy=delete",
                "kafka-configs.sh --bootstrap-server 127.0.0.1:9092 --alter --entity-type topics --entity-name \
                 callbacks --add-config retention.ms=604800000",
            ]
        );
    }

    #[test]
    fn verdicts_that_are_deleted_by_age_are_a_fault() {
        assert_eq!(told(1, 3, &[("cleanup.policy", "compact,delete")]).len(), 1);
        assert_eq!(told(1, 3, &[("cleanup.policy", "compact")]), []);
    }

    #[test]
    fn a_topic_that_is_not_there_is_one_fault() {
        assert_eq!(told(0, 0, &[])[0].fix, "portcullis topics create");
    }
}
