//! What the driver starts ends with it, however it ends: by an error, by a signal, or killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io, thread};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// All that run. Held while one is started: once the end has begun, none is any more.
static RUNNING: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// A process that runs; killed when dropped.
pub(crate) struct Process {
    child: Arc<Mutex<Child>>,
    pid: Pid,
}

impl Process {
    /// Pinned to these cores, as taskset lists them. Each program replaces itself by the next, so the id is the last one's.
    /// The kernel kills it when the thread that calls this ends: to be called by the main one.
    pub(crate) fn start(words: &[String], cores: &str, adapt: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "-c", cores])
            .args(words);
        adapt(&mut command);
        let mut running = held(&RUNNING);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let child = Arc::new(Mutex::new(child));
        running.push(Arc::clone(&child));
        Ok(Self { child, pid })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, once it did.
    pub(crate) fn ended(&self) -> io::Result<Option<ExitStatus>> {
        held(&self.child).try_wait()
    }

    /// kill -9, and its end.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let mut child = held(&self.child);
        child.kill()?;
        child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.kill();
        held(&RUNNING).retain(|child| !Arc::ptr_eq(child, &self.child));
    }
}

/// From now on SIGTERM, SIGINT and SIGHUP end the driver, and leave neither processes, nor a broker that stands still, nor
/// the folder of the rounds.
pub(crate) fn end_by_signals(broker: Pid, rounds: PathBuf) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(entered);
    let waiting = move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
                _ = hang_up.recv() => 129,
            }
        });
        end(broker, &rounds, code)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(waiting)?;
    Ok(())
}

fn end(broker: Pid, rounds: &Path, code: i32) -> ! {
    let running = held(&RUNNING);
    for child in running.iter() {
        let mut child = held(child);
        // Gone already is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
    let _ = kill_process(broker, Signal::CONT);
    let _ = fs::remove_dir_all(rounds);
    eprintln!("bench: interrupted");
    std::process::exit(code)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::{Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};
    use std::{env, fs, process, thread};

    use rustix::process::{Pid, Signal, kill_process};

    use super::{Process, end_by_signals};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_driver_that_is_interrupted_leaves_no_process_no_rounds_and_no_broker_that_stands_still() {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let ended = Ended::by(signal);
            assert_eq!(ended.status.code(), Some(code));
            until("what it started has ended", || is_over(ended.started));
            assert!(!ended.rounds.exists(), "the folder of the rounds is gone");
            until("the broker goes on", || state(ended.broker.pid()) != Some('T'));
        }
    }

    #[test]
    fn what_a_killed_driver_has_started_ends_with_it() {
        let ended = Ended::by(Signal::KILL);
        until("what it started has ended", || is_over(ended.started));
    }

    #[test]
    fn what_is_dropped_has_ended() {
        let process = Process::start(&words("sleep 600"), "0", |_| {}).expect("it starts");
        let pid = process.pid();
        assert!(process.ended().expect("its state").is_none());
        drop(process);
        assert!(is_over(pid));
    }

    /// The driver of the tests above, in a process of its own; tells what it started, and waits for its end.
    #[test]
    #[ignore = "is started by the tests above"]
    fn driver() {
        let rounds = PathBuf::from(env::var("BENCH_TEST_ROUNDS").expect("the folder"));
        let broker = env::var("BENCH_TEST_BROKER")
            .expect("the broker")
            .parse()
            .expect("a pid");
        end_by_signals(Pid::from_raw(broker).expect("a pid"), rounds.clone()).expect("signals are listened to");
        let started = Process::start(&words("sleep 600"), "0", |_| {}).expect("it starts");
        let draft = rounds.join("draft");
        fs::write(&draft, started.pid().as_raw_nonzero().to_string()).expect("it is written");
        fs::rename(draft, rounds.join("started")).expect("it is there as a whole");
        thread::sleep(2 * PATIENCE);
    }

    struct Ended {
        status: ExitStatus,
        started: Pid,
        rounds: PathBuf,
        broker: Process,
    }

    impl Ended {
        /// A driver that has frozen the broker and runs a contestant.
        fn by(signal: Signal) -> Self {
            let rounds = env::temp_dir().join(format!("bench-driver-{}-{}", process::id(), signal.as_raw()));
            fs::create_dir_all(&rounds).expect("the folder");
            let broker = Process::start(&words("sleep 600"), "0", |_| {}).expect("it starts");
            kill_process(broker.pid(), Signal::STOP).expect("it is there");
            let mut driver = Command::new(env::current_exe().expect("this program"))
                .args(["--exact", "--ignored", "process::tests::driver"])
                .env("BENCH_TEST_ROUNDS", &rounds)
                .env("BENCH_TEST_BROKER", broker.pid().as_raw_nonzero().to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            until("it has started something", || rounds.join("started").exists());
            let started = read_pid(&rounds.join("started"));
            kill_process(Pid::from_child(&driver), signal).expect("it is there");
            let status = driver.wait().expect("it ended");
            if signal == Signal::KILL {
                fs::remove_dir_all(&rounds).expect("the next run removes it");
            }
            Self {
                status,
                started,
                rounds,
                broker,
            }
        }
    }

    fn read_pid(file: &Path) -> Pid {
        let text = fs::read_to_string(file).expect("it is there");
        Pid::from_raw(text.parse().expect("a number")).expect("a pid")
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: not within {} s",
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Gone, or waited for by nobody.
    fn is_over(pid: Pid) -> bool {
        matches!(state(pid), None | Some('Z'))
    }

    fn state(pid: Pid) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }
}
