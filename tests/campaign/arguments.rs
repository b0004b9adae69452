use clap::Parser;
use portcullis_schema::Uuid;

/// The name of this test, for those who filter tests by name.
const NAME: &str = "campaign";
/// Of the short campaign: its rounds freeze and kill receivers and worker, fill a disk, and slow one down.
const SHORT_SEED: u64 = 1;
/// Two seeds of so many rounds are over within a minute.
const SHORT_ROUNDS: u32 = 4;

/// A campaign of faults over real processes.
#[derive(Debug, Parser)]
#[command(
    name = "tests/campaign/run",
    after_help = "Without --seed and --rounds it is the short one: a fixed seed and a random one.\n\
                  Exit codes: 0 every promise was kept, 1 one was not or the campaign could not be played, 2 usage, \
                  130 interrupted.\n\
                  Examples:\n  tests/campaign/run --rounds 100\n  tests/campaign/run --rounds 100 --seed 4711"
)]
pub(crate) struct Arguments {
    /// How many rounds; each is one fault, or two at once, with random durations
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: Option<u32>,

    /// Plays the plan of this seed; a random one when not given
    #[arg(long)]
    pub(crate) seed: Option<u64>,

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

/// One campaign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) seed: u64,
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

    /// The campaigns, one after the other.
    pub(crate) fn sizes(&self) -> Vec<Size> {
        let size = |seed, rounds| Size {
            seed,
            rounds,
            callers: self.callers,
        };
        let random = || u64::from(Uuid::new_v4().as_fields().0);
        match (self.seed, self.rounds) {
            (None, None) => vec![size(SHORT_SEED, SHORT_ROUNDS), size(random(), SHORT_ROUNDS)],
            (seed, rounds) => vec![size(seed.unwrap_or_else(random), rounds.unwrap_or(SHORT_ROUNDS))],
        }
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
