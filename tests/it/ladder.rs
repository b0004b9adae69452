//! More is asked of the machine than it can compute in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::support::{CREATE_TOPIC, Callback, Kafka, PATIENCE, Process, Site, Topic, wait_until};

const NORMAL: f64 = 0.0;
const OVERLOADED: f64 = 3.0;
/// The machine gives it a moment now and then, as one that is far too busy does.
const STANDS_STILL: Duration = Duration::from_millis(400);
const RUNS: Duration = Duration::from_millis(20);

/// Lets the process run so seldom while `meanwhile` runs.
fn starving<T>(process: &Process, meanwhile: impl FnOnce() -> T) -> T {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                process.freeze();
                sleep(STANDS_STILL);
                process.thaw();
                sleep(RUNS);
            }
        });
        let _over = Over(&over);
        meanwhile()
    })
}

#[test]
fn an_overloaded_receiver_answers_the_fallback_keeps_the_records_and_recovers_by_itself() {
    let mut site = Site::at(Kafka::start());
    let own = std::fs::read_to_string(site.folder().path().join("portcullis.toml")).expect("the configuration");
    let fallback = format!("[receiver.fallback]\n\"{CREATE_TOPIC}\" = {{ deny = 10100, text = \"later\" }}\n[worker]");
    site.folder()
        .write("portcullis.toml", &own.replace("[worker]", &fallback));
    let receiver = site.receiver().ready();
    site.moderate("deny", &["--operator", "mallory", "--code", "10150", "--text", "no"]);
    let mut caller = site.caller();
    let mut post = |operator: &str, name: &str| caller.post(&Callback::topic(operator, name)).code();
    wait_until("the verdict is in force", PATIENCE, || {
        post("mallory", "before") == 10_150
    });

    starving(&receiver, || {
        wait_until("it is overloaded", 3 * PATIENCE, || {
            post("leckie", "meanwhile") == 10_100
        });
        wait_until("the rung tells it", PATIENCE, || {
            receiver.metric("receiver_rung") == OVERLOADED
        });
    });
    wait_until("it recovers", PATIENCE, || post("leckie", "after") == 0);
    assert_eq!(post("mallory", "after"), 10_150);
    wait_until("the rung tells it", PATIENCE, || {
        receiver.metric("receiver_rung") == NORMAL
    });
    for words in [
        "overloaded: callbacks are answered with receiver.fallback",
        "not overloaded any more",
    ] {
        assert!(receiver.log().contains(words), "{words}");
    }

    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let kept = topic.read_until("a record of each rung", |kept| {
        let records: Vec<Value> = kept
            .iter()
            .map(|kept| serde_json::from_str(&kept.value).expect("JSON"))
            .collect();
        // A disk may be slow before and after: that is another rung.
        let is = |name: &str, overloaded: bool, by: &str, rejection: Option<&str>| {
            records.iter().any(|record| {
                record["name"] == name
                    && (record["rung"] == "overloaded") == overloaded
                    && record["decision"]["by"] == by
                    && record["rejection"].as_str() == rejection
            })
        };
        is("before", false, "moderator", None)
            && is("meanwhile", true, "fallback", Some("overloaded"))
            && is("after", false, "default", None)
    });
    let mut seqs: Vec<u64> = kept.iter().map(|kept| kept.record().seq).collect();
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(0..seqs.len() as u64), "no record is missing");
    receiver.stop();
}
