//! The disk under the journal: full, read-only, refusing, slow, and a journal that another process holds. No answer
//! changes, and what does not fit into memory is counted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    Callback, Caller, Folder, Kafka, Kept, Outage, PATIENCE, Portcullis, Process, Site, SmallDisk, Tampered, Topic,
    free_address, head, not_checked, wait_until,
};

/// Room for a small journal's segments of 1 MiB, the one that is written and the ones kept ready, and for what comes here.
const DISK_BYTES: u64 = 16 << 20;
const SMALL_JOURNAL: (&str, &str) = ("PORTCULLIS__RECEIVER__JOURNAL__BYTES_MAX", "64MiB");
const WITHOUT_KAFKA: (&str, &str) = ("PORTCULLIS__KAFKA__BOOTSTRAP", "127.0.0.1:1");
/// As large as a body may be: 300 of them are more than the 16 MiB that wait in memory.
const LARGE: usize = 60 << 10;
const TOO_MANY: usize = 300;
/// Six segments of 1 MiB.
const MORE_THAN_READY: usize = 100;
/// Of a slow disk. Far longer than an answer may wait for it.
const SYNC: Duration = Duration::from_secs(10);
/// Of one that hangs. Far longer than a test waits for anything.
const HANGS: Duration = Duration::from_secs(600);
/// After that container runtimes kill.
const STOP_MAX: Duration = Duration::from_secs(30);
/// So many at once: each waits for the disk until its deadline.
const CALLERS: usize = 30;
/// Of the metric `receiver_rung`.
const NORMAL: f64 = 0.0;
const JOURNAL_SLOW: f64 = 1.0;
const JOURNAL_FULL: f64 = 2.0;

#[test]
fn on_a_full_disk_answers_go_on_and_what_is_not_counted_as_lost_is_published_when_room_comes_back() {
    let mut site = Site::at(Kafka::breakable());
    let Some(mut disk) = small_disk(&mut site) else {
        return;
    };
    let receiver = site.receiver_with(&[SMALL_JOURNAL]).ready();
    let mut caller = site.caller();
    let mut names = Names::default();
    names.post(&mut caller, "before", 10, 100);

    site.kafka.fail(Outage::Down);
    disk.fill();
    names.post_until_full(&mut caller, "waits", &receiver);
    assert!(
        receiver.log().contains("it goes on by itself when the disk takes them"),
        "{}",
        receiver.log()
    );
    assert_eq!(receiver.metric("receiver_journal_outage_left_seconds"), 0.0);
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0, "memory has room");
    names.post(&mut caller, "too many", TOO_MANY, LARGE);

    disk.free();
    expect_normal(&receiver, &mut caller, &mut names);
    site.kafka.recover(Outage::Down);
    let lost = receiver.metric("receiver_lost_total{reason=\"journal_broken\"}");
    assert!(lost > 0.0, "so many are more than memory holds");
    assert_eq!(receiver.metric("receiver_lost_total"), lost, "all else is kept");
    names.expect_in_topic(&site, lost as usize);
    let told = |words: &str| -> Vec<Value> {
        let log = receiver.log();
        let lines = log.lines().filter(|line| line.contains(words));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    wait_until("it is said how many", PATIENCE, || {
        let over = told("no more records are being lost");
        over.iter().filter_map(|line| line["records"].as_f64()).sum::<f64>() == lost
    });
    let begun = told("see to the disk of receiver.data");
    assert!(begun.iter().all(|line| line["reason"] == "journal_broken"), "{begun:?}");
    assert_eq!(begun.len(), told("no more records are being lost").len(), "{begun:?}");
    receiver.stop();
}

#[test]
fn a_full_disk_has_room_again_when_kafka_takes_what_waits() {
    let mut site = Site::at(Kafka::breakable());
    let Some(mut disk) = small_disk(&mut site) else {
        return;
    };
    let receiver = site.receiver_with(&[SMALL_JOURNAL]).ready();
    let mut caller = site.caller();
    let mut names = Names::default();
    names.post(&mut caller, "before", 10, 100);
    site.kafka.fail(Outage::Down);
    disk.fill();
    names.post_until_full(&mut caller, "waits", &receiver);

    site.kafka.recover(Outage::Down);

    expect_normal(&receiver, &mut caller, &mut names);
    for _ in 0..MORE_THAN_READY {
        names.post_noise(&mut caller, "on a full disk");
    }
    expect_normal(&receiver, &mut caller, &mut names);
    names.expect_in_topic(&site, 0);
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0, "{}", receiver.log());
    receiver.stop();
    disk.free();
}

#[test]
fn a_receiver_that_starts_on_a_full_disk_answers_and_publishes_what_the_former_start_left() {
    let mut site = Site::at(Kafka::start());
    let Some(mut disk) = small_disk(&mut site) else {
        return;
    };
    let receiver = site.receiver_with(&[SMALL_JOURNAL, WITHOUT_KAFKA]);
    wait_until("it listens", PATIENCE, || receiver.readiness().is_some());
    let mut names = Names::default();
    names.post(&mut site.caller(), "former", 20, 1_000);
    wait_until("all of them are in the journal", PATIENCE, || {
        receiver.metric("receiver_journal_append_seconds_count") >= 20.0
    });
    receiver.kill();

    disk.fill();
    let receiver = site.receiver_with(&[SMALL_JOURNAL, WITHOUT_KAFKA]);
    wait_until("it listens", PATIENCE, || receiver.readiness().is_some());
    let mut caller = site.caller();
    names.post_until_full(&mut caller, "full", &receiver);
    disk.free();
    expect_normal(&receiver, &mut caller, &mut names);
    receiver.kill();

    let receiver = site.receiver_with(&[SMALL_JOURNAL]).ready();
    names.expect_in_topic(&site, 0);
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0, "{}", receiver.log());
    receiver.stop();
}

#[test]
fn a_read_only_disk_is_told_with_what_to_do_and_loses_nothing() {
    let mut site = Site::at(Kafka::start());
    let Some(disk) = small_disk(&mut site) else {
        return;
    };
    let receiver = site.receiver_with(&[SMALL_JOURNAL, WITHOUT_KAFKA]);
    wait_until("it listens", PATIENCE, || receiver.readiness().is_some());
    let mut names = Names::default();
    names.post(&mut site.caller(), "before", 10, 100);
    receiver.kill();

    disk.remount("ro");
    let told = second_receiver(site.folder()).run().expect(69).err;
    assert!(told.contains("the disk is read-only, mount it for writing"), "{told}");

    disk.remount("rw");
    let receiver = site.receiver_with(&[SMALL_JOURNAL]).ready();
    names.expect_in_topic(&site, 0);
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
    receiver.stop();
}

#[test]
fn a_disk_that_refuses_in_the_middle_changes_no_answer_and_loses_nothing() {
    let site = Site::at(Kafka::start());
    if !can_tamper() {
        return;
    }
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    let mut names = Names::default();
    names.post(&mut caller, "before", 10, 100);
    // As a file system answers that turned itself read-only, and as a dying disk does.
    for error in ["EROFS", "EIO"] {
        let tampered = Tampered::attach(receiver.id(), &format!("error={error}")).expect("strace attaches");
        wait_until("the rung tells it", PATIENCE, || {
            names.post(&mut caller, error, 1, 1_000);
            receiver.metric("receiver_rung") == JOURNAL_FULL
        });
        drop(tampered);
        expect_normal(&receiver, &mut caller, &mut names);
    }
    names.expect_in_topic(&site, 0);
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0, "{}", receiver.log());
    receiver.stop();
}

#[test]
fn requests_that_are_not_from_chat_take_no_memory_from_callbacks_while_the_disk_refuses() {
    let site = Site::at(Kafka::start());
    if !can_tamper() {
        return;
    }
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    let mut names = Names::default();
    let forge = || {
        let target = Callback::topic("stranger", "x").target_signed(0, "not the token");
        let refused = site.caller().send(&head("POST", &target, "Content-Length: 0"));
        assert_eq!(refused.status, 403);
    };
    forge();
    assert_eq!(receiver.metric("receiver_forged_unrecorded_total"), 0.0);

    let tampered = Tampered::attach(receiver.id(), "error=EIO").expect("strace attaches");
    wait_until("the rung tells it", PATIENCE, || {
        names.post(&mut caller, "waits", 1, 100);
        receiver.metric("receiver_rung") == JOURNAL_FULL
    });
    forge();
    assert_eq!(receiver.metric("receiver_forged_unrecorded_total"), 1.0);
    drop(tampered);

    expect_normal(&receiver, &mut caller, &mut names);
    receiver.stop();
}

#[test]
fn on_a_slow_disk_answers_go_first_and_their_records_follow() {
    let site = Site::at(Kafka::start());
    if !can_tamper() {
        return;
    }
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    let mut names = Names::default();
    names.post(&mut caller, "before", 10, 100);

    let end = format!("delay_exit={}", SYNC.as_micros());
    let tampered = Tampered::attach(receiver.id(), &end).expect("strace attaches");
    wait_until("the rung tells it", PATIENCE, || {
        let began = Instant::now();
        names.post(&mut caller, "slow", 1, 1_000);
        assert!(began.elapsed() < SYNC, "the answer waited for the disk");
        receiver.metric("receiver_rung") == JOURNAL_SLOW
    });
    drop(tampered);

    expect_normal(&receiver, &mut caller, &mut names);
    let records = names.expect_in_topic(&site, 0);
    assert!(
        records
            .iter()
            .any(|kept| kept.value.contains("\"rung\":\"journal_slow\""))
    );
    assert_eq!(receiver.metric("receiver_lost_total"), 0.0);
    receiver.stop();
}

#[test]
fn a_disk_that_hangs_is_said_while_it_does_and_a_stop_does_not_wait_for_its_end() {
    let site = Site::at(Kafka::start());
    if !can_tamper() {
        return;
    }
    let receiver = site.receiver().ready();
    let mut names = Names::default();
    names.post(&mut site.caller(), "before", 10, 100);

    let end = format!("delay_exit={}", HANGS.as_micros());
    let tampered = Tampered::attach(receiver.id(), &end).expect("strace attaches");
    names.post(&mut site.caller(), "hangs", 1, 100);
    let said = |words: &str| receiver.log().matches(words).count();
    wait_until("it is said", PATIENCE, || said("journal is slow") > 0);
    std::thread::scope(|callers| {
        for number in 0..CALLERS {
            let mut caller = site.caller();
            callers.spawn(move || Names::default().post(&mut caller, &number.to_string(), TOO_MANY / CALLERS, LARGE));
        }
    });
    wait_until("what memory has no room for changes the rung", PATIENCE, || {
        receiver.metric("receiver_rung") == JOURNAL_FULL
    });
    assert!(receiver.metric("receiver_lost_total{reason=\"journal_overrun\"}") > 0.0);
    wait_until("it is said", PATIENCE, || said("journal is overrun") > 0);
    assert!(said("journal is ") < CALLERS, "no line for each callback");

    receiver.ask_to_stop();
    wait_until("it stops", STOP_MAX, || said("receiver has stopped") == 1);
    // Who holds its threads holds the process, too.
    drop(tampered);
    let log = receiver.stopped();
    for words in [
        "stopping waits for the disk",
        "journal is closed while it cannot be written: these entries are lost",
    ] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
}

#[test]
fn a_journal_that_another_process_holds_is_told_with_what_to_do_and_is_not_harmed() {
    let mut site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let mut names = Names::default();
    names.post(&mut site.caller(), "before", 10, 100);

    let told = second_receiver(site.folder()).run().expect(69).err;

    assert!(
        told.contains("held by another process: stop that one, or give this one a data directory of its own"),
        "{told}"
    );
    names.post(&mut site.caller(), "after", 10, 100);
    names.expect_in_topic(&site, 0);
    receiver.stop();
}

/// What was posted and answered.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    /// Posts so many callbacks, each of so many bytes and more; every one must be answered with what is allowed.
    #[track_caller]
    fn post(&mut self, caller: &mut Caller, phase: &str, many: usize, bytes: usize) {
        for _ in 0..many {
            let name = format!("{phase} {}", self.0.len());
            // It compresses well: the test cluster keeps 5 MiB.
            let long = Callback::topic(&"o".repeat(bytes), &name);
            assert_eq!(caller.post(&long).code(), 0, "{name}");
            self.0.push(name);
        }
    }

    /// Posts what does not compress until it does not fit on the disk.
    #[track_caller]
    fn post_until_full(&mut self, caller: &mut Caller, phase: &str, receiver: &Process) {
        wait_until("the disk is full", PATIENCE, || {
            self.post_noise(caller, phase);
            receiver.metric("receiver_rung") == JOURNAL_FULL
        });
    }

    /// Posts a large one that does not compress, with an operator of its own, so that all partitions have some.
    #[track_caller]
    fn post_noise(&mut self, caller: &mut Caller, phase: &str) {
        let mut noise = self.0.len() as u64 + 1;
        let letters = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'#' + (noise >> 40) as u8 % 56)
        });
        let name = format!("{phase} {}", self.0.len());
        let callback = Callback::topic(&letters.take(LARGE).collect::<String>(), &name);
        assert_eq!(caller.post(&callback).code(), 0, "{name}");
        self.0.push(name);
    }

    /// All but `lost` of them are in the topic, once.
    #[track_caller]
    fn expect_in_topic(&self, site: &Site, lost: usize) -> Vec<Kept> {
        let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
        topic.read_until("every record that is not lost", |kept| {
            kept.len() >= self.0.len() - lost
        });
        let kept = topic.read_to_end();
        let names: BTreeSet<String> = kept.iter().filter_map(|kept| kept.record().name).collect();
        let missing = self.0.iter().filter(|name| !names.contains(*name)).count();
        assert_eq!((missing, kept.len()), (lost, self.0.len() - lost), "each is there once");
        kept.to_vec()
    }
}

/// The same process goes on as before, without a restart.
#[track_caller]
fn expect_normal(receiver: &Process, caller: &mut Caller, names: &mut Names) {
    wait_until("the journal is normal again", PATIENCE, || {
        names.post(caller, "again", 1, 100);
        receiver.metric("receiver_rung") == NORMAL
    });
}

/// Under the data of the site's processes.
fn small_disk(site: &mut Site) -> Option<SmallDisk> {
    match SmallDisk::mount(&site.folder().path().join("data"), DISK_BYTES) {
        Ok(disk) => Some(disk),
        Err(why) => {
            not_checked("a full and a read-only disk", &why);
            None
        }
    }
}

fn can_tamper() -> bool {
    let possible = Tampered::is_possible();
    if let Err(why) = &possible {
        not_checked("a slow disk, and one that refuses", why);
    }
    possible.is_ok()
}

/// With the data of the first one, and addresses of its own.
fn second_receiver(folder: &Folder) -> Portcullis {
    let own = |key: &str| (format!("PORTCULLIS__RECEIVER__{key}"), free_address().to_string());
    [own("LISTEN"), own("ADMIN")].iter().fold(
        Portcullis::command(folder.path(), &["receiver"]),
        |receiver, (name, value)| receiver.environment(name, value),
    )
}
