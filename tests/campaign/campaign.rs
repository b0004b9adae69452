use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::arguments::Size;
use crate::callers::Callers;
use crate::check::{self, Findings, Played};
use crate::interrupt::{self, interrupted};
use crate::plan::{Plan, Round};
use crate::reconcile;
use crate::report::Report;
use crate::seen::Seen;
use crate::stage::Stage;

/// Everything is compared after so many rounds: soon enough to know what a failure comes from.
const CHECK_EVERY: usize = 10;
/// For processes to be ready after a fault; a broker that was killed takes 5 s on a quiet machine.
const RECOVERY_MAX: Duration = Duration::from_secs(90);
/// For the backlog to be gone when no more callbacks come.
const CATCH_UP_MAX: Duration = Duration::from_secs(90);
/// Until a partition that is not read to its end is read again.
const READING_MAX: Duration = Duration::from_secs(20);
/// For what was answered before it was on disk, when all else is there.
const STRAGGLERS_MAX: Duration = Duration::from_secs(5);
/// Of warnings and errors in the logs, the last are told.
const TROUBLES_MAX: usize = 40;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a campaign ends early.
enum End {
    Interrupted,
    /// Promises that were not kept.
    Broken(Vec<String>),
}

/// Plays the campaign, and says how it ended.
pub(crate) fn run(size: &Size) -> ExitCode {
    interrupt::watch().expect("signals can be listened to");
    let played = catch_unwind(AssertUnwindSafe(|| Campaign::start(size.clone()).play()));
    let broken = match played {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        // Also when the signal has ended the processes first.
        _ if interrupted() => {
            println!("campaign: interrupted");
            return ExitCode::from(130);
        }
        Ok(Err(End::Interrupted)) => return ExitCode::from(130),
        Ok(Err(End::Broken(broken))) => broken,
        Err(_) => vec!["the campaign could not be played on: see the panic above".to_owned()],
    };
    println!("\ncampaign: FAILED with {}", size.seeds());
    for what in broken {
        println!("  {what}");
    }
    println!("replay: {}", replay(size));
    ExitCode::FAILURE
}

fn replay(size: &Size) -> String {
    let command = match std::env::var("PORTCULLIS_TEST_KAFKA") {
        Ok(_) => "tests/campaign/run",
        Err(_) => "cargo test --locked --test campaign --",
    };
    let Size { rounds, callers, .. } = size;
    format!("{command} --rounds {rounds} --callers {callers} {}", size.seeds())
}

struct Campaign {
    rounds: Vec<Round>,
    report: Report,
    // Ended in this order.
    callers: Callers,
    seen: Seen,
    stage: Stage,
    played: Played,
    kept_promises: bool,
}

impl Campaign {
    fn start(size: Size) -> Self {
        let plans = size.seeds.iter().map(|seed| Plan::new(*seed, size.rounds));
        let rounds = plans.flat_map(|plan| plan.rounds).collect();
        let report = Report::begin(&size);
        let stage = Stage::start();
        for (what, why) in &stage.skipped {
            println!("NOT PLAYED: {what}, because {why}");
        }
        let callers = Callers::start(size.callers as usize, &stage.receivers(), stage.site.kafka.is_real());
        Self {
            rounds,
            report,
            callers,
            seen: Seen::of(&stage.site.kafka),
            stage,
            played: Vec::new(),
            kept_promises: false,
        }
    }

    fn play(mut self) -> Result<(), End> {
        self.wait("everything is ready for the first time", RECOVERY_MAX, Stage::is_calm)?;
        let rounds = self.rounds.clone();
        for (number, round) in (1..).zip(&rounds) {
            self.play_round(number, round)?;
            if number % CHECK_EVERY == 0 && number < rounds.len() {
                self.check()?;
                self.callers.resume();
            }
        }
        let findings = self.check()?;
        self.end(&findings)
    }

    fn play_round(&mut self, number: usize, round: &Round) -> Result<(), End> {
        let begins = self.callers.pages().map(|page| page.next()).collect();
        self.played.push((round.clone(), begins));
        let began = Instant::now();
        let (mut steps, mut told) = (Vec::new(), Vec::new());
        for fault in &round.faults {
            if let Some(hindrance) = self.stage.hindrance(fault) {
                self.report.skips(hindrance);
                told.push(format!("({fault}, not played)"));
                continue;
            }
            self.report.plays(fault);
            told.push(fault.to_string());
            steps.push((fault.after, Step::Begin, fault));
            steps.push((fault.after + fault.lasts, Step::End, fault));
        }
        steps.sort_by_key(|(at, _, _)| *at);
        for (at, step, fault) in steps {
            self.go_on_until(began + at)?;
            match step {
                Step::Begin => self.stage.begin(fault),
                Step::End => self.stage.end(fault),
            }
        }
        let ended = Instant::now();
        self.wait("everything is ready again", RECOVERY_MAX, Stage::is_calm)?;
        let recovery = ended.elapsed();
        self.go_on_until(Instant::now() + round.calm)?;
        let (backlog, _) = self.stage.backlog();
        self.report
            .round(number, &told, recovery, self.callers.answered(), backlog);
        Ok(())
    }

    /// Lets everything come to rest and compares what was answered with what is there. Callers stay paused.
    fn check(&mut self) -> Result<Findings, End> {
        self.callers.pause();
        let began = Instant::now();
        self.wait("the backlog is gone", CATCH_UP_MAX, |stage| {
            stage.backlog() == (0.0, 0.0)
        })?;
        let mut findings = self.compare()?;
        let caught_up = Instant::now();
        while findings.missing > 0 && caught_up.elapsed() < STRAGGLERS_MAX {
            self.go_on_until(Instant::now() + LOOK_EVERY)?;
            findings = self.compare()?;
        }
        self.report.checked(&findings, began.elapsed());
        if findings.broken.is_empty() {
            Ok(findings)
        } else {
            Err(End::Broken(findings.broken))
        }
    }

    fn compare(&mut self) -> Result<Findings, End> {
        let began = Instant::now();
        loop {
            let ends = self.seen.ends();
            let ends_known = Instant::now();
            while let Some(ends) = &ends
                && !self.seen.has_reached(ends)
                && ends_known.elapsed() < READING_MAX
            {
                self.turn()?;
            }
            if ends.as_ref().is_some_and(|ends| self.seen.has_reached(ends)) {
                break;
            }
            let kafka = &self.stage.site.kafka;
            let behind = ends.map(|ends| self.seen.read_again(kafka, &ends)).unwrap_or_default();
            if began.elapsed() > CATCH_UP_MAX {
                return Err(broken(format!("the topic cannot be read to its end: {behind}")));
            }
            if !behind.is_empty() {
                println!("campaign: not read to its end within {READING_MAX:?}, read again by a new client: {behind}");
            }
            self.turn()?;
        }
        let losses = self.stage.losses();
        Ok(check::compare(&self.callers, self.seen.tally(), losses, &self.played))
    }

    /// Everything is stopped in order, and the last witness is heard.
    fn end(&mut self, findings: &Findings) -> Result<(), End> {
        self.stage.stop();
        let reconciled = reconcile::testify(&mut self.stage, findings.lost);
        let told = match &reconciled {
            None => "the binary has no such command",
            Some(Ok(())) => "finds the same",
            Some(Err(_)) => "DIFFERS",
        };
        let tally = self.seen.tally();
        let (posted, skipped) = (self.callers.posted(), &self.stage.skipped);
        self.report.end(posted, findings, tally, skipped, told);
        let mut broken: Vec<String> = check::too_many_repeats(tally).into_iter().collect();
        broken.extend(reconciled.and_then(Result::err));
        if !broken.is_empty() {
            return Err(End::Broken(broken));
        }
        self.kept_promises = true;
        Ok(())
    }

    fn wait(&mut self, what: &str, bound: Duration, mut condition: impl FnMut(&mut Stage) -> bool) -> Result<(), End> {
        let began = Instant::now();
        while !condition(&mut self.stage) {
            if began.elapsed() > bound {
                return Err(broken(format!("not within {bound:?}: {what}")));
            }
            self.go_on_until(Instant::now() + LOOK_EVERY)?;
        }
        Ok(())
    }

    fn go_on_until(&mut self, end: Instant) -> Result<(), End> {
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// What goes on all the time.
    fn turn(&mut self) -> Result<(), End> {
        if interrupted() {
            return Err(End::Interrupted);
        }
        if let Some((name, status)) = self.stage.ended() {
            return Err(broken(format!("{name} ended without being told to: {status}")));
        }
        self.stage.keep_full();
        if !self.seen.read_on() {
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Campaign {
    /// The logs stay when they are needed. Where the machine is gone afterwards, their end stands here.
    fn drop(&mut self) {
        if self.kept_promises || interrupted() {
            return;
        }
        let (folder, troubles) = self.stage.troubles();
        println!();
        for line in &troubles[troubles.len().saturating_sub(TROUBLES_MAX)..] {
            println!("  {line}");
        }
        println!("campaign: the logs of all processes stay in {}", folder.display());
    }
}

/// What happens to a fault at some time.
#[derive(Clone, Copy)]
enum Step {
    Begin,
    End,
}

fn broken(what: String) -> End {
    End::Broken(vec![what])
}
