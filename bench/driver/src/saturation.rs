//! Loads a contestant until it can do no more, the same way for all. Who waits for Kafka before it answers is idle with
//! as many callers as fill the core of who does not: so callers are added until the core is busy, or more of them bring
//! nothing.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::Running;
use crate::load::{Connected, End, Load, Outcome};
use crate::measure::SECOND_LOAD;

/// With 64 the fastest are saturated; with 1,024 everyone that answers within 30 ms has 30,000 a second to do.
const CALLERS: [usize; 5] = [64, 128, 256, 512, 1_024];
/// Share of its cores: the rest is what a tick of the clock and the end of a load take from the figure.
const BUSY_MIN: f64 = 0.9;
/// Fewer answers more than that, and doubling the callers was for nothing.
const GROWTH_MIN: f64 = 1.05;
/// For each number of callers: 200 ticks of the kernel's clock for processor time.
const LOOK: Duration = Duration::from_secs(2);

/// What callers saw that called again as soon as they were answered.
pub(crate) struct Saturated {
    pub(crate) outcomes: Vec<Outcome>,
    /// Those of the contract.
    pub(crate) answers: f64,
    pub(crate) per_second: f64,
    /// Share of its cores that the contestant had meanwhile.
    pub(crate) busy: f64,
}

/// One load of so many callers as `load` has connections, shared by all receivers. Numbers of each receiver's load are a
/// [`SECOND_LOAD`] apart.
pub(crate) fn saturate(receivers: &[Running], load: Load) -> Result<Saturated, Box<dyn Error>> {
    let connected = (0..)
        .zip(receivers)
        .map(|(index, receiver)| {
            Connected::make(Load {
                address: receiver.address,
                connections: load.connections / receivers.len(),
                first: load.first + index * SECOND_LOAD,
                ..load
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (before, began) = (cpu(receivers)?, Instant::now());
    let outcomes = thread::scope(|scope| {
        let loads: Vec<_> = connected
            .into_iter()
            .map(|load| scope.spawn(move || load.run()))
            .collect();
        let mut outcomes = Vec::new();
        for load in loads {
            outcomes.extend(load.join().map_err(|_| "a load panicked")??);
        }
        Ok::<_, Box<dyn Error>>(outcomes)
    })?;
    // Not as long as the load should last: the last answers of many callers come well after it.
    let took_s = began.elapsed().as_secs_f64();
    let cores = receivers.first().map_or(1, Running::cores) as f64;
    let is_answer = |outcome: &&Outcome| matches!(outcome.end, End::Answered | End::Refused);
    let answers = outcomes.iter().filter(is_answer).count() as f64;
    Ok(Saturated {
        answers,
        per_second: answers / took_s,
        busy: (cpu(receivers)? - before).as_secs_f64() / took_s / cores,
        outcomes,
    })
}

/// How many callers it takes, and what was answered while that was found out. Numbers begin at `load.first`.
pub(crate) fn find(receivers: &[Running], load: Load) -> Result<(usize, Vec<Outcome>), Box<dyn Error>> {
    let (mut outcomes, mut first) = (Vec::new(), load.first);
    let callers = enough(|callers| {
        let seen = saturate(
            receivers,
            Load {
                lasts: LOOK,
                connections: callers,
                first,
                ..load
            },
        )?;
        first += SECOND_LOAD * receivers.len() as u64;
        outcomes.extend(seen.outcomes);
        Ok::<_, Box<dyn Error>>((seen.per_second, seen.busy))
    })?;
    Ok((callers, outcomes))
}

/// The first number of callers that keeps the cores busy, or that is not worth doubling. A look tells answers a second
/// and the share of the cores.
fn enough<E>(mut look: impl FnMut(usize) -> Result<(f64, f64), E>) -> Result<usize, E> {
    let (mut best, mut best_per_second) = (CALLERS[0], 0.0);
    for callers in CALLERS {
        let (per_second, busy) = look(callers)?;
        let grows = per_second > best_per_second * GROWTH_MIN;
        if per_second > best_per_second {
            (best, best_per_second) = (callers, per_second);
        }
        if busy >= BUSY_MIN || !grows {
            break;
        }
    }
    Ok(best)
}

/// User and system time of all of them.
pub(crate) fn cpu(receivers: &[Running]) -> Result<Duration, Box<dyn Error>> {
    let mut sum = Duration::ZERO;
    for receiver in receivers {
        sum += receiver.cpu()?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::enough;

    fn callers(look: impl Fn(usize) -> (f64, f64)) -> usize {
        enough(|callers| Ok::<_, Infallible>(look(callers))).unwrap_or_default()
    }

    #[test]
    fn callers_are_added_until_the_core_is_busy_or_more_of_them_bring_nothing() {
        let waits_for_kafka = |callers: usize| {
            let per_second = (callers as f64 / 0.005).min(28_000.0);
            (per_second, per_second * 35e-6)
        };
        assert_eq!(callers(waits_for_kafka), 256, "64 callers of 5 ms are 12,800 a second");
        assert_eq!(callers(|_| (120_000.0, 0.99)), 64, "busy at once");
        assert_eq!(
            callers(|callers| (5_000.0 + callers as f64 * 0.01, 0.4)),
            128,
            "held up elsewhere"
        );
        assert_eq!(callers(|callers| (callers as f64, 0.1)), 1_024, "as many as there are");
        assert_eq!(callers(|_| (0.0, 0.0)), 64, "nobody answers");
    }

    #[test]
    fn where_more_callers_are_answered_less_the_fewer_are_taken() {
        assert_eq!(callers(|callers| (10_000.0 / callers as f64, 0.5)), 64);
    }
}
