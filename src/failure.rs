use std::io;
use std::process::ExitCode;

use portcullis_schema::settings::Mistakes;

/// Why a command did not do what it was asked for: one variant for each exit code, so that a script or a supervisor
/// can tell what helps. 64 never gets better by trying again, 69 may.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The checked thing does not hold; the command has printed what.
    #[error("the checked thing does not hold")]
    DoesNotHold,
    /// The arguments contradict each other in a way that only the command can see.
    #[error("{0}\n\nFor more information, try '--help'.")]
    Usage(String),
    /// Mistakes in a file or the environment.
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    /// A file, a variable of the environment or a value that cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// A service that is needed does not answer, or refuses.
    #[error("{0}")]
    Away(String),
    /// Nobody can read what is printed.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// A panic, which has been printed where it happened.
    #[error("this is a bug in portcullis: please report what is printed above")]
    Bug,
}

impl Failure {
    /// Tells it on stderr, and the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let code = match &self {
            Self::DoesNotHold => return ExitCode::from(1),
            // `portcullis verdict list | head`: the reader has what it wanted.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Usage(_) => 2,
            Self::Configuration(_) | Self::Unusable(_) => 64,
            Self::Away(_) | Self::Output(_) => 69,
            Self::Bug => 70,
        };
        match &self {
            // Each line begins with its place, which editors jump to.
            Self::Configuration(mistakes) => eprintln!("{mistakes}"),
            other => eprintln!("error: {other}"),
        }
        ExitCode::from(code)
    }
}
