use std::fmt;
use std::ops::RangeInclusive;

/// How a command can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The codes that it can carry.
    pub codes: Codes,
    /// The code that refuses while the caller believes in success, where the command has one.
    pub drop: Option<u32>,
    /// Where the refusal stands in the answer.
    pub shape: Shape,
}

/// The codes of a refusal, which several commands share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// 1, of which the caller sees 10016, or 10100 to 10200: groups, topics, and messages to them (Chat's pages
    /// "Before a Topic Is Created", "Before a Group Is Created" and those of their family).
    Group,
    /// 1, of which the caller sees 20006, or 120001 to 130000: one-to-one messages and official accounts ("Before
    /// Sending a One-to-One Message", "Before an Official Account Is Created").
    Message,
    /// 38000 to 39000, for each item ("Before a Friend Request Is Sent"). The page has no plain code, so 38000 is ours.
    Friend,
    /// 1 alone: no other one is documented.
    Plain,
}

/// Where a refusal stands in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In `ErrorCode`, for the whole.
    Whole,
    /// In `ErrorCode` for the whole, or in `RefusedMembers_Account` for some who are invited.
    Members,
    /// In `ErrorCode` for the whole, or in `RefusedSubscribers_Account` for some who are to subscribe.
    Subscribers,
    /// In `ResultItem`, one for each friend; Chat ignores `ErrorCode`.
    Friends,
}

impl Codes {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Group, Self::Message, Self::Friend, Self::Plain];

    /// The code without a text of its own.
    pub const fn plain(self) -> u32 {
        match self {
            Self::Group | Self::Message | Self::Plain => 1,
            Self::Friend => 38_000,
        }
    }

    /// The codes that reach the caller together with `ErrorInfo`.
    pub const fn custom(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::Group => Some(10_100..=10_200),
            Self::Message => Some(120_001..=130_000),
            Self::Friend => Some(38_000..=39_000),
            Self::Plain => None,
        }
    }

    /// Whether a refusal can carry `code`.
    pub fn carry(self, code: u32) -> bool {
        code == self.plain() || self.custom().is_some_and(|custom| custom.contains(&code))
    }

    /// The code that a refusal with `wanted` carries: `wanted` where it can be carried, else the plain one.
    ///
    /// A verdict about an operator can apply to commands of several ranges; the refusal itself must survive.
    pub fn code(self, wanted: Option<u32>) -> u32 {
        match wanted {
            Some(code) if self.carry(code) => code,
            _ => self.plain(),
        }
    }
}

/// As a person reads it who has to choose a code.
impl fmt::Display for Codes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.custom()) {
            (Self::Friend, Some(custom)) => write!(formatter, "{} to {}", custom.start(), custom.end()),
            (_, Some(custom)) => write!(formatter, "{}, or {} to {}", self.plain(), custom.start(), custom.end()),
            (_, None) => write!(formatter, "{}", self.plain()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Codes;

    #[test]
    fn a_refusal_survives_any_code_and_keeps_the_one_that_can_be_carried() {
        for (codes, wanted, carried) in [
            (Codes::Group, Some(10_150), 10_150),
            (Codes::Group, Some(38_001), 1),
            (Codes::Group, None, 1),
            (Codes::Message, Some(120_001), 120_001),
            (Codes::Message, Some(10_150), 1),
            (Codes::Friend, Some(39_000), 39_000),
            (Codes::Friend, Some(1), 38_000),
            (Codes::Plain, Some(10_150), 1),
        ] {
            assert_eq!(codes.code(wanted), carried, "{codes:?} {wanted:?}");
        }
        for codes in Codes::ALL {
            for wanted in [None, Some(0), Some(2), Some(u32::MAX)] {
                assert_ne!(codes.code(wanted), 0, "{codes:?} {wanted:?} would let through");
            }
        }
    }
}
