use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::support::{Caller, Folder, Kafka, Portcullis, Running, free_address, wait_until};

const START_MAX: Duration = Duration::from_secs(30);
/// After that time the admin address ends a silent connection by itself.
const SILENT_MAX: Duration = Duration::from_secs(30);

struct Receiver {
    folder: Folder,
    admin: SocketAddr,
    _kafka: Kafka,
}

impl Receiver {
    fn new() -> Self {
        let (folder, kafka) = (Folder::new(), Kafka::start());
        let (listen, admin) = (free_address(), free_address());
        let own = format!(
            "{}[[apps]]\nid = 1400000001\ntokens = [\"t\"]\n[receiver]\nlisten = \"{listen}\"\nadmin = \"{admin}\"\n",
            kafka.section()
        );
        folder.write("portcullis.toml", &own);
        Self {
            folder,
            admin,
            _kafka: kafka,
        }
    }

    fn start(&self) -> Running {
        Portcullis::command(self.folder.path(), &["receiver"]).start(self.folder.path().join("log"))
    }

    fn health(&self) -> crate::support::Ended {
        let url = format!("http://{}/ready", self.admin);
        Portcullis::command(self.folder.path(), &["health", "--url", &url]).run()
    }

    fn ready(&self) -> Running {
        let running = self.start();
        wait_until("the receiver is ready", START_MAX, || self.health().code == 0);
        running
    }
}

fn get(url: &str) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(url).call().expect("an answer");
    let body = answer.body_mut().read_to_string().expect("a body");
    (answer.status().as_u16(), body)
}

#[test]
fn a_receiver_says_how_it_is_and_stops_when_asked() {
    let receiver = Receiver::new();
    let told = receiver.health().expect(1).out;
    assert!(told.contains("not ready") && told.contains("refused"), "{told}");

    let running = receiver.ready();
    let told = receiver.health().expect(0).out;
    assert!(told.contains("/ready: ready\n"), "{told}");
    let admin = receiver.admin;
    assert_eq!(get(&format!("http://{admin}/live")).0, 200);
    let (status, body) = get(&format!("http://{admin}/ready"));
    assert!(status == 200 && body.contains("\"ready\":true"), "{body}");
    assert!(get(&format!("http://{admin}/metrics")).1.ends_with("# EOF\n"));
    assert_eq!(get(&format!("http://{admin}/nothing")).0, 404);
    assert_eq!(running.terminate().code(), Some(0));
}

#[test]
fn who_asks_nothing_of_the_admin_address_keeps_no_probe_from_its_answer() {
    let receiver = Receiver::new();
    let running = receiver.ready();
    let ask = |caller: &mut Caller| {
        let answer = caller.send(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.status, 200);
    };
    let mut kept = Caller::at(receiver.admin);
    let _silent: Vec<TcpStream> = (0..300)
        .map(|number| {
            if number % 30 == 0 {
                // On the one connection that it has.
                ask(&mut kept);
            }
            TcpStream::connect(receiver.admin).expect("a connection")
        })
        .collect();
    for _ in 0..3 {
        ask(&mut Caller::at(receiver.admin).patience(SILENT_MAX / 2));
    }
    running.terminate();
}

#[test]
fn a_port_that_is_taken_is_told_with_the_setting_that_moves_it() {
    let receiver = Receiver::new();
    let taken = TcpListener::bind(receiver.admin).expect("the port is free");
    let ended = Portcullis::command(receiver.folder.path(), &["receiver"])
        .run()
        .expect(69);
    assert!(
        ended.err.contains("receiver.admin: another process listens at"),
        "{}",
        ended.err
    );
    drop(taken);
}

#[test]
fn a_passed_socket_is_used_wherever_it_listens() {
    let receiver = Receiver::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let running = Portcullis::command(receiver.folder.path(), &["receiver"])
        .passing(socket.into())
        .start(receiver.folder.path().join("log"));
    wait_until("the receiver is ready", START_MAX, || receiver.health().code == 0);
    assert_eq!(get(&format!("http://{address}/")).0, 200);
    let log = running.log();
    let told = log.lines().find(|line| line.contains("receiver.listen is not used"));
    assert!(told.is_some_and(|line| line.contains(&address.to_string())), "{log}");
    running.terminate();
}

#[test]
fn what_is_passed_and_is_no_listening_socket_is_refused_with_what_to_do() {
    let receiver = Receiver::new();
    let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
    let connected = TcpStream::connect(listening.local_addr().expect("an address")).expect("a connection");
    let passed: [OwnedFd; 3] = [
        File::open("/dev/null").expect("a file").into(),
        UdpSocket::bind("127.0.0.1:0").expect("a port").into(),
        connected.into(),
    ];
    for descriptor in passed {
        let ended = Portcullis::command(receiver.folder.path(), &["receiver"])
            .passing(descriptor)
            .run()
            .expect(64);
        assert!(
            ended.err.contains("LISTEN_FDS") && ended.err.contains("ListenStream="),
            "{}",
            ended.err
        );
    }
}

#[test]
fn logs_are_json_unless_a_person_looks_on() {
    let receiver = Receiver::new();
    let running = receiver.ready();
    let log = running.log();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    running.terminate();
}
