use std::fmt;
use std::time::Duration;

/// What a campaign does, and when: a function of its seed, whatever machine it is played on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) rounds: Vec<Round>,
}

/// One fault, or two of different targets; then it is calm for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) faults: Vec<Fault>,
    pub(crate) calm: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) target: Target,
    pub(crate) damage: Damage,
    /// From the round's beginning.
    pub(crate) after: Duration,
    pub(crate) lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// By its index.
    Receiver(usize),
    Worker,
    Broker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// SIGKILL, and a new start after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Freeze,
    /// SIGSTOP, and SIGKILL after a while.
    FreezeAndKill,
    /// SIGTERM, and a new start after its end.
    Restart,
    /// No byte is left. Nothing else happens to that receiver meanwhile: what it answers then is in memory only.
    FullDisk {
        /// Callbacks so large that memory is full, too, and records are lost and counted.
        large: bool,
    },
    /// Each sync takes so long. The receiver is not killed meanwhile: past its deadline it answers first.
    SlowDisk { sync: Duration },
}

/// A broker stands still for so long after a disk is free again.
const LONGER: Duration = Duration::from_millis(500);
/// Two of them, of which the second has the small disk.
pub(crate) const RECEIVERS: usize = 2;
const ON_SMALL_DISK: Target = Target::Receiver(1);

/// What every so many rounds hold, each once, in random order: all kinds come, and what the promise is about most.
const DECK: [Card; 18] = [
    Card::Receiver(Kind::Kill),
    Card::Receiver(Kind::Kill),
    Card::Receiver(Kind::Kill),
    Card::Receiver(Kind::Kill),
    Card::Receiver(Kind::Freeze),
    Card::Receiver(Kind::FreezeAndKill),
    Card::Receiver(Kind::Restart),
    Card::Receiver(Kind::Restart),
    Card::FullDisk { large: false },
    Card::FullDisk { large: true },
    Card::SlowDisk,
    Card::Worker(Kind::Kill),
    Card::Worker(Kind::Freeze),
    Card::Worker(Kind::Restart),
    Card::Broker(Kind::Kill),
    Card::Broker(Kind::Kill),
    Card::Broker(Kind::Freeze),
    Card::Broker(Kind::FreezeAndKill),
];

#[derive(Clone, Copy)]
enum Card {
    Receiver(Kind),
    Worker(Kind),
    Broker(Kind),
    FullDisk { large: bool },
    SlowDisk,
}

#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Freeze,
    FreezeAndKill,
    Restart,
}

impl Plan {
    pub(crate) fn new(seed: u64, rounds: u32) -> Self {
        let mut random = Random(seed);
        let mut deck = Vec::new();
        let rounds = (0..rounds).map(|_| Round::draw(&mut random, &mut deck)).collect();
        Self { rounds }
    }
}

impl Round {
    fn draw(random: &mut Random, deck: &mut Vec<Card>) -> Self {
        let mut faults = vec![Fault::of(draw(random, deck), random)];
        if random.below(3) == 0 {
            let second = Fault::of(draw(random, deck), random);
            // Two of one target would undo each other.
            if second.target != faults[0].target {
                faults.push(second);
            }
        }
        let full = faults
            .iter()
            .find(|fault| matches!(fault.damage, Damage::FullDisk { .. }));
        if let Some(&Fault { after, lasts, .. }) = full {
            // While Kafka takes what comes, a full disk is no matter: the room of what it has is used again.
            faults.retain(|fault| fault.target != Target::Broker);
            faults.push(Fault {
                target: Target::Broker,
                damage: Damage::Freeze,
                after: Duration::ZERO,
                lasts: after + lasts + LONGER,
            });
        }
        let calm = random.millis(500..=1_500);
        Self { faults, calm }
    }
}

impl Fault {
    fn of(card: Card, random: &mut Random) -> Self {
        let (target, damage) = match card {
            Card::Receiver(kind) => (Target::Receiver(random.index(RECEIVERS)), kind.damage()),
            Card::Worker(kind) => (Target::Worker, kind.damage()),
            Card::Broker(kind) => (Target::Broker, kind.damage()),
            Card::FullDisk { large } => (ON_SMALL_DISK, Damage::FullDisk { large }),
            Card::SlowDisk => {
                // From what nobody notices to far beyond the reply's deadline.
                let sync = random.millis(50..=1_200);
                (Target::Receiver(random.index(RECEIVERS)), Damage::SlowDisk { sync })
            }
        };
        let after = random.millis(0..=1_500);
        let lasts = match damage {
            Damage::Restart => Duration::ZERO,
            Damage::Kill => random.millis(0..=3_000),
            // Beyond the patience of the clients, which the campaign sets to 3 s, or within it.
            Damage::Freeze | Damage::FreezeAndKill => random.millis(200..=6_000),
            // Large callbacks of some callers fill memory in 2 s.
            Damage::FullDisk { large: true } => random.millis(3_000..=6_000),
            Damage::FullDisk { large: false } => random.millis(2_000..=5_000),
            Damage::SlowDisk { .. } => random.millis(1_000..=5_000),
        };
        Self {
            target,
            damage,
            after,
            lasts,
        }
    }
}

impl Kind {
    fn damage(self) -> Damage {
        match self {
            Self::Kill => Damage::Kill,
            Self::Freeze => Damage::Freeze,
            Self::FreezeAndKill => Damage::FreezeAndKill,
            Self::Restart => Damage::Restart,
        }
    }
}

/// The next card of a shuffled deck, a new one when it is at its end.
fn draw(random: &mut Random, deck: &mut Vec<Card>) -> Card {
    if deck.is_empty() {
        deck.extend(DECK);
    }
    let index = random.index(deck.len());
    deck.swap_remove(index)
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines that give the same numbers in every version of everything.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`; what the remainder prefers is of no interest here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap_or(0)
    }

    fn millis(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(range.start() + self.below(range.end() - range.start() + 1))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receiver(index) => write!(formatter, "receiver-{}", index + 1),
            Self::Worker => formatter.write_str("worker"),
            Self::Broker => formatter.write_str("broker"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::FreezeAndKill => "freeze and kill",
            Self::Restart => "restart",
            Self::FullDisk { large: false } => "full disk",
            Self::FullDisk { large: true } => "full disk and memory",
            Self::SlowDisk { .. } => "slow disk",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.damage, self.target)?;
        if let Damage::SlowDisk { sync } = self.damage {
            write!(formatter, " ({} ms)", sync.as_millis())?;
        }
        if self.lasts > Duration::ZERO {
            write!(formatter, " {:.1} s", self.lasts.as_secs_f64())?;
        }
        Ok(())
    }
}
