use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Folder, free_neighbours};

/// What starts and stops a real Kafka.
const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/run");

/// A real broker that belongs to one test, which may do to it what it likes: nobody else would survive that.
pub(crate) struct Broker {
    folder: Folder,
    /// Its own, also while it is down: after that it must be found at the same address.
    port: u16,
    /// Stops the broker when its input ends: in order with the test, or when the process of the tests is killed.
    guard: Child,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further lines for its `server.properties`, until it is restarted.
    pub(crate) fn start_with(properties: &[&str]) -> Self {
        let folder = Folder::new();
        // Deaf to the terminal, or Ctrl-C would end it before the broker.
        let guard = Command::new("sh")
            .args([
                "-c",
                "trap '' INT TERM HUP; cat >/dev/null; exec \"$0\" stop --dir \"$1\"",
            ])
            .args([RUN.into(), directory(&folder)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh runs");
        // The broker's own, and its controller's beside it.
        let port = free_neighbours(2).port();
        let broker = Self { folder, port, guard };
        let arguments: Vec<&str> = properties.iter().flat_map(|line| ["--property", line]).collect();
        broker.launch(&arguments);
        broker
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> String {
        self.told("address")
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
    }

    /// Starts it again after [`Broker::kill`], at the same address and with what it had on disk.
    pub(crate) fn restart(&self) {
        self.launch(&["--keep"]);
    }

    /// Connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn launch(&self, arguments: &[&str]) {
        let started = Command::new(RUN)
            .args(["start", "--dir"])
            .arg(directory(&self.folder))
            .args(arguments)
            .env("PORTCULLIS_KAFKA_PORT", self.port.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("tests/kafka/run runs");
        let told = String::from_utf8_lossy(&started.stderr);
        assert!(
            started.status.success() && self.address().ends_with(&format!(":{}", self.port)),
            "this test needs a real broker of its own, and there is none at its port: {told}"
        );
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.told("pid")])
            .status();
        assert!(sent.expect("kill runs").success(), "signal {name} to the broker");
    }

    fn told(&self, file: &str) -> String {
        let path = directory(&self.folder).join(file);
        std::fs::read_to_string(path).expect(file).trim().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn directory(folder: &Folder) -> PathBuf {
    folder.path().join("kafka")
}
