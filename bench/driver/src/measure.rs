//! One contestant, one round, one table: start it on an empty topic, load it, let it drain, stop it, count.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, slice, thread};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::thread::gettid;
use serde::Serialize;

use crate::Table;
use crate::contestant::{Contestant, Running, Surroundings, go_first};
use crate::load::{self, Connected, DENIED, End, Load, Outcome, Pace, denied_operator};
use crate::process::end_by_signals;
use crate::saturation::{self, cpu, saturate};
use crate::topic;

/// Of the first second, which nobody looks at.
pub(crate) const WARMING: usize = 64;
/// See [`WARMING`].
pub(crate) const WARM: Duration = Duration::from_secs(1);
/// The outages' rate times Chat's patience of 2 s: no callback waits for a caller.
const PATIENT: usize = 2_100;
/// The rate while the broker stands still, callbacks a second.
const FROZEN_RATE: u64 = 1_000;
/// For how long it stands still.
const FROZEN: Duration = Duration::from_secs(10);
/// The same at half of the highest rate: an outage long enough that the backlog is far beyond what memory holds.
const FROZEN_AT_HALF: Duration = Duration::from_secs(60);
/// Of the floor meanwhile, callbacks a second: some half of what ours can do on a core.
const FLOOR_RATE: f64 = 20_000.0;
/// The load goes on for so long afterwards: as long as catching up takes, or it has failed.
const CATCHING_UP: Duration = Duration::from_secs(60);
/// For those that go on answering, so many callers wait for a stall of 60 ms at 8,000 a second; what is later than that
/// is late all the same, from its intended time.
const MANY: usize = 512;
/// A backlog counts as published when this share of a second's callbacks is left of it: what is always on its way.
const LEFT_SHARE: f64 = 0.1;
/// Looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the load goes on before and after.
const AROUND: Duration = Duration::from_secs(5);
/// The rate at the kill: what the slowest can almost do.
const KILLED_RATE: u64 = 2_000;
/// What an answer has to keep, and what is later counts as late.
const DEADLINE_US: u32 = 300_000;
/// Numbers of the second load in a topic begin here, far above what the first can reach; those of the third at twice that,
/// and so on.
pub(crate) const SECOND_LOAD: u64 = 1_000_000_000;

/// The topic of those who are denied as a rule.
pub(crate) const VERDICTS: &str = "verdicts";

/// The raw figures of one round.
#[derive(Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) contestant: Contestant,
    pub(crate) round: u32,
    pub(crate) called: u64,
    pub(crate) answered: u64,
    pub(crate) in_deadline: u64,
    pub(crate) unanswered: u64,
    pub(crate) wrong: u64,
    /// Answered, and not in the topic.
    pub(crate) lost: u64,
    /// In the topic more than once.
    pub(crate) doubled: u64,
    /// A callback, at saturation; at half of the highest rate while the broker stands still, where nothing is published.
    pub(crate) cpu_us: f64,
    /// The same at the fixed rate; peers only.
    pub(crate) fixed_cpu_us: f64,
    /// At saturation; twice the floor's rate where that is given.
    pub(crate) per_second: f64,
    /// At saturation: how many there were.
    pub(crate) callers: usize,
    /// At saturation: share of the core that the contestant had while callers called.
    pub(crate) busy: f64,
    /// At the fixed rate, or at half of the highest one, microseconds: p50, p99, p99.9, the worst.
    pub(crate) latency_us: [u32; 4],
    /// p99.9 of what was due while the broker stood still, and of what was due from then on, microseconds; half only.
    pub(crate) still_us: u32,
    /// See `still_us`.
    pub(crate) catching_up_us: u32,
    /// What p99.9 was at most by the contestant's own clock, without the driver's part and the machine's before it, while
    /// the broker stood still and from then on, microseconds; half only.
    pub(crate) own_us: [f64; 2],
    /// What waited for the broker, and how long it took until it was in Kafka, infinite where the load ended
    /// first; half only.
    pub(crate) backlog: u64,
    /// See `backlog`.
    pub(crate) published_in_s: f64,
    /// Records a second that were published until then, or until the load ended; half only.
    pub(crate) published_per_second: f64,
    pub(crate) memory_peak_mib: f64,
}

/// What stays the same in all rounds.
pub(crate) struct Bench {
    built: PathBuf,
    /// Configurations, data and logs, of this run only.
    rounds: PathBuf,
    pub(crate) bootstrap: String,
    broker: Pid,
    pub(crate) seconds: u64,
    rate: u64,
}

impl Bench {
    /// Needs the broker that tests/kafka/run has started; writes who is denied, for both kinds of contestants.
    pub(crate) fn new(built: PathBuf, seconds: u64, rate: u64) -> Result<Self, Box<dyn Error>> {
        let missing = "no broker: start this by bench/run";
        let bootstrap = env::var("PORTCULLIS_TEST_KAFKA").map_err(|_| missing)?;
        let broker = env::var("PORTCULLIS_TEST_KAFKA_PID").map_err(|_| missing)?;
        let broker = Pid::from_raw(broker.parse()?).ok_or(missing)?;
        let rounds = built.join("rounds");
        end_by_signals(broker, rounds.clone())?;
        // What is left of a run that was killed or had nothing more to do.
        let _ = fs::remove_dir_all(&rounds);
        fs::create_dir_all(&rounds)?;
        let denied: String = (0..DENIED).map(|index| denied_operator(index) + "\n").collect();
        fs::write(built.join("denied.txt"), denied)?;
        let bench = Self {
            built,
            rounds,
            bootstrap,
            broker,
            seconds,
            rate,
        };
        if bench.is_built(Contestant::OursHost) {
            bench.create_our_topics()?;
            topic::write_verdicts(&bench.bootstrap, VERDICTS, DENIED)?;
        }
        Ok(bench)
    }

    pub(crate) fn is_built(&self, contestant: Contestant) -> bool {
        contestant.needs(&self.built).exists()
    }

    fn create_our_topics(&self) -> Result<(), Box<dyn Error>> {
        let file = self.rounds.join("topics.toml");
        let app = load::APP;
        fs::write(
            &file,
            format!(
                "[kafka]\nbootstrap = \"{}\"\n[[apps]]\nid = {app}\ntokens = [\"x\"]\n",
                self.bootstrap
            ),
        )?;
        let mut command = std::process::Command::new(self.built.join("portcullis"));
        let status = command
            .args(["topics", "create", "--config"])
            .arg(file)
            .stdout(std::io::stderr())
            .status()?;
        if !status.success() {
            return Err("portcullis topics create failed".into());
        }
        Ok(())
    }

    /// Whether another contestant can be measured.
    pub(crate) fn has_broker(&self) -> bool {
        test_kill_process(self.broker).is_ok()
    }

    pub(crate) fn measure(&self, table: Table, contestant: Contestant, round: u32) -> Result<Row, Box<dyn Error>> {
        let name = format!("callbacks-{table:?}-{contestant:?}-{round}").to_lowercase();
        topic::create(&self.bootstrap, &name)?;
        let folder = self.folder(&name);
        let measured = self.measure_in(&folder, &name, table, contestant, round);
        // The journal of a round that is over helps nobody.
        let _ = fs::remove_dir_all(folder.join("data"));
        measured
    }

    fn measure_in(
        &self,
        folder: &Path,
        name: &str,
        table: Table,
        contestant: Contestant,
        round: u32,
    ) -> Result<Row, Box<dyn Error>> {
        let around = self.surroundings(folder, name);
        let mut running = Running::start(contestant, &around)?;
        let mut row = Row {
            table,
            contestant,
            round,
            called: 0,
            answered: 0,
            in_deadline: 0,
            unanswered: 0,
            wrong: 0,
            lost: 0,
            doubled: 0,
            cpu_us: 0.0,
            fixed_cpu_us: 0.0,
            per_second: 0.0,
            callers: 0,
            busy: 0.0,
            latency_us: [0; 4],
            still_us: 0,
            catching_up_us: 0,
            own_us: [0.0; 2],
            backlog: 0,
            published_in_s: 0.0,
            published_per_second: 0.0,
            memory_peak_mib: 0.0,
        };
        let outcomes = match table {
            Table::Peers => self.fixed_then_saturated(&running, contestant, name, &mut row)?,
            Table::Half | Table::Undisturbed => self.half(&running, contestant, name, &mut row)?,
            Table::Frozen => self.frozen(&running)?,
            Table::Killed => self.killed(&mut running)?,
        };
        if contestant.records() {
            topic::wait_until_still(&self.bootstrap, name)?;
        }
        row.memory_peak_mib = running.memory_peak_kib()? as f64 / 1024.0;
        running.stop()?;
        row.judge(&outcomes);
        if contestant.records() {
            let counts = topic::count(&self.bootstrap, name)?;
            let answered = outcomes.iter().filter(|outcome| outcome.end == End::Answered);
            row.lost = answered.filter(|outcome| !counts.contains_key(&outcome.number)).count() as u64;
            row.doubled = counts.values().filter(|times| **times > 1).count() as u64;
        }
        Ok(row)
    }

    /// Of a single contestant on the first core, with those who are denied as a rule.
    pub(crate) fn surroundings<'a>(&'a self, folder: &'a Path, topic: &'a str) -> Surroundings<'a> {
        Surroundings {
            built: &self.built,
            folder,
            bootstrap: &self.bootstrap,
            topic,
            verdicts: VERDICTS,
            instance: "bench",
            cores: "0",
        }
    }

    /// Of its own round, in the folder of all.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.rounds.join(name)
    }

    /// The broker stands still until the value is dropped, whatever happens meanwhile.
    fn freeze_broker(&self) -> Result<Frozen, Box<dyn Error>> {
        kill_process(self.broker, Signal::STOP)?;
        Ok(Frozen(self.broker))
    }

    fn load(&self, running: &Running, pace: Pace, lasts: Duration, connections: usize) -> Load {
        Load {
            address: running.address,
            pace,
            lasts,
            connections,
            first: 0,
            judged: true,
            denied: DENIED,
        }
    }

    fn fixed_then_saturated(
        &self,
        running: &Running,
        contestant: Contestant,
        topic: &str,
        row: &mut Row,
    ) -> Result<Vec<Outcome>, Box<dyn Error>> {
        let still = || match contestant.records() {
            true => topic::wait_until_still(&self.bootstrap, topic).map(drop),
            false => Ok(()),
        };
        let receivers = slice::from_ref(running);
        let load = Load {
            judged: contestant.records(),
            ..self.load(running, Pace::Saturation, WARM, WARMING)
        };
        let lasts = Duration::from_secs(self.seconds);
        let mut outcomes = load::run(load)?;
        still()?; // or what is left of one load would be done in the time of the next, and count as its cost

        let before = cpu(receivers)?;
        let fixed = load::run(Load {
            pace: Pace::Fixed(self.rate),
            lasts,
            connections: MANY,
            first: SECOND_LOAD,
            ..load
        })?;
        row.fixed_cpu_us = (cpu(receivers)? - before).as_secs_f64() * 1e6 / fixed.len() as f64;
        row.latency_us = percentiles(&fixed);
        outcomes.extend(fixed);

        let first = 3 * SECOND_LOAD;
        let (callers, found) = saturation::find(receivers, Load { first, ..load })?;
        outcomes.extend(found);
        still()?;
        let before = cpu(receivers)?;
        let saturated = saturate(
            receivers,
            Load {
                lasts,
                connections: callers,
                first: 2 * SECOND_LOAD,
                ..load
            },
        )?;
        (row.callers, row.busy, row.per_second) = (callers, saturated.busy, saturated.per_second);
        still()?; // who answers first works afterwards: that work is the callbacks' too
        row.cpu_us = (cpu(receivers)? - before).as_secs_f64() * 1e6 / saturated.answers;
        outcomes.extend(saturated.outcomes);
        Ok(outcomes)
    }

    /// Saturation, then half of that around and during an outage of the broker. The floor, which has no broker, at a
    /// rate of ours: what the machine and the driver alone make of the latency.
    fn half(
        &self,
        running: &Running,
        contestant: Contestant,
        topic: &str,
        row: &mut Row,
    ) -> Result<Vec<Outcome>, Box<dyn Error>> {
        let mut outcomes = Vec::new();
        row.per_second = 2.0 * FLOOR_RATE;
        if contestant.is_ours() {
            let receivers = slice::from_ref(running);
            let first = 3 * SECOND_LOAD;
            let load = self.load(running, Pace::Saturation, Duration::from_secs(self.seconds), 0);
            let (connections, found) = saturation::find(receivers, Load { first, ..load })?;
            let saturated = saturate(receivers, Load { connections, ..load })?;
            (row.callers, row.busy, row.per_second) = (connections, saturated.busy, saturated.per_second);
            outcomes.extend(found);
            outcomes.extend(saturated.outcomes);
            topic::wait_until_still(&self.bootstrap, topic)?;
        }
        let backlog = || match contestant.is_ours() {
            true => running.backlog(),
            false => Ok(0),
        };
        let own_clock = || match contestant.is_ours() {
            true => running.reply_seconds(),
            false => Ok(Vec::new()),
        };
        let rate = (row.per_second / 2.0) as u64;
        let left = (row.per_second / 2.0 * LEFT_SHARE) as u64;
        let load = Load {
            first: SECOND_LOAD,
            judged: contestant.records(),
            ..self.load(running, Pace::Fixed(rate), AROUND + FROZEN_AT_HALF + CATCHING_UP, MANY)
        };
        let connected = Connected::make(load)?;
        let halved = thread::scope(|scope| {
            let undisturbed = row.table == Table::Undisturbed;
            if undisturbed {
                running.go_first()?;
            }
            let loading = scope.spawn(move || {
                if undisturbed {
                    go_first(&gettid().as_raw_nonzero().to_string())?;
                }
                connected.run()
            });
            thread::sleep(AROUND);
            let before = own_clock()?;
            let frozen = self.freeze_broker()?;
            let cpu = running.cpu()?;
            thread::sleep(FROZEN_AT_HALF);
            row.cpu_us = (running.cpu()? - cpu).as_secs_f64() * 1e6 / (rate as f64 * FROZEN_AT_HALF.as_secs_f64());
            row.backlog = backlog()?;
            let still = own_clock()?;
            drop(frozen);
            let continued = Instant::now();
            while !loading.is_finished() && backlog()? > left {
                thread::sleep(LOOK_EVERY);
            }
            let (waits, took) = (backlog()?, continued.elapsed().as_secs_f64());
            row.published_in_s = if waits > left { f64::INFINITY } else { took };
            row.published_per_second = row.backlog.saturating_sub(waits) as f64 / took + row.per_second / 2.0;
            let halved = loading.join().map_err(|_| "the load panicked")??;
            row.own_us = [slowest(&before, &still), slowest(&still, &own_clock()?)];
            Ok::<_, Box<dyn Error>>(halved)
        })?;
        row.latency_us = percentiles(&halved);
        // When a callback was due follows from its number.
        let due_s = |outcome: &Outcome| (outcome.number - SECOND_LOAD) as f64 / rate as f64;
        let during = |from: Duration, to: Duration| {
            let is_due = |outcome: &&Outcome| (from.as_secs_f64()..to.as_secs_f64()).contains(&due_s(outcome));
            percentiles(&halved.iter().filter(is_due).copied().collect::<Vec<_>>())
        };
        [.., row.still_us, _] = during(AROUND, AROUND + FROZEN_AT_HALF);
        [.., row.catching_up_us, _] = during(AROUND + FROZEN_AT_HALF, Duration::MAX);
        outcomes.extend(halved);
        Ok(outcomes)
    }

    fn frozen(&self, running: &Running) -> Result<Vec<Outcome>, Box<dyn Error>> {
        let load = self.load(running, Pace::Fixed(FROZEN_RATE), AROUND + FROZEN + AROUND, PATIENT);
        let connected = Connected::make(load)?;
        thread::scope(|scope| {
            let loading = scope.spawn(move || connected.run());
            thread::sleep(AROUND);
            let frozen = self.freeze_broker()?;
            thread::sleep(FROZEN);
            drop(frozen);
            Ok(loading.join().map_err(|_| "the load panicked")??)
        })
    }

    fn killed(&self, running: &mut Running) -> Result<Vec<Outcome>, Box<dyn Error>> {
        let load = self.load(running, Pace::Fixed(KILLED_RATE), AROUND, PATIENT);
        let connected = Connected::make(load)?;
        thread::scope(|scope| {
            let loading = scope.spawn(move || connected.run());
            thread::sleep(AROUND / 2);
            running.kill_and_restart()?;
            Ok(loading.join().map_err(|_| "the load panicked")??)
        })
    }
}

/// A broker that stands still.
struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // One that is gone is noticed by who asks it next.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

impl Row {
    fn judge(&mut self, outcomes: &[Outcome]) {
        self.called = outcomes.len() as u64;
        for outcome in outcomes {
            match outcome.end {
                End::Answered | End::Refused => {
                    self.answered += 1;
                    self.in_deadline += u64::from(outcome.latency_us <= DEADLINE_US);
                }
                End::Unanswered => self.unanswered += 1,
                End::Wrong => self.wrong += 1,
            }
        }
    }
}

/// The bound that 99.9 % of the answers between two looks at a histogram kept, in microseconds.
fn slowest(before: &[(f64, u64)], after: &[(f64, u64)]) -> f64 {
    let between: Vec<(f64, u64)> = before
        .iter()
        .zip(after)
        .map(|((most, before), (_, after))| (*most, after - before))
        .collect();
    let all = between.last().map_or(0, |(_, count)| *count);
    let bound = between.iter().find(|(_, count)| count * 1_000 >= all * 999);
    bound.map_or(f64::NAN, |(most, _)| most * 1e6)
}

fn percentiles(outcomes: &[Outcome]) -> [u32; 4] {
    let mut latencies: Vec<u32> = outcomes.iter().map(|outcome| outcome.latency_us).collect();
    latencies.sort_unstable();
    [500, 990, 999, 1_000].map(|permille| {
        let place = latencies.len().saturating_sub(1) * permille / 1_000;
        latencies.get(place).copied().unwrap_or_default()
    })
}
