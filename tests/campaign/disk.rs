use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The journal's log is 64 MiB of it, its blocks as much, and the rest is for what is merged.
const BYTES: u64 = 256 << 20;
/// The ballast grows by so much, and at the end by the smallest amount that a file system knows.
const STEPS: [usize; 2] = [256 << 10, 512];

/// A small file system of its own, in memory, that can be filled. A [`crate::guard::Guard`] gives it back.
pub(crate) struct SmallDisk {
    path: PathBuf,
    ballast: Option<File>,
}

impl SmallDisk {
    /// At `path`, which is an empty folder; the error tells why there is none.
    pub(crate) fn mount(path: &Path) -> Result<Self, String> {
        fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={BYTES},mode=700"),
                "portcullis-campaign",
            ])
            .arg(path)
            .output()
            .map_err(|error| format!("mount cannot be run: {error}"))?;
        if !mounted.status.success() {
            let told = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            return Err(format!("mount needs root and the right to: {told}"));
        }
        Ok(Self {
            path: path.to_owned(),
            ballast: None,
        })
    }

    /// Takes all that is left.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.ballast = Some(File::create(self.path.join("ballast"))?);
        self.top_up();
        Ok(())
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
    pub(crate) fn free(&mut self) -> io::Result<()> {
        self.ballast = None;
        fs::remove_file(self.path.join("ballast"))
    }
}

/// Makes each sync of one process slow, through strace.
pub(crate) struct SlowSync(Child);

/// strace attaches at once, or not at all.
const ATTACH_MAX: Duration = Duration::from_secs(5);
/// strace lets go of a process at once; more than this and it is stuck.
const DETACH_MAX: Duration = Duration::from_secs(10);
const CALLS: &str = "fdatasync,fsync";

impl SlowSync {
    /// Whether it can be done here; the error tells why not.
    pub(crate) fn is_possible() -> Result<(), String> {
        let mut process = Command::new("sleep")
            .arg(DETACH_MAX.as_secs().to_string())
            .spawn()
            .map_err(|error| format!("sleep cannot be run: {error}"))?;
        let attached = Self::attach(process.id(), Duration::from_millis(1));
        let outcome = attached.map(drop);
        let _ = process.kill();
        let _ = process.wait();
        outcome
    }

    /// Each sync of `process` takes so long from here on; the error tells why not.
    pub(crate) fn attach(process: u32, sync: Duration) -> Result<Self, String> {
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &process.to_string()])
            .args(["-e", &format!("trace={CALLS}"), "-e", &inject(sync)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace cannot be run: {error}"))?;
        let mut slow = Self(strace);
        let began = Instant::now();
        while !is_traced(process) {
            let ended = !matches!(slow.0.try_wait(), Ok(None));
            if ended || began.elapsed() > ATTACH_MAX {
                let mut told = String::new();
                if let Some(stderr) = slow.0.stderr.as_mut().filter(|_| ended) {
                    let _ = stderr.read_to_string(&mut told);
                }
                return Err(format!("strace cannot attach to a process: {}", told.trim()));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(slow)
    }
}

impl Drop for SlowSync {
    /// Asked to, strace lets the process go and ends. Killed, the kernel lets it go: strace does not ask it to end a
    /// process with its tracer.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let began = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < DETACH_MAX {
            sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inject(sync: Duration) -> String {
    format!("inject={CALLS}:delay_exit={}", sync.as_micros())
}

fn is_traced(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}
