//! Who is measured, how each is started, and what the system says it cost. Everyone runs pinned to its cores
//! and ends with the driver ([`Process`]).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::Table;
use crate::load::{APP, TOKEN};
use crate::process::Process;

/// Loading 100,000 verdicts takes about a second, Python's imports as long; a busy machine needs more.
const START_MAX: Duration = Duration::from_secs(60);
/// Twice what the peers take to flush.
const STOP_MAX: Duration = Duration::from_secs(40);
/// The kernel counts CPU time in ticks of 10 ms on every Linux that is in use.
const TICK: Duration = Duration::from_millis(10);

/// Of ours, the threads that an answer waits for: the runtime's and the journal's writer.
const ANSWERING: [&str; 2] = ["tokio-rt-worker", "journal"];

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Contestant {
    Bare,
    AxumBefore,
    AxumAfter,
    Go,
    Python,
    OursHost,
    OursProcess,
}

/// Where a contestant writes and what it reads.
pub(crate) struct Surroundings<'a> {
    pub(crate) built: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) bootstrap: &'a str,
    pub(crate) topic: &'a str,
    /// Of ours: where it reads who is denied.
    pub(crate) verdicts: &'a str,
    /// Of ours: no two that run have the same.
    pub(crate) instance: &'a str,
    /// As taskset lists them.
    pub(crate) cores: &'a str,
}

impl Contestant {
    pub(crate) const ALL: [Self; 7] = [
        Self::Bare,
        Self::AxumBefore,
        Self::AxumAfter,
        Self::Go,
        Self::Python,
        Self::OursHost,
        Self::OursProcess,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "axum, constant answer (bare)",
            Self::AxumBefore => "axum, moka, FutureProducer; answers before the acknowledgement",
            Self::AxumAfter => "axum, moka, FutureProducer; answers after the acknowledgement",
            Self::Go => "Go net/http, franz-go; answers after",
            Self::Python => "Python FastAPI, confluent-kafka; answers after",
            Self::OursHost => "Portcullis, durability host",
            Self::OursProcess => "Portcullis, durability process",
        }
    }

    pub(crate) fn records(self) -> bool {
        self != Self::Bare
    }

    pub(crate) fn takes_part_in(self, table: Table) -> bool {
        match table {
            Table::Peers => true,
            Table::Half | Table::Undisturbed => self.is_ours() || self == Self::Bare,
            Table::Frozen | Table::Killed => self.records(),
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::OursHost | Self::OursProcess)
    }

    /// What must be there before it can be started.
    pub(crate) fn needs(self, built: &Path) -> PathBuf {
        built.join(match self {
            Self::Bare => "peer-axum-bare",
            Self::AxumBefore | Self::AxumAfter => "peer-axum-kafka",
            Self::Go => "peer-go",
            Self::Python => "venv/ready",
            Self::OursHost | Self::OursProcess => "portcullis",
        })
    }

    /// The program and its arguments.
    fn command(self, around: &Surroundings, address: SocketAddr, admin: SocketAddr) -> io::Result<Vec<String>> {
        let program = |name: &str| around.built.join(name).display().to_string();
        let mut words = match self {
            Self::Bare => return Ok(vec![program("peer-axum-bare"), "--listen".into(), address.to_string()]),
            Self::OursHost | Self::OursProcess => {
                let file = configuration(self, around, address, admin)?;
                return Ok(vec![program("portcullis"), "receiver".into(), "--config".into(), file]);
            }
            Self::AxumBefore => vec![program("peer-axum-kafka"), "--answer".into(), "before".into()],
            Self::AxumAfter => vec![program("peer-axum-kafka"), "--answer".into(), "after".into()],
            Self::Go => vec![program("peer-go")],
            Self::Python => vec![program("venv/bin/python"), program("peer.py")],
        };
        let denied = program("denied.txt");
        let address = address.to_string();
        for (name, value) in [
            ("listen", address.as_str()),
            ("bootstrap", around.bootstrap),
            ("topic", around.topic),
            ("denied", &denied),
            ("token", TOKEN),
        ] {
            words.extend([format!("--{name}"), value.to_owned()]);
        }
        Ok(words)
    }
}

/// Writes the receiver's configuration; its path.
fn configuration(
    contestant: Contestant,
    around: &Surroundings,
    address: SocketAddr,
    admin: SocketAddr,
) -> io::Result<String> {
    let durability = if contestant == Contestant::OursHost {
        "host"
    } else {
        "process"
    };
    let data = around.folder.join("data");
    let text = format!(
        "[kafka]\nbootstrap = \"{}\"\ntopics = {{ callbacks = \"{}\", verdicts = \"{}\" }}\n\n[[apps]]\nid = {APP}\ntokens = [\"{TOKEN}\"]\n\n\
         [receiver]\ninstance = \"{}\"\nlisten = \"{address}\"\nadmin = \"{admin}\"\ndata = \"{}\"\n\n\
         [receiver.journal]\ndurability = \"{durability}\"\n",
        around.bootstrap,
        around.topic,
        around.verdicts,
        around.instance,
        data.display()
    );
    let file = around.folder.join("portcullis.toml");
    fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// A contestant that runs; ended when dropped.
pub(crate) struct Running {
    contestant: Contestant,
    process: Process,
    words: Vec<String>,
    log: PathBuf,
    cores: String,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    pub(crate) fn start(contestant: Contestant, around: &Surroundings) -> io::Result<Self> {
        fs::create_dir_all(around.folder)?;
        let (address, admin) = (free_address()?, free_address()?);
        let words = contestant.command(around, address, admin)?;
        let log = around.folder.join("log");
        let process = start(&words, around.cores, &log)?;
        let running = Self {
            contestant,
            process,
            words,
            log,
            cores: around.cores.to_owned(),
            address,
            admin,
        };
        running.wait_until_ready()?;
        Ok(running)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let started = Instant::now();
        while started.elapsed() < START_MAX {
            if self.process.ended()?.is_some() {
                return Err(io::Error::other(format!(
                    "it ended at start; see {}",
                    self.log.display()
                )));
            }
            if self.answers() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other(format!(
            "it was not ready in {} s; see {}",
            START_MAX.as_secs(),
            self.log.display()
        )))
    }

    /// Records that are not in Kafka yet; ours only.
    pub(crate) fn backlog(&self) -> io::Result<u64> {
        let metrics = get(self.admin, "/metrics")?;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix("receiver_backlog_records "));
        value
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| io::Error::other("it does not tell its backlog"))
    }

    /// How many answers took at most so many seconds by its own clock, from the shortest time on; ours only.
    pub(crate) fn reply_seconds(&self) -> io::Result<Vec<(f64, u64)>> {
        let metrics = get(self.admin, "/metrics")?;
        let buckets = metrics.lines().filter_map(|line| {
            let (most, count) = line
                .strip_prefix("receiver_reply_seconds_bucket{le=\"")?
                .split_once("\"} ")?;
            Some((most.parse().ok()?, count.trim().parse().ok()?))
        });
        Ok(buckets.collect())
    }

    fn answers(&self) -> bool {
        if !self.contestant.is_ours() {
            return TcpStream::connect(self.address).is_ok();
        }
        ready(self.admin).unwrap_or(false)
    }

    /// kill -9, and at once the same command on the same address and data.
    pub(crate) fn kill_and_restart(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process = start(&self.words, &self.cores, &self.log)?;
        self.wait_until_ready()
    }

    /// From now on what answers goes before everything else on its core ([`go_first`]); of ours, only what an answer waits for.
    pub(crate) fn go_first(&self) -> io::Result<()> {
        let answering = match self.contestant.is_ours() {
            true => &ANSWERING[..],
            false => &[],
        };
        for thread in threads(self.process.pid(), answering)? {
            go_first(&thread)?;
        }
        Ok(())
    }

    /// How many it may use.
    pub(crate) fn cores(&self) -> usize {
        self.cores.split(',').count()
    }

    /// User and system time of all its threads.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.pid().as_raw_nonzero()))?;
        // The name stands in brackets and may hold spaces; what follows is fields 3 and on, times are 14 and 15.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u32 = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u32>().ok())
            .sum();
        Ok(TICK * ticks)
    }

    /// The most memory it was ever resident with, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid().as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("it has ended; see {}", self.log.display())))
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(self) -> io::Result<()> {
        kill_process(self.process.pid(), Signal::TERM)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if self.process.ended()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!(
            "bench: {} did not end in {} s and is killed",
            self.contestant.title(),
            STOP_MAX.as_secs()
        );
        Ok(())
    }
}

fn start(words: &[String], cores: &str, log: &Path) -> io::Result<Process> {
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    let errors = log.try_clone()?;
    Process::start(words, cores, |command| {
        command
            .env("GOMAXPROCS", "1")
            .env("PORTCULLIS_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
    })
}

/// The ids of its threads of these names, each of which must be there; of all threads, where there are no names.
fn threads(process: Pid, names: &[&str]) -> io::Result<Vec<String>> {
    let (mut threads, mut missing) = (Vec::new(), names.to_vec());
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        let thread = thread?;
        let name = fs::read_to_string(thread.path().join("comm"))?;
        if names.is_empty() || names.contains(&name.trim()) {
            missing.retain(|missing| *missing != name.trim());
            threads.push(thread.file_name().to_string_lossy().into_owned());
        }
    }
    match missing.first() {
        None => Ok(threads),
        Some(missing) => Err(io::Error::other(format!(
            "it has no thread `{missing}`, so what its answers wait for cannot go first"
        ))),
    }
}

/// Real-time priority for the thread of this id, and for those that it starts: no thread of the machine's own makes it wait.
/// By `chrt`, since the system call is `unsafe`.
pub(crate) fn go_first(thread: &str) -> io::Result<()> {
    let status = Command::new("chrt").args(["--fifo", "--pid", "1", thread]).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(
            "chrt was refused: the table `undisturbed` needs root, or CAP_SYS_NICE",
        )),
    }
}

/// Free now; taken again at once, so that a clash is as good as impossible.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn ready(admin: SocketAddr) -> io::Result<bool> {
    Ok(get(admin, "/ready")?
        .get(..12)
        .is_some_and(|start| start.ends_with("200")))
}

/// Head and body.
fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    use std::io::{Read, Write};
    let mut connection = TcpStream::connect(admin)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use rustix::process::getpid;

    use super::threads;

    #[test]
    fn threads_that_an_answer_waits_for_are_found_or_their_absence_is_said() {
        let (end, ended) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let named = thread::Builder::new().name("journal-of-test".to_owned());
        let running = named.spawn(move || {
            begin.send(()).expect("the test waits");
            ended.recv()
        });
        begun.recv().expect("it has its name before it runs");
        assert_eq!(threads(getpid(), &["journal-of-test"]).expect("it is there").len(), 1);
        assert!(threads(getpid(), &[]).expect("all of them").len() > 1);
        let missing = threads(getpid(), &["journal-of-test", "renamed"]).expect_err("there is none");
        assert!(missing.to_string().contains("`renamed`"), "{missing}");
        drop(end);
        running
            .expect("it was started")
            .join()
            .expect("it ended")
            .expect_err("nothing was sent");
    }
}
