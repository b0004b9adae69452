//! Yes or no for a callback, now: memory only, no I/O, no clock, no wait.
//!
//! Verdicts are kept by subject in a moka cache ([`store`]), compact ([`held`]); terms, which must match inside a name,
//! are an automaton beside it ([`terms`]). One writer ([`Keeper`], owned by the verdict reader) puts verdicts in; any
//! number of callers decide.
//!
//! Why moka is set up as it is: its default policy refuses new entries when the cache is full and warm, and its expiry
//! runs inline on an unlucky caller (500,000 entries that expire together stalled one look-up for 1.4 s). So: LRU, no
//! expiry of its own; the deadline stands in the value and is checked on read, and the keeper sweeps within a budget.

mod held;
mod keeper;
mod store;
mod terms;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use portcullis_schema::{AppId, Command, DecidedBy, Effect, RecordedDecision, SubjectKind, Timestamp, Uuid, text};

pub use keeper::{Keeper, Kept};

use held::Held;
use store::Store;
use terms::Terms;

use crate::config::{Fallback, FallbackReply};

/// Which verdicts hold, for those who decide. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Decisions(Arc<Inner>);

struct Inner {
    store: Store,
    terms: ArcSwap<Terms>,
    /// For each partition of the topic, the next offset that is not yet in force.
    offsets: ArcSwap<Vec<i64>>,
    /// Whether everything up to the end captured at start is in force.
    warm: AtomicBool,
    fallback: Fallback,
}

/// What is decided about, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The app.
    pub app: AppId,
    /// The command.
    pub command: &'a Command,
    /// Who acts.
    pub operator: Option<&'a str>,
    /// The address of the user's device.
    pub client_ip: Option<IpAddr>,
    /// The name to be judged.
    pub name: Option<&'a str>,
    /// Whether the callback could be read: without an operator and a name, nobody can be cleared.
    pub readable: bool,
}

/// What is answered, and on which ground.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether Chat goes on.
    pub effect: Effect,
    /// The code that the command can carry, of a refusal.
    pub code: Option<u32>,
    /// What the caller reads with the code.
    pub text: Option<Arc<str>>,
    /// The ground.
    pub by: DecidedBy,
    /// The verdict that was the ground.
    pub verdict: Option<Uuid>,
    /// Its rule.
    pub rule: Option<Arc<str>>,
    /// For each partition of the topic, the next offset that was not yet in force.
    pub verdicts_at: Arc<Vec<i64>>,
}

/// What weighs more comes first: moderator allow > moderator deny > rule deny > default.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    ModeratorAllow,
    ModeratorDeny,
    RuleDeny,
}

impl Decisions {
    /// With room for `subjects_max` subjects, and its one keeper.
    pub fn new(subjects_max: u64, fallback: Fallback) -> (Self, Keeper) {
        let decisions = Self(Arc::new(Inner {
            store: Store::new(subjects_max),
            terms: ArcSwap::from_pointee(Terms::default()),
            offsets: ArcSwap::from_pointee(Vec::new()),
            warm: AtomicBool::new(false),
            fallback,
        }));
        let keeper = Keeper::new(decisions.clone());
        (decisions, keeper)
    }

    /// Decides at `now`. The first of equal weight wins, in the order operator, address, prefix (the longest first),
    /// name, term, everyone.
    pub fn decide(&self, question: &Question<'_>, now: Timestamp) -> Decision {
        // Read before the look-ups: what is in force is at least this.
        let verdicts_at = self.0.offsets.load_full();
        let Some(refusal) = question.command.refusal() else {
            return Decision::unbidden(Effect::Allow, DecidedBy::Default, verdicts_at);
        };
        let mut best: Option<(Weight, Held)> = None;
        self.each_verdict(question, |held| {
            if held.is_expired(now) || !held.applies_to(question.command) {
                return;
            }
            if let Some(weight) = Weight::of(held)
                && best.as_ref().is_none_or(|(heaviest, _)| weight < *heaviest)
            {
                best = Some((weight, held.clone()));
            }
        });
        match best {
            Some((weight, held)) => {
                // None of today's refusable commands can drop silently, so a verdict that says so refuses.
                let refused = weight != Weight::ModeratorAllow;
                Decision {
                    effect: if refused { Effect::Deny } else { Effect::Allow },
                    code: refused.then(|| refusal.code(held.code)),
                    text: refused.then(|| held.text.clone()),
                    by: weight.ground(),
                    verdict: Some(held.id),
                    rule: held.rule.clone(),
                    verdicts_at,
                }
            }
            None if question.readable && self.is_warm() => {
                Decision::unbidden(Effect::Allow, DecidedBy::Default, verdicts_at)
            }
            None => self.fall_back(question.command),
        }
    }

    /// The configured answer when no decision can be made.
    pub fn fall_back(&self, command: &Command) -> Decision {
        let verdicts_at = self.0.offsets.load_full();
        match (command.refusal(), self.0.fallback.reply(command)) {
            (Some(refusal), FallbackReply::Deny { code, text }) => Decision {
                code: Some(refusal.code(Some(*code))),
                text: Some(text.as_str().into()),
                ..Decision::unbidden(Effect::Deny, DecidedBy::Fallback, verdicts_at)
            },
            (Some(_) | None, FallbackReply::Allow) | (None, FallbackReply::Deny { .. }) => {
                Decision::unbidden(Effect::Allow, DecidedBy::Fallback, verdicts_at)
            }
        }
    }

    /// Subjects in memory.
    pub fn subjects(&self) -> u64 {
        self.0.store.subjects()
    }

    /// Subjects that had to go for newer ones since the start: a verdict of theirs is not in force any more.
    pub fn evicted(&self) -> u64 {
        self.0.store.evicted()
    }

    fn is_warm(&self) -> bool {
        self.0.warm.load(Ordering::Acquire)
    }

    fn each_verdict(&self, question: &Question<'_>, mut visit: impl FnMut(&Held)) {
        let store = &self.0.store;
        let app = question.app;
        if let Some(operator) = question.operator {
            store.each_of(app, SubjectKind::Operator, operator, &mut visit);
        }
        if let Some(address) = question.client_ip {
            store.each_covering(app, address, &mut visit);
        }
        let terms = self.0.terms.load();
        if let Some(name) = question.name
            && (store.has(SubjectKind::Name) || !terms.is_empty())
        {
            let skeleton = text::skeleton(name);
            store.each_of(app, SubjectKind::Name, &skeleton, &mut visit);
            terms.each_in(app, &skeleton, |term| {
                store.each_of(app, SubjectKind::Term, term, &mut visit)
            });
        }
        store.each_of(app, SubjectKind::Everyone, "", &mut visit);
    }
}

impl Weight {
    fn of(held: &Held) -> Option<Self> {
        use portcullis_schema::Source::{Moderator, Rule};
        match (held.source, held.effect) {
            (Moderator, Effect::Allow) => Some(Self::ModeratorAllow),
            (Moderator, Effect::Deny | Effect::Drop) => Some(Self::ModeratorDeny),
            (Rule, Effect::Deny | Effect::Drop) => Some(Self::RuleDeny),
            (Rule, Effect::Allow) => None,
        }
    }

    fn ground(self) -> DecidedBy {
        match self {
            Self::ModeratorAllow | Self::ModeratorDeny => DecidedBy::Moderator,
            Self::RuleDeny => DecidedBy::Verdict,
        }
    }
}

impl Decision {
    /// Without a verdict.
    fn unbidden(effect: Effect, by: DecidedBy, verdicts_at: Arc<Vec<i64>>) -> Self {
        Self {
            effect,
            code: None,
            text: None,
            by,
            verdict: None,
            rule: None,
            verdicts_at,
        }
    }

    /// As a record keeps it.
    pub fn recorded(&self) -> RecordedDecision {
        RecordedDecision {
            effect: self.effect,
            code: self.code,
            text: self.text.as_deref().map(str::to_owned),
            by: self.by,
            verdict: self.verdict,
            rule: self.rule.as_deref().map(str::to_owned),
            verdicts_at: self.verdicts_at.to_vec(),
        }
    }
}
