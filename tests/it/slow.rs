//! Callers that hold connections without calling: nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use socket2::{Domain, Socket, Type};

use crate::support::{Callback, Kafka, PATIENCE, Site, wait_until};

/// What Chat waits for.
const CHAT_WAITS: Duration = Duration::from_secs(2);

fn topic(name: &str) -> Callback {
    Callback::topic("leckie", name)
}

#[test]
fn a_thousand_idle_and_two_hundred_dribbling_connections_change_nothing_for_the_others() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let connect = || TcpStream::connect(site.listen()).expect("a connection");
    let idle: Vec<TcpStream> = (0..1_000).map(|_| connect()).collect();
    let request = topic("dribbled").request();
    let body_begins = request.len() - topic("dribbled").body().len();
    // Half of them have sent their head, and are to dribble their body.
    let mut dribbling: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    for (number, stream) in dribbling.iter_mut().enumerate() {
        let begun = if number % 2 == 0 { 20 } else { body_begins };
        stream.write_all(&request[..begun]).expect("written");
    }
    let mut caller = site.caller();
    for (round, byte) in request[body_begins..].iter().take(20).enumerate() {
        for stream in dribbling.iter_mut().skip(1).step_by(2) {
            // Those whose deadline is over were answered and are closed.
            let _ = stream.write_all(&[*byte]);
        }
        for number in 0..20 {
            let began = Instant::now();
            assert_eq!(caller.post(&topic(&format!("{round} {number}"))).code(), 0);
            assert!(
                began.elapsed() < CHAT_WAITS,
                "an answer came after {:?}",
                began.elapsed()
            );
        }
    }
    for stream in dribbling.iter_mut().skip(1).step_by(2) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut answer = Vec::new();
        // A byte that came behind the answer may reset the connection, the answer was there before.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
        assert!(answer.ends_with("\"ErrorCode\":0}"), "{answer:?}");
    }
    // The others never end their heads.
    wait_until("slow heads are ended", PATIENCE, || {
        receiver.metric("receiver_connections_ended_total{reason=\"slow_head\"}") == 100.0
    });
    assert_eq!(receiver.metric("receiver_connections "), 1_001.0);
    assert_eq!(caller.post(&topic("on the connection it had")).code(), 0);
    drop(idle);
    wait_until("they are gone", PATIENCE, || {
        receiver.metric("receiver_connections ") == 1.0
    });
    receiver.stop();
}

#[test]
fn a_thousand_that_call_at_once_wait_to_be_accepted_and_are_answered() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("what the kernel holds at most");
    let most: usize = most.trim().parse().expect("a number");
    receiver.freeze();
    let address = site.listen();
    let calling: Vec<TcpStream> = (0..most.min(1_000))
        .map(|number| {
            let mut stream = TcpStream::connect_timeout(&address, CHAT_WAITS / 2).expect("heard at once");
            let request = topic(&format!("at once {number}")).request();
            stream.write_all(&request).expect("written");
            stream
        })
        .collect();
    receiver.thaw();
    for mut stream in calling {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&begin), "HTTP/1.1 200 OK");
    }
    receiver.stop();
}

#[test]
fn a_full_house_makes_room_for_who_calls_and_never_ends_who_is_answered() {
    let site = Site::at(Kafka::start());
    let receiver = site
        .receiver_with(&[("PORTCULLIS__RECEIVER__CONNECTIONS_MAX", "20")])
        .ready();
    let mut kept = site.caller();
    assert_eq!(kept.post(&topic("first")).code(), 0);
    let mut idle: Vec<TcpStream> = Vec::new();
    for number in 0..100 {
        idle.push(TcpStream::connect(site.listen()).expect("a connection"));
        // In use, so it is never the one that is silent the longest.
        assert_eq!(kept.post(&topic(&format!("kept {number}"))).code(), 0);
        let mut fresh = site.caller();
        assert_eq!(fresh.post(&topic(&format!("fresh {number}"))).code(), 0);
    }
    assert!(receiver.metric("receiver_connections_ended_total{reason=\"room\"}") >= 80.0);
    assert!(
        receiver.metric("receiver_connections ") <= 21.0,
        "one more may wait for its place"
    );
    let said = |words: &str| receiver.log().matches(words).count();
    assert_eq!(
        said("no place is left for another connection"),
        1,
        "said once, not for each"
    );
    drop(idle);
    wait_until("it is said to be over", PATIENCE, || {
        said("there is room for connections again") == 1
    });
    receiver.stop();
}

#[test]
fn connections_get_all_descriptors_that_the_system_allows() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver_limited("-S -n 256").ready();
    let idle: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(site.listen()).expect("a connection"))
        .collect();
    assert_eq!(site.caller().post(&topic("answered")).code(), 0);
    wait_until("all are held", PATIENCE, || {
        receiver.metric("receiver_connections ") == idle.len() as f64
    });
    receiver.stop();
}

#[test]
fn with_few_descriptors_as_many_connections_are_held_as_leave_some_to_the_others() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver_limited("-n 256").ready();
    let _idle: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(site.listen()).expect("a connection"))
        .collect();
    assert_eq!(site.caller().post(&topic("answered")).code(), 0);
    assert!(receiver.metric("receiver_connections ") <= 57.0);
    let log = receiver.log();
    assert!(log.contains("fewer connections are held than receiver.connections_max"));
    assert!(!log.contains("connections cannot be accepted"), "{log}");
    receiver.stop();
}

#[test]
fn who_calls_when_no_descriptor_is_left_gets_one_of_the_silent() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let idle: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(site.listen()).expect("a connection"))
        .collect();
    wait_until("all are held", PATIENCE, || {
        receiver.metric("receiver_connections ") == idle.len() as f64
    });
    // The next that it would take is one too many.
    let process = Pid::from_raw(receiver.id().cast_signed());
    let path = |number: &u64| PathBuf::from(format!("/proc/{}/fd/{number}", receiver.id()));
    let next = (0..).find(|number| path(number).symlink_metadata().is_err());
    let few = Rlimit {
        current: next,
        ..getrlimit(Resource::Nofile)
    };
    let before = prlimit(process, Resource::Nofile, few).expect("a limit");
    for number in 0..20 {
        assert_eq!(site.caller().post(&topic(&format!("answered {number}"))).code(), 0);
    }
    prlimit(process, Resource::Nofile, before).expect("the former limit");
    let log = receiver.log();
    assert_eq!(log.matches("connections cannot be accepted").count(), 1, "{log}");
    drop(idle);
    receiver.stop();
}

#[test]
fn who_sends_without_reading_is_cut_and_everybody_else_is_answered() {
    let site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    // Long answers fill the buffers of both sides sooner.
    site.moderate(
        "deny",
        &["--operator", "deaf", "--code", "10150", "--text", &"no ".repeat(300)],
    );
    let to_deaf = Callback::topic("deaf", "x");
    let mut caller = site.caller();
    wait_until("the verdict is in force", PATIENCE, || {
        caller.post(&to_deaf).code() == 10_150
    });
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    deaf.set_recv_buffer_size(4 << 10).expect("a small buffer");
    deaf.connect(&site.listen().into()).expect("a connection");
    let mut deaf = TcpStream::from(deaf);
    deaf.set_write_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    let over = Instant::now() + 3 * PATIENCE;
    let mut full = false;
    while receiver.metric("receiver_connections_ended_total{reason=\"slow_reader\"}") == 0.0 {
        assert!(Instant::now() < over, "it is cut");
        // Not written any more when both sides are full: half a request would be its last.
        for _ in 0..200 {
            full = full || deaf.write_all(&to_deaf.request()).is_err();
        }
        assert_eq!(caller.post(&topic("heard")).code(), 0);
    }
    receiver.stop();
}
