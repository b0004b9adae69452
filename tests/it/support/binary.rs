use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::wait_until;

/// Far beyond what a stop may take.
const END_MAX: Duration = Duration::from_secs(60);

/// A call of the real binary, in a folder of its own choice and with nothing of this environment's settings.
pub(crate) struct Portcullis(Command);

/// A call that has come to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A process that goes on until it is told to stop; killed when the test ends before.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Portcullis {
    pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.current_dir(folder).args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PORTCULLIS")) {
            command.env_remove(name);
        }
        Self(command)
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Passes it a descriptor as systemd passes a socket: as the third, where only a shell can put it.
    pub(crate) fn passing(self, descriptor: OwnedFd) -> Self {
        let Self(mut shell) = self.behind("exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1");
        shell.stdin(descriptor);
        Self(shell)
    }

    /// Lets it have only what the arguments of `ulimit` say.
    pub(crate) fn limited(self, limits: &str) -> Self {
        self.behind(&format!("ulimit {limits}"))
    }

    /// The same, called by a shell that does something before.
    fn behind(self, before: &str) -> Self {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!(r#"{before}; exec "$@""#), "sh"])
            .arg(self.0.get_program())
            .args(self.0.get_args())
            .stdin(Stdio::null());
        if let Some(folder) = self.0.get_current_dir() {
            shell.current_dir(folder);
        }
        for (name, value) in self.0.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Self(shell)
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Ended {
        let output = self.0.output().expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("only text is printed");
        Ended {
            code: output.status.code().expect("an exit code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Starts it; both its outputs go to the file `log`.
    pub(crate) fn start(mut self, log: PathBuf) -> Running {
        let file = File::create(&log).expect("a log file");
        let outputs = (file.try_clone().expect("a second handle"), file);
        let child = self
            .0
            .stdout(outputs.0)
            .stderr(outputs.1)
            .spawn()
            .expect("the binary runs");
        Running { child, log }
    }
}

impl Ended {
    /// Panics with everything that was printed unless it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Each line of the output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let lines = self
            .out
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"));
        lines.collect()
    }
}

impl Running {
    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log file")
    }

    /// The process, for signals.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success(), "signal {name}");
    }

    /// How it ended, if it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process")
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.wait(END_MAX)
    }

    /// Waits for its end, for at most `patience`; what it printed can still be read.
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", patience, || {
            status = self.status();
            status.is_some()
        });
        status.expect("ended")
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
