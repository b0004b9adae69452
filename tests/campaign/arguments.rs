use clap::Parser;
use portcullis_schema::Uuid;

/// The name of this test, for those who filter tests by name.
const NAME: &str = "campaign";
/// Of the short campaign: its rounds kill a broker and a receiver, slow one's disk down, and fill the other's disk and
/// memory.
const SHORT_SEED: u64 = 722;
/// Two seeds of so many rounds are over within a minute.
const SHORT_ROUNDS: u32 = 3;

/// A campaign of faults over real processes.
#[derive(Debug, Parser)]
#[command(
    name = "campaign",
    bin_name = "tests/campaign/run",
    after_help = "Without --seed and --rounds it is the short one: a fixed seed and a random one.\n\
                  Exit codes: 0 every promise was kept, 1 one was not or the campaign could not be played, 2 usage, \
                  130 interrupted.\n\
                  Examples:\n  tests/campaign/run --rounds 100\n  tests/campaign/run --rounds 100 --seed 4711"
)]
pub(crate) struct Arguments {
    /// How many rounds of each seed; a round is one fault, or two at once, with random durations
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: Option<u32>,

    /// Plays the rounds of this seed; a random one when not given; of several, one after the other
    #[arg(long)]
    pub(crate) seed: Vec<u64>,

    /// Callers, each with one connection and one callback under way
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) callers: u32,

    #[command(flatten)]
    of_cargo: OfCargo,
}

/// What `cargo test` hands to every test binary alike.
#[derive(Debug, clap::Args)]
struct OfCargo {
    #[arg(hide = true)]
    filters: Vec<String>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, visible_alias = "no-capture", hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(short, long, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    test_threads: Option<u32>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    format: Option<String>,
}

/// What is asked of this binary.
pub(crate) enum Wish {
    /// Campaigns.
    Run(Arguments),
    /// Another test, or only its name.
    Nothing,
}

/// What a campaign is made of.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    pub(crate) seeds: Vec<u64>,
    /// Of each seed.
    pub(crate) rounds: u32,
    pub(crate) callers: u32,
}

impl Arguments {
    /// From the command line; ends the process with usage when it cannot be understood.
    pub(crate) fn parse() -> Wish {
        let arguments = <Self as Parser>::parse();
        if arguments.of_cargo.list {
            println!("{NAME}: test");
            return Wish::Nothing;
        }
        if arguments.of_cargo.means_this() {
            Wish::Run(arguments)
        } else {
            Wish::Nothing
        }
    }

    /// The campaign that is asked for.
    pub(crate) fn size(&self) -> Size {
        let random = || u64::from(Uuid::new_v4().as_fields().0);
        let seeds = match (self.seed.as_slice(), self.rounds) {
            ([], None) => vec![SHORT_SEED, random()],
            ([], Some(_)) => vec![random()],
            (seeds, _) => seeds.to_vec(),
        };
        Size {
            seeds,
            rounds: self.rounds.unwrap_or(SHORT_ROUNDS),
            callers: self.callers,
        }
    }
}

impl Size {
    /// The seeds as arguments.
    pub(crate) fn seeds(&self) -> String {
        let seeds = self.seeds.iter().map(|seed| format!("--seed {seed}"));
        seeds.collect::<Vec<_>>().join(" ")
    }
}

impl OfCargo {
    fn means_this(&self) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                filter == NAME
            } else {
                NAME.contains(filter.as_str())
            }
        };
        let chosen = self.filters.is_empty() || self.filters.iter().any(matches);
        chosen && !self.ignored && !self.skip.iter().any(matches)
    }
}
