use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{PATIENCE, wait_until};

/// The ballast grows by so much, and at the end by the smallest amount that a file system knows.
const STEPS: [usize; 2] = [256 << 10, 512];

/// A small file system of a test's own, in memory: it can be filled, and made read-only.
pub(crate) struct SmallDisk {
    path: PathBuf,
    /// Gives it back when its input ends: in order with the test, or when the process of the tests is killed.
    guard: Child,
}

impl SmallDisk {
    /// At `path`, which is made; the error tells why there is none.
    pub(crate) fn mount(path: &Path, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes},mode=700"),
                "portcullis-test",
            ])
            .arg(path)
            .output()
            .map_err(|error| format!("mount cannot be run: {error}"))?;
        if !mounted.status.success() {
            let told = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            return Err(format!("mount needs root and the right to: {told}"));
        }
        // Deaf to the terminal, so that Ctrl-C ends the receiver on it first.
        let guard = Command::new("sh")
            .args(["-c", "trap '' INT TERM HUP; cat >/dev/null; exec umount --lazy \"$0\""])
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("sh cannot be run: {error}"))?;
        Ok(Self {
            path: path.to_owned(),
            guard,
        })
    }

    /// Takes all that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file on the disk");
        for step in STEPS {
            // Until it is refused, which is what this is for.
            while ballast.write_all(&vec![0; step]).is_ok() {}
        }
    }

    /// Gives it all back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    /// `ro` or `rw`. Nobody may have a file of it open for writing.
    pub(crate) fn remount(&self, how: &str) {
        let remounted = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.path)
            .status();
        assert!(remounted.expect("mount runs").success(), "remount {how}");
    }

    fn ballast(&self) -> PathBuf {
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
const CALLS: &str = "fdatasync,fsync";

impl Tampered {
    /// Whether it can be done here; the error tells why not.
    pub(crate) fn is_possible() -> Result<(), String> {
        let tried = Command::new("strace")
            .args(["-qq", "-o", "/dev/null"])
            .args(tampering("delay_exit=1"))
            .arg("true")
            .output()
            .map_err(|error| format!("strace cannot be run: {error}"))?;
        let told = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        tried
            .status
            .success()
            .then_some(())
            .ok_or(format!("strace says: {told}"))
    }

    /// Every sync of `process` ends like that from here on: `delay_exit=MICROSECONDS`, or `error=EIO`.
    pub(crate) fn attach(process: u32, end: &str) -> Self {
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &process.to_string()])
            .args(tampering(end))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let tampered = Self(strace.expect("strace runs"));
        wait_until("strace has hold of every thread", PATIENCE, || is_traced(process));
        tampered
    }
}

impl Drop for Tampered {
    /// Asked to, strace lets the process go and ends. Killed, the kernel lets it go: strace does not ask it to end a
    /// process with its tracer.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let began = std::time::Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < DETACH_MAX {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tampering(end: &str) -> [String; 4] {
    let [trace, inject] = [format!("trace={CALLS}"), format!("inject={CALLS}:{end}")];
    ["-e".to_owned(), trace, "-e".to_owned(), inject]
}

fn is_traced(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    statuses
        .filter(|status| !status.contains("\nState:\tZ"))
        .all(|status| status.contains("TracerPid:") && !status.contains("TracerPid:\t0\n"))
}
