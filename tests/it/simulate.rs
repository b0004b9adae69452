//! Chat is played against a receiver that keeps its promises, and against a server that does not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{APP, Ended, Folder, Kafka, PATIENCE, Portcullis, Site, TOKEN, free_address, wait_until};

const SCENARIOS: [&str; 7] = [
    "mixed",
    "burst",
    "copied-name",
    "one-address",
    "notifications",
    "odd",
    "forged",
];

#[test]
fn every_scenario_is_answered_in_the_contract_by_a_receiver() {
    let mut site = Site::at(Kafka::start());
    let _receiver = site.receiver().ready();
    // The seed's burst operator, so that refusals are seen too.
    site.moderate("deny", &["--operator", "mallory-7", "--code", "10150", "--text", "no"]);
    let folder = site.folder().path().to_owned();
    let mut arguments = vec!["simulate", "--rate", "140", "--for", "2s", "--seed", "7", "--json"];
    for scenario in SCENARIOS {
        arguments.extend(["--scenario", scenario]);
    }
    let mut report = Value::Null;
    wait_until("the refusal is seen", PATIENCE, || {
        let ended = Portcullis::command(&folder, &arguments).run();
        report = ended.json().pop().expect("one object");
        // A machine that is busy for 2 s is no broken contract.
        let broken = report["broken"].as_object().expect("kinds");
        assert!(broken.keys().all(|kind| kind == "late"), "{report}");
        assert_eq!(ended.code, i32::from(!broken.is_empty()), "{report}");
        report["scenarios"]["burst"]["refused"] == 40
    });
    let count = |scenario: &str, field: &str| report["scenarios"][scenario][field].as_u64().expect("a count");
    for scenario in SCENARIOS {
        assert_eq!(
            (count(scenario, "sent"), count(scenario, "answered")),
            (40, 40),
            "{scenario}"
        );
        let turned_away = if scenario == "forged" { 40 } else { 0 };
        assert_eq!(count(scenario, "turned_away"), turned_away, "{scenario}");
    }
    assert_eq!(count("mixed", "allowed"), 40);
    let latency = |name: &str| report["latency_ms"][name].as_f64().expect("a time");
    assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99.9") && latency("p99.9") <= latency("max"));
}

#[test]
fn an_answer_out_of_the_contract_ends_with_1_and_is_told() {
    for (status, body, kind, told) in [
        (
            "200 OK",
            r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":99}"#,
            "code",
            "ErrorCode 99 is none that this command can carry",
        ),
        (
            "500 Internal Server Error",
            "{}",
            "status",
            "status 500 where 200 is due",
        ),
    ] {
        let server = serve(answer(status, body));
        let ended = simulate(server, &["--for", "500ms"]).expect(1);
        assert!(
            ended.out.contains(&format!("BROKEN {kind}: 100 times, first: {told}")),
            "{}",
            ended.out
        );
    }
}

#[test]
fn a_server_that_accepts_and_hangs_up_gives_no_answer() {
    let server = serve(String::new());
    let ended = simulate(server, &["--for", "500ms", "--json"]).expect(1);
    let report = ended.json().pop().expect("one object");
    assert_eq!(report["ok"], false);
    assert_eq!(report["broken"]["no_answer"]["count"], 100, "{report}");
    assert_eq!(report["total"]["answered"], 0, "{report}");
    assert_eq!(report["latency_ms"]["max"], Value::Null);
}

#[test]
fn what_waits_behind_a_slow_answer_is_late_from_its_own_intended_time() {
    let ok = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
    let server = serve_after(Duration::from_millis(1_200), answer("200 OK", ok));
    let arguments = [
        "--connections",
        "1",
        "--rate",
        "10",
        "--for",
        "300ms",
        "--json",
        "--scenario",
        "burst",
    ];
    let report = simulate(server, &arguments).expect(1).json().pop().expect("one object");
    // Due at 0, 100 and 200 ms, answered at 1.2, 2.4 and 3.6 s at the earliest.
    assert_eq!(report["total"]["allowed"], 3, "{report}");
    assert!(report["broken"]["late"]["count"].as_u64() >= Some(2), "{report}");
    assert!(report["latency_ms"]["max"].as_f64() >= Some(3_400.0), "{report}");
}

#[test]
fn an_answer_after_the_deadline_that_is_given_breaks_a_promise() {
    let ok = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
    let server = serve_after(Duration::from_millis(300), answer("200 OK", ok));
    let always = [
        "--connections",
        "1",
        "--rate",
        "1",
        "--for",
        "1s",
        "--scenario",
        "burst",
    ];
    let with = |arguments: &[&str]| simulate(server, &[&always, arguments].concat());
    let report = with(&["--deadline", "200ms", "--json"])
        .expect(1)
        .json()
        .pop()
        .expect("one object");
    assert_eq!(
        (&report["deadline_ms"], &report["total"]["late"]),
        (&json!(200), &json!(1))
    );
    let told = with(&["--deadline", "200ms"]).expect(1).out;
    assert!(told.contains(", late after 200ms\n"), "{told}");
    assert!(told.contains("BROKEN late: 1 times"), "{told}");
    let report = with(&["--json"]).json().pop().expect("one object");
    assert_eq!(report["deadline_ms"], 2_000, "Chat's own");
    assert!(with(&["--deadline", "3s"]).expect(2).err.contains("from 1ms to 2s"));
}

#[test]
fn where_nobody_listens_it_ends_with_69_and_says_what_to_start() {
    let ended = simulate(free_address(), &[]).expect(69);
    assert!(ended.err.contains("portcullis receiver"), "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn an_app_that_is_not_configured_is_a_mistake_of_the_arguments() {
    let ended = simulate(free_address(), &["--app", "5"]).expect(2);
    assert!(ended.err.contains(&APP.to_string()), "{}", ended.err);
}

fn simulate(server: SocketAddr, arguments: &[&str]) -> Ended {
    let folder = Folder::new();
    folder.write(
        "portcullis.toml",
        &format!("[[apps]]\nid = {APP}\ntokens = [\"{TOKEN}\"]\n"),
    );
    let url = format!("http://{server}/");
    Portcullis::command(folder.path(), &[&["simulate", "--url", &url], arguments].concat()).run()
}

/// An answer that is the last of its connection.
fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn serve(answer: String) -> SocketAddr {
    serve_after(Duration::ZERO, answer)
}

/// Answers every connection with these bytes, after so long.
fn serve_after(delay: Duration, answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.expect("a connection"), answer.clone());
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 1_024]);
                thread::sleep(delay);
                let _ = stream.write_all(answer.as_bytes());
                // Closed before the rest of the request is read, the connection would be reset and the answer lost.
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}
