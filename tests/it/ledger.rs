//! What a receiver says of its own sequence, and what it says of another receiver that has its name.

use portcullis_schema::{LedgerEntry, LedgerEvent, Uuid};

use crate::support::{
    Callback, Folder, Kafka, Kept, Outage, PATIENCE, Portcullis, Site, Topic, free_address, wait_until,
};

const MANY: u64 = 20;

fn entries(kept: &[Kept]) -> Vec<LedgerEntry> {
    kept.iter()
        .map(|kept| LedgerEntry::decode(kept.value.as_bytes()).expect("a ledger entry"))
        .collect()
}

/// The last entry that says that a boot has started, once there are `count` of them.
fn started(topic: &mut Topic, count: usize) -> LedgerEntry {
    let starts = |kept: &[Kept]| {
        let mut entries = entries(kept);
        entries.retain(|entry| matches!(entry.event, LedgerEvent::Started { .. }));
        entries
    };
    let kept = topic.read_until("a start", |kept| starts(kept).len() >= count);
    starts(kept).pop().expect("one at least")
}

fn former(entry: &LedgerEntry) -> (Option<Uuid>, Option<u64>) {
    match entry.event {
        LedgerEvent::Started {
            former_boot,
            former_next_seq,
        } => (former_boot, former_next_seq),
        LedgerEvent::Heartbeat | LedgerEvent::Stopped => (None, None),
    }
}

#[test]
fn the_ledger_tells_where_each_boot_began_and_ended_though_kafka_is_away_and_it_is_killed() {
    let site = Site::at(Kafka::breakable());
    let mut ledger = Topic::of(&site.kafka, &site.kafka.topics.ledger);
    let post_many = || {
        let mut caller = site.caller();
        for number in 0..MANY {
            assert_eq!(
                caller.post(&Callback::topic("leckie", &format!("x {number}"))).code(),
                0
            );
        }
    };

    let receiver = site.receiver().ready();
    post_many();
    receiver.stop();
    let first = started(&mut ledger, 1);
    assert_eq!((former(&first), first.next_seq), ((None, None), 0));
    let kept = ledger.read_until("the stop", |kept| {
        entries(kept).iter().any(|entry| entry.event == LedgerEvent::Stopped)
    });
    let stopped = entries(kept).pop().expect("the stop");
    assert_eq!((stopped.boot, stopped.next_seq), (first.boot, MANY));
    assert_eq!(kept.last().expect("the stop").key, format!("receiver-1/{}", first.boot));

    let killed = site.receiver().ready();
    let second = started(&mut ledger, 2);
    assert_eq!(former(&second).0, Some(first.boot));
    site.kafka.fail(Outage::Down);
    post_many();
    killed.kill();
    let receiver = site.receiver();
    wait_until("it listens", PATIENCE, || receiver.readiness().is_some());
    site.kafka.recover(Outage::Down);
    let third = started(&mut ledger, 3);
    assert_eq!(former(&third), (Some(second.boot), Some(MANY)));
    // The entry is a proof: by now all that it speaks of is there.
    let mut callbacks = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    let records = callbacks.read_to_end().iter().map(Kept::record);
    let mut of_killed: Vec<u64> = records
        .filter(|record| record.boot == second.boot)
        .map(|record| record.seq)
        .collect();
    of_killed.sort_unstable();
    of_killed.dedup();
    assert_eq!(of_killed, (0..MANY).collect::<Vec<u64>>());
    receiver.ready().stop();
}

#[test]
fn a_second_receiver_of_the_same_name_is_told_so_and_does_not_become_ready() {
    let site = Site::at(Kafka::start());
    let first = site.receiver().ready();
    let mut ledger = Topic::of(&site.kafka, &site.kafka.topics.ledger);
    started(&mut ledger, 1);

    let elsewhere = Folder::new();
    let (listen, admin) = (free_address(), free_address());
    let configuration = format!(
        "{}[[apps]]\nid = 1\ntokens = [\"t\"]\n\
         [receiver]\ninstance = \"receiver-1\"\nlisten = \"{listen}\"\nadmin = \"{admin}\"\n",
        site.kafka.section()
    );
    elsewhere.write("portcullis.toml", &configuration);
    let ended = Portcullis::command(elsewhere.path(), &["receiver"]).run().expect(64);
    let told = "receiver.instance: a receiver named \"receiver-1\" runs on ";
    assert!(ended.err.contains(told), "{}", ended.err);
    assert!(
        ended.err.contains("give each receiver a name of its own"),
        "{}",
        ended.err
    );

    assert!(first.is_ready(), "the first one stays");
    assert_eq!(site.caller().post(&Callback::topic("leckie", "x")).code(), 0);
    // Its own former starts are nobody else.
    first.kill();
    site.receiver().ready().stop();
}
