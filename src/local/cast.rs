//! Who acts in the sample traffic, and when: the same play every minute, without chance, so that what it shows is
//! what the rules say.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How long the play takes before it begins again with other abusers.
pub(crate) const ROUND: Duration = Duration::from_secs(60);

/// Ordinary operators: each makes one topic in 20 s, 3 a minute, below any sensible rule.
const OPERATORS: u64 = 400;
const ORDINARY_EVERY: Duration = Duration::from_millis(50);
const SUBJECTS: [&str; 20] = [
    "Hiking",
    "Chess",
    "Baking",
    "Sailing",
    "Jazz",
    "Pottery",
    "Running",
    "Gardening",
    "Cycling",
    "Film",
    "Poetry",
    "Astronomy",
    "Climbing",
    "Knitting",
    "Football",
    "Painting",
    "Photography",
    "Cooking",
    "Travel",
    "Languages",
];

/// One callback to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    /// Since the beginning of the round.
    pub(crate) at: Duration,
    pub(crate) operator: String,
    pub(crate) address: IpAddr,
    pub(crate) name: String,
}

/// All acts of a round in the order of their time.
pub(crate) fn acts(round: u64) -> Vec<Act> {
    let mut acts: Vec<Act> = ordinary(round).collect();
    acts.extend(burst(round));
    acts.extend(copied_name(round));
    acts.extend(shared_address(round));
    acts.sort_by_key(|act| act.at);
    acts
}

fn ordinary(round: u64) -> impl Iterator<Item = Act> {
    let each = u64::try_from(ROUND.as_millis() / ORDINARY_EVERY.as_millis()).unwrap_or(1);
    (0..each).map(move |index| {
        let number = round * each + index;
        let operator = number % OPERATORS;
        let [.., high, low] = operator.to_be_bytes();
        Act {
            at: ORDINARY_EVERY * u32::try_from(index).unwrap_or(u32::MAX),
            operator: format!("user-{operator:03}"),
            address: IpAddr::V4(Ipv4Addr::new(198, 18, high, low)),
            name: format!("{} {number}", SUBJECTS[usize::from(low) % SUBJECTS.len()]),
        }
    })
}

/// A script: one operator, a topic every 10 ms.
fn burst(round: u64) -> impl Iterator<Item = Act> {
    (0..40).map(move |index| Act {
        at: Duration::from_secs(3) + Duration::from_millis(10) * index,
        operator: named("mallory", round),
        address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)),
        name: format!("offer {index}"),
    })
}

/// One name, spelled to look the same, made by one operator after the other.
fn copied_name(round: u64) -> impl Iterator<Item = Act> {
    const SPELLINGS: [&str; 4] = [
        "Official Support",
        "Οfficial Suppоrt",
        "0fficial  Support",
        "OfficiaI Support",
    ];
    (0..20).map(move |index: u8| Act {
        at: Duration::from_secs(9) + Duration::from_millis(40) * u32::from(index),
        operator: named(&format!("copycat-{index:02}"), round),
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, index)),
        name: format!("{}{}", SPELLINGS[usize::from(index) % SPELLINGS.len()], suffix(round)),
    })
}

/// One address behind which every topic has another operator.
fn shared_address(round: u64) -> impl Iterator<Item = Act> {
    let [.., low] = round.to_be_bytes();
    (0..40).map(move |index| Act {
        at: Duration::from_secs(15) + Duration::from_millis(25) * index,
        operator: named(&format!("account-{index:02}"), round),
        address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 100 + low % 100)),
        name: format!("Invest now {index}{}", suffix(round)),
    })
}

fn named(name: &str, round: u64) -> String {
    format!("{name}{}", suffix(round))
}

/// A verdict outlasts the round, so the abusers of the next one are others.
fn suffix(round: u64) -> String {
    if round == 0 {
        String::new()
    } else {
        format!("-{}", round + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Act, acts};

    #[test]
    fn ordinary_operators_stay_below_every_sample_rule() {
        for round in [0, 1] {
            let play = acts(round);
            let ordinary: Vec<&Act> = play.iter().filter(|act| act.operator.starts_with("user-")).collect();
            let most = |by: fn(&Act) -> String| {
                let mut counts = BTreeMap::<String, usize>::new();
                for act in &ordinary {
                    *counts.entry(by(act)).or_default() += 1;
                }
                counts.into_values().max().unwrap_or_default()
            };
            assert_eq!(most(|act| act.operator.clone()), 3);
            assert_eq!(most(|act| act.address.to_string()), 3);
            assert_eq!(most(|act| act.name.clone()), 1);
        }
    }
}
