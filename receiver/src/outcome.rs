//! How a callback ended: exactly one outcome for each, as a label and in its record.

/// How a callback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Chat may go on.
    Allowed,
    /// A verdict refused it.
    Denied,
    /// The configured fallback was answered, as no decision could be made.
    Fallback,
    /// The body was no JSON; answered by what the query tells.
    Unreadable,
    /// The body was over the limit; answered by what the query tells.
    TooLarge,
    /// The body did not end before the deadline; answered by what the query tells.
    Stalled,
    /// The machine is overloaded: the configured fallback was answered without a look-up.
    Overloaded,
    /// Answering failed inside; answered so that Chat goes on.
    Panicked,
    /// Not from Chat: 403.
    Forged,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Allowed,
        Self::Denied,
        Self::Fallback,
        Self::Unreadable,
        Self::TooLarge,
        Self::Stalled,
        Self::Overloaded,
        Self::Panicked,
        Self::Forged,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Fallback => "fallback",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::Stalled => "stalled",
            Self::Overloaded => "overloaded",
            Self::Panicked => "panicked",
            Self::Forged => "forged",
        }
    }

    /// What a record says when the callback could not be answered normally.
    pub fn rejection(self) -> Option<&'static str> {
        match self {
            Self::Allowed | Self::Denied | Self::Fallback => None,
            Self::Unreadable | Self::TooLarge | Self::Stalled | Self::Overloaded | Self::Panicked | Self::Forged => {
                Some(self.name())
            }
        }
    }
}
