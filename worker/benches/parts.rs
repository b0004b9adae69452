//! What a record costs the worker: to decode, and to count, as subjects and rules grow.
//!
//!     cargo bench -p portcullis-worker
//!
//! Times are of this machine at this moment: compare two runs side by side, never one with a number.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use portcullis_schema::{AuditRecord, Timestamp, Uuid};
use portcullis_worker::{Detector, Rules};

/// Between two records: at so many subjects each fills its window now and then, as under a real load.
const APART: Duration = Duration::from_micros(50);

criterion_group!(parts, decoding, observing);
criterion_main!(parts);

fn json(operator: u64, at: Timestamp) -> String {
    format!(
        r#"{{"id":"01935e1c-7d3a-7000-8000-{operator:012x}","receiver":"receiver-1","boot":"01935e1c-7d00-7000-8000-000000000001","seq":42,"received_at":"{at}","app":1400000001,"command":"Group.CallbackBeforeCreateTopic","authentic":true,"operator":"user-{operator}","client_ip":"203.0.113.7","platform":"iOS","name":"MyFirstTopic","query":{{"contenttype":"json","RequestTime":"1732449600"}},"body":{{"CallbackCommand":"Group.CallbackBeforeCreateTopic","Operator_Account":"user-{operator}","Type":"Community","Name":"MyFirstTopic"}},"decision":{{"effect":"allow","by":"default","verdicts_at":[17,3,9]}},"rung":"normal"}}"#
    )
}

/// By operator, the second of three with a condition.
fn rules(count: usize) -> Rules {
    let rule = |number: usize| {
        let when = match number % 3 {
            1 => "when = 'platform != \"RESTAPI\"'\n",
            _ => "",
        };
        format!(
            "[[rule]]\nname = \"rule-{number}\"\ncommands = [\"Group.CallbackBeforeCreateTopic\"]\n{when}by = \"operator\"\ncount = \"records\"\n\
             window = \"{}s\"\nthreshold = {}\nmode = \"shadow\"\nverdict = {{ effect = \"deny\", code = 10101, text = \"later\", for = \"10m\" }}\n",
            60 + number,
            5 + number
        )
    };
    let text: String = (0..count).map(rule).collect();
    Rules::read("rules.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn decoding(criterion: &mut Criterion) {
    let json = json(7, Timestamp::from_micros(1_800_000_000_000_000));
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("a record", |bencher| {
        bencher.iter(|| AuditRecord::decode(black_box(json.as_bytes())).expect("a record"));
    });
}

fn observing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("observe");
    group
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(3));
    for count in [1, 3, 10] {
        let rules = rules(count);
        for subjects in [1_000_u64, 100_000, 1_000_000] {
            let mut detector = Detector::new(&rules);
            let mut at = Timestamp::from_micros(1_800_000_000_000_000);
            let template = AuditRecord::decode(json(0, at).as_bytes()).expect("a record");
            let mut number = 0_u64;
            let mut next = move || {
                number += 1;
                at = at.after(APART);
                let operator = number.wrapping_mul(7_919) % subjects;
                AuditRecord {
                    id: Uuid::from_u128(number.into()),
                    seq: number,
                    received_at: at,
                    operator: Some(format!("user-{operator}")),
                    ..template.clone()
                }
            };
            for _ in 0..subjects {
                detector.observe(&next());
            }
            group.bench_function(format!("{subjects} subjects, {count} rules"), |bencher| {
                bencher.iter_batched_ref(&mut next, |record| detector.observe(record), BatchSize::SmallInput);
            });
        }
    }
}
