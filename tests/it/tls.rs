//! Chat calls by HTTPS, and checks the certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::support::{
    Answer, Authority, Callback, DAY, Http2, Kafka, PATIENCE, Portcullis, Site, TOKEN, TlsCaller, Topic, wait_until,
};

const ALLOWED: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

fn topic(number: usize) -> Callback {
    Callback::topic(&format!("user-{}", number % 50), &format!("topic {number}"))
}

#[track_caller]
fn assert_allowed(answer: &Answer) {
    assert_eq!(answer.code(), 0, "{answer:?}");
}

#[test]
fn a_renewed_certificate_is_shown_while_callers_call_and_none_of_them_fails() {
    let authority = Authority::new();
    let mut site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    let address = site.listen();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let connect = || TlsCaller::connect(address, &authority).expect("a connection");
    let before = connect().shown();
    let more_are_answered = || {
        let seen = answered.load(Ordering::Relaxed);
        wait_until("more are answered", PATIENCE, || {
            answered.load(Ordering::Relaxed) >= seen + 50
        });
    };
    thread::scope(|scope| {
        for kept in [true, true, false, false] {
            let (over, answered, connect) = (&over, &answered, &connect);
            scope.spawn(move || {
                let mut caller = connect();
                while !over.load(Ordering::Relaxed) {
                    if !kept {
                        caller = connect();
                    }
                    let answer = caller.post(&topic(answered.load(Ordering::Relaxed)));
                    assert_allowed(&answer.expect("an answer"));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let renewed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            more_are_answered();
            // Two files cannot be replaced at once. Between the two they do not belong together.
            let (certificate, key) = authority.certificate();
            site.folder().write("key.pem", &key);
            receiver.signal("HUP");
            wait_until("the pair is refused", PATIENCE, || {
                receiver.log().contains("which is not the key of the certificate")
            });
            more_are_answered();
            assert_eq!(connect().shown(), before, "the running pair stays");
            site.folder().write("cert.pem", &certificate);
            // Without a signal: it looks by itself.
            wait_until("the new certificate is shown", PATIENCE, || connect().shown() != before);
            more_are_answered();
        }));
        over.store(true, Ordering::Relaxed);
        renewed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(receiver.log().contains("certificate is in force"));
    assert!(!receiver.log().contains("PRIVATE KEY"), "the key is never told");
    let metrics = receiver.metrics();
    assert!(
        metrics.contains("receiver_certificate_expiry_timestamp_seconds "),
        "{metrics}"
    );
    receiver.stop();
}

#[test]
fn a_pair_that_no_caller_believes_is_refused_while_the_running_one_holds() {
    let (authority, now) = (Authority::new(), SystemTime::now());
    let mut site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    let address = site.listen();
    let connect = || TlsCaller::connect(address, &authority).expect("a connection");
    let before = connect().shown();
    let (over, to_come) = ((now - 2 * DAY, now - DAY), (now + DAY, now + 2 * DAY));
    for ((from, until), told) in [(over, "is over since"), (to_come, "does not hold before")] {
        let (certificate, key) = authority.certificate_between(from, until);
        site.folder().write("cert.pem", &certificate);
        site.folder().write("key.pem", &key);
        receiver.signal("HUP");
        wait_until(told, PATIENCE, || receiver.log().contains(told));
        assert!(receiver.log().contains("certificate is refused, the running one stays"));
        assert_eq!(connect().shown(), before);
    }
    // What else has changed is taken over.
    let own = fs::read_to_string(site.folder().path().join("portcullis.toml")).expect("the configuration");
    site.folder()
        .write("portcullis.toml", &own.replace(TOKEN, "the-next-token"));
    wait_until("the next token counts", PATIENCE, || {
        connect().post(&topic(0)).expect("an answer").status == 403
    });
    assert_eq!(connect().shown(), before);
    // One whose time comes while the receiver runs is taken then, though no file changes any more.
    let (certificate, key) = authority.certificate_between(SystemTime::now() + Duration::from_secs(3), now + DAY);
    site.folder().write("cert.pem", &certificate);
    site.folder().write("key.pem", &key);
    wait_until("its time has come", PATIENCE, || connect().shown() != before);
    receiver.stop();
}

#[test]
fn a_receiver_starts_with_a_certificate_that_is_over_says_so_and_takes_the_next_one() {
    let (authority, now) = (Authority::new(), SystemTime::now());
    let mut site = Site::at(Kafka::start()).encrypted(&authority);
    let (over, to_come) = ((now - 2 * DAY, now - DAY), (now + DAY, now + 2 * DAY));
    for ((from, until), told) in [
        (over, "the certificate is over: Chat does not call"),
        (to_come, "the certificate does not hold yet: Chat does not call"),
    ] {
        let (certificate, key) = authority.certificate_between(from, until);
        site.folder().write("cert.pem", &certificate);
        site.folder().write("key.pem", &key);
        let receiver = site.receiver().ready();
        assert!(receiver.log().contains(told), "{}", receiver.log());
        assert!(TlsCaller::connect(site.listen(), &authority).is_err(), "not believed");
        let (certificate, key) = authority.certificate();
        site.folder().write("cert.pem", &certificate);
        site.folder().write("key.pem", &key);
        wait_until("the next one is shown", PATIENCE, || {
            TlsCaller::connect(site.listen(), &authority).is_ok()
        });
        receiver.stop();
    }
}

#[test]
fn many_callbacks_at_once_on_one_http2_connection_are_each_answered_as_alone() {
    let authority = Authority::new();
    let site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    site.moderate("deny", &["--operator", "mallory", "--code", "10150", "--text", "no"]);
    let refused = r#"{"ActionStatus":"OK","ErrorInfo":"no","ErrorCode":10150}"#;
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let caller = Http2::connect(site.listen(), &authority).await;
        let post = |callback: Callback| {
            let mut caller = caller.clone();
            async move {
                caller
                    .post(&callback.target(), callback.body())
                    .await
                    .expect("an answer")
            }
        };
        let deadline = std::time::Instant::now() + PATIENCE;
        while post(Callback::topic("mallory", "x")).await.1 != refused {
            assert!(std::time::Instant::now() < deadline, "the verdict is in force");
        }
        let mut calls = JoinSet::new();
        for number in 0..300 {
            let operator = if number % 3 == 0 { "mallory" } else { "leckie" };
            let callback = Callback::topic(operator, &format!("topic {number}"));
            let expected = if number % 3 == 0 { refused } else { ALLOWED };
            let call = post(callback);
            calls.spawn(async move { assert_eq!(call.await, (StatusCode::OK, expected.to_owned())) });
        }
        while let Some(call) = calls.join_next().await {
            call.expect("answered");
        }
        let mut forger = caller.clone();
        let forged = Callback::topic("leckie", "x").target_signed(1, "not the token");
        let (status, _) = forger.post(&forged, b"{}").await.expect("an answer");
        assert_eq!(status, StatusCode::FORBIDDEN);
        let large = Callback::new("Group.CallbackBeforeCreateTopic", vec![b' '; 200 << 10]);
        assert_eq!(post(large).await, (StatusCode::OK, ALLOWED.to_owned()));
    });
    receiver.stop();
}

#[test]
fn a_stop_ends_encrypted_connections_and_cuts_no_callback() {
    let authority = Authority::new();
    let site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    let runtime = Runtime::new().expect("a runtime");
    let address = site.listen();

    let mut silent = TlsCaller::connect(address, &authority).expect("a connection");
    assert_allowed(&silent.post(&topic(0)).expect("an answer"));
    let mut slow = TlsCaller::connect(address, &authority).expect("a connection");
    assert_allowed(&slow.post(&topic(1)).expect("an answer"));
    let sealed = slow.sealed(&topic(2));
    let (half, rest) = sealed.split_at(sealed.len() / 2);

    let answered = runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let mut caller = Http2::connect(address, &authority).await;
            callers.spawn(async move {
                let mut answered = 0;
                while caller.goes_on().await {
                    let callback = topic(answered);
                    match caller.post(&callback.target(), callback.body()).await {
                        Ok((status, _)) => assert_eq!(status, StatusCode::OK),
                        // Never sent, because the connection had ended: the caller opens another one.
                        Err(error) if error.is_canceled() => break,
                        Err(error) => panic!("no answer: {error}"),
                    }
                    answered += 1;
                }
                answered
            });
        }
        // No half of a record can be seen above the encryption.
        slow.send_raw(half);
        receiver.ask_to_stop();
        wait_until("the stop is known", PATIENCE, || !receiver.is_ready());
        slow.send_raw(rest);
        let answer = slow.answer().expect("an answer");
        assert_allowed(&answer);
        assert!(slow.is_closed(), "the connection's last");
        let mut answered = 0;
        while let Some(caller) = callers.join_next().await {
            answered += caller.expect("a caller that was answered");
        }
        answered
    });
    assert!(silent.ends_properly(), "a silent connection is closed, not cut");
    let log = receiver.stopped();
    assert!(!log.contains("are cut"), "{log}");
    let mut topic = Topic::of(&site.kafka, &site.kafka.topics.callbacks);
    topic.read_until("every answered callback", |kept| kept.len() == answered + 3);
}

/// How a caller holds a connection without calling, or without reading, and does not let it end either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// HTTP/2 that never begins.
    Unbegun,
    /// HTTP/2 that has begun, and answers no ping.
    Deaf,
    /// The first bytes of a TLS record.
    HalfARecord,
    /// HTTP/2 that takes the head of an answer, and none or few of the bytes of its body.
    Ungranting(u32),
}

const HELD: [Holds; 5] = [
    Holds::Unbegun,
    Holds::Deaf,
    Holds::HalfARecord,
    Holds::Ungranting(0),
    Holds::Ungranting(10),
];
const PLACES: usize = 4;
/// RFC 9113, 3.4, with no settings.
const H2_BEGINS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

impl Holds {
    /// Takes a place so, for as long as what it gives is kept.
    fn take(self, site: &Site, authority: &Authority, runtime: &Runtime) -> Box<dyn std::any::Any> {
        let address = site.listen();
        let announcing = |speaks| TlsCaller::announcing(speaks, address, authority).expect("a connection");
        match self {
            Self::Unbegun => Box::new(announcing(b"h2")),
            Self::Deaf => {
                let mut caller = announcing(b"h2");
                caller.send(H2_BEGINS);
                Box::new(caller)
            }
            Self::HalfARecord => {
                let mut caller = announcing(b"http/1.1");
                caller.send_raw(&[23, 3, 3]);
                Box::new(caller)
            }
            Self::Ungranting(window_bytes) => Box::new(runtime.block_on(async {
                let mut caller = Http2::granting(Some(window_bytes), address, authority).await;
                let callback = topic(0);
                let answer = caller.begin(&callback.target(), callback.body()).await.expect("a head");
                assert_eq!(answer.status(), StatusCode::OK);
                (caller, answer)
            })),
        }
    }
}

const FOUR_PLACES: [(&str, &str); 1] = [("PORTCULLIS__RECEIVER__CONNECTIONS_MAX", "4")];

#[test]
fn who_does_not_let_its_connection_end_loses_its_place_to_who_calls() {
    let authority = Authority::new();
    let site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver_with(&FOUR_PLACES).ready();
    let runtime = Runtime::new().expect("a runtime");
    for holds in HELD {
        let held: Vec<_> = (0..PLACES).map(|_| holds.take(&site, &authority, &runtime)).collect();
        let ended = receiver.metric("receiver_connections_ended_total{reason=\"room\"}");
        let mut caller = TlsCaller::connect(site.listen(), &authority).expect("a place");
        let answer = caller.post(&topic(1));
        assert_allowed(&answer.unwrap_or_else(|error| panic!("{holds:?}: {error}")));
        assert!(
            receiver.metric("receiver_connections_ended_total{reason=\"room\"}") > ended,
            "{holds:?}: who is counted is gone"
        );
        assert!(receiver.metric("receiver_connections ") <= PLACES as f64);
        drop((held, caller));
        wait_until("they are gone", PATIENCE, || {
            receiver.metric("receiver_connections ") == 0.0
        });
    }
    receiver.stop();
}

#[test]
fn an_answer_that_nobody_reads_ends_its_http2_connection_though_no_place_is_wanted() {
    let authority = Authority::new();
    let site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    let runtime = Runtime::new().expect("a runtime");
    let _held = [0, 10].map(|window_bytes| Holds::Ungranting(window_bytes).take(&site, &authority, &runtime));
    wait_until("they are cut", PATIENCE, || {
        receiver.metric("receiver_connections_ended_total{reason=\"slow_reader\"}") == 2.0
    });
    receiver.stop();
}

#[test]
fn a_stop_has_its_bound_also_when_the_house_is_full_and_more_wait() {
    let authority = Authority::new();
    let site = Site::at(Kafka::start()).encrypted(&authority);
    let runtime = Runtime::new().expect("a runtime");
    for holds in HELD {
        let receiver = site.receiver_with(&FOUR_PLACES).ready();
        let held: Vec<_> = (0..PLACES).map(|_| holds.take(&site, &authority, &runtime)).collect();
        let waiting = [(); PLACES].map(|()| TcpStream::connect(site.listen()).expect("a connection"));
        receiver.ask_to_stop();
        receiver.stopped();
        drop((held, waiting));
    }
}

#[test]
fn what_is_no_tls_harms_nobody_and_is_counted() {
    let authority = Authority::new();
    let site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    let connect = || TcpStream::connect(site.listen()).expect("a connection");
    let mut stalled = connect();
    stalled.write_all(&[22, 3, 1, 2, 0, 1]).expect("written");
    for garbage in [&b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"[..], &[0xff; 3_000]] {
        let mut caller = connect();
        // Whether it is read to its end or not.
        let _ = caller.write_all(garbage);
        let _ = caller.read_to_end(&mut Vec::new());
    }
    let mut caller = TlsCaller::connect(site.listen(), &authority).expect("a connection");
    assert_allowed(&caller.post(&topic(0)).expect("an answer"));
    let ended = |outcome: &str, least: f64| {
        let name = format!("receiver_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        wait_until(&name, PATIENCE, || receiver.metric(&name) >= least);
    };
    ended("failed", 2.0);
    ended("stalled", 1.0);
    ended("done", 1.0);
    stalled.read_to_end(&mut Vec::new()).expect("the end");
    receiver.stop();
}

#[test]
fn chat_is_played_over_https_by_an_authority_of_ones_own() {
    let authority = Authority::new();
    let mut site = Site::at(Kafka::start()).encrypted(&authority);
    let receiver = site.receiver().ready();
    site.folder().write("ca.pem", authority.pem());
    let folder = site.folder().path().to_owned();
    let play = |arguments: &[&str]| {
        let always = ["simulate", "--rate", "50", "--for", "1s"];
        Portcullis::command(&folder, &[&always, arguments].concat()).run()
    };
    let url = format!("https://localhost:{}/", site.listen().port());
    assert_eq!(play(&["--ca", "ca.pem", "--url", &url]).code, 0);
    assert_eq!(
        play(&["--ca", "ca.pem"]).code,
        0,
        "the configuration says that it is encrypted"
    );
    assert_eq!(play(&[]).code, 1, "an authority that nobody knows is not believed");
    assert_eq!(play(&["--ca", "key.pem"]).code, 2);
    let plain = play(&["--ca", "ca.pem", "--url", "http://127.0.0.1:8080/"]);
    assert_eq!(plain.code, 2);
    assert!(plain.err.contains("not encrypted: leave it out"), "{}", plain.err);
    receiver.stop();
}
