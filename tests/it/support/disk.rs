use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_schema::Uuid;

use super::PATIENCE;

/// The ballast grows by so much, and at the end by the smallest amount that a file system knows.
const STEPS: [usize; 2] = [256 << 10, 512];
/// Deaf to the terminal, so that Ctrl-C ends the receiver on the disk first.
const GIVE_BACK: &str = r#"trap '' INT TERM HUP; cat >/dev/null; exec umount --lazy "$0""#;

/// A small file system of a test's own, in memory: it can be filled, and made read-only.
pub(crate) struct SmallDisk {
    path: PathBuf,
    /// While it is filled.
    ballast: Option<File>,
    /// Gives it back when its input ends: in order with the test, or when the process of the tests is killed.
    guard: Child,
}

impl SmallDisk {
    /// At `path`, which is made; the error tells why there is none.
    pub(crate) fn mount(path: &Path, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(path).map_err(|error| error.to_string())?;
        // It is given back under this name, not by its path: whatever else is mounted stays.
        let name = format!("portcullis-test-{}", Uuid::now_v7().simple());
        let guard = Command::new("sh")
            .args(["-c", GIVE_BACK, &name])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("sh cannot be run: {error}"))?;
        let disk = Self {
            path: path.to_owned(),
            ballast: None,
            guard,
        };
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), &name])
            .arg(path)
            .output()
            .map_err(|error| format!("mount cannot be run: {error}"))?;
        if !mounted.status.success() {
            let told = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            return Err(format!("mount needs root and the right to: {told}"));
        }
        Ok(disk)
    }

    /// Takes all that is left.
    pub(crate) fn fill(&mut self) {
        self.ballast = Some(File::create(self.ballast_path()).expect("a file on the disk"));
        self.top_up();
    }

    /// Takes what came back since, while it is filled.
    pub(crate) fn top_up(&mut self) {
        let Some(ballast) = &mut self.ballast else {
            return;
        };
        for step in STEPS {
            // Until it is refused, which is what this is for.
            while ballast.write_all(&vec![0; step]).is_ok() {}
        }
    }

    /// Gives it all back.
    pub(crate) fn free(&mut self) {
        self.ballast = None;
        fs::remove_file(self.ballast_path()).expect("the disk was filled");
    }

    /// `ro` or `rw`. Nobody may have a file of it open for writing.
    pub(crate) fn remount(&self, how: &str) {
        let remounted = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.path)
            .status();
        assert!(remounted.expect("mount runs").success(), "remount {how}");
    }

    fn ballast_path(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Gives the syncs of one process another end, through strace, as long as this lives.
pub(crate) struct Tampered(Child);

/// strace lets go of a process at once; more than this and it is stuck.
const DETACH_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what strace does.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const CALLS: &str = "fdatasync,fsync";

impl Tampered {
    /// Whether it can be done here, to a process that is there already; the error tells why not.
    pub(crate) fn is_possible() -> Result<(), String> {
        let mut process = Command::new("sleep")
            .arg(PATIENCE.as_secs().to_string())
            .spawn()
            .map_err(|error| format!("sleep cannot be run: {error}"))?;
        let attached = Self::attach(process.id(), "delay_exit=1");
        let outcome = attached.map(drop);
        let _ = process.kill();
        let _ = process.wait();
        outcome
    }

    /// Every sync of `process` ends like that from here on: `delay_exit=MICROSECONDS`, or `error=EIO`; the error tells
    /// why not.
    pub(crate) fn attach(process: u32, end: &str) -> Result<Self, String> {
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &process.to_string()])
            .args(["-e", &format!("trace={CALLS}")])
            .args(["-e", &format!("inject={CALLS}:{end}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace cannot be run: {error}"))?;
        let mut tampered = Self(strace);
        let began = Instant::now();
        while !is_traced(process) {
            if let Some(told) = tampered.last_words() {
                return Err(format!("strace cannot attach to a process: {told}"));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("strace has no hold of every thread within {PATIENCE:?}"));
            }
            sleep(LOOK_EVERY);
        }
        Ok(tampered)
    }

    /// What strace said, if it has ended.
    fn last_words(&mut self) -> Option<String> {
        if matches!(self.0.try_wait(), Ok(None)) {
            return None;
        }
        let mut told = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            let _ = stderr.read_to_string(&mut told);
        }
        Some(told.trim().to_owned())
    }
}

impl Drop for Tampered {
    /// Asked to, strace lets the process go and ends. Killed, the kernel lets it go: strace does not ask it to end a
    /// process with its tracer.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let began = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < DETACH_MAX {
            sleep(LOOK_EVERY);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether every thread of it is; not when it is gone.
fn is_traced(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let mut living = statuses.filter(|status| !status.contains("\nState:\tZ")).peekable();
    living.peek().is_some() && living.all(|status| status.contains("TracerPid:") && !status.contains("TracerPid:\t0\n"))
}
