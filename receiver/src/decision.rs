//! Yes or no for a callback, now: memory only, no I/O, no clock, no wait.
//!
//! Verdicts are kept by subject ([`store`]), compact ([`held`]); terms, which must match inside a name, are an automaton
//! beside it ([`terms`]). One writer ([`Keeper`], owned by the verdict reader) puts verdicts in; any number of callers
//! decide, and never wait for it: neither while the memory grows, nor while many verdicts end or come at once.
//!
//! Some callbacks are about others beside their operator: who is invited, who is to subscribe, each friend. When nothing
//! decides about the whole, each of them is decided about by itself: members and subscribers by verdicts about them as
//! operators, since they would take part; friends by what is said to them, since they do nothing.
//!
//! Memory: a verdict of a rule about an operator takes some [`BYTES_EACH`] bytes in all; what a verdict says beside its
//! subject is kept once for all that say the same. [`BYTES_MOST`] is what one with the longest subject and a text of its own
//! takes. When a verdict ends is looked at when it is read; forgetting it is the keeper's work, within a budget.

mod held;
mod keeper;
mod store;
mod terms;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use portcullis_schema::text::{self, FOLDED_BYTES_MAX};
use portcullis_schema::{
    AppId, Command, DecidedBy, Effect, RecordedDecision, Refusal, Shape, Subject, SubjectKind, Timestamp, Uuid,
};

pub(crate) use held::{Held, Ruling};
pub use keeper::{Forgotten, Keeper, Kept};

use store::Store;
use terms::Terms;

use crate::callback::Item;
use crate::config::{Fallback, FallbackReply};

/// More of them are not looked up within a millisecond; Chat's own calls add at most 500 at a time.
const ITEMS_JUDGED_MAX: usize = 1_000;

/// What a verdict takes of memory as rules give them, in bytes; measured by `benches/decisions.rs`.
pub(crate) const BYTES_EACH: u64 = 240;
/// What it takes at the most: a subject of [`Subject::BYTES_MAX`], a text and a rule of its own as long as they may be, and
/// the same again of another source.
pub(crate) const BYTES_MOST: u64 = 5 << 10;

/// Which verdicts hold, for those who decide. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Decisions(Arc<Inner>);

struct Inner {
    store: Store,
    subjects_max: u64,
    /// Verdicts that had to go for newer ones.
    evicted: AtomicU64,
    terms: ArcSwap<Terms>,
    /// For each partition of the topic, the next offset that is not yet in force.
    offsets: ArcSwap<Vec<i64>>,
    /// Whether everything up to the end captured at start is in force.
    warm: AtomicBool,
    fallback: ArcSwap<Fallback>,
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
    /// The text to be judged: a name, or what is said.
    pub name: Option<&'a str>,
    /// Whom it is about beside its operator.
    pub items: &'a [Item],
    /// Whether the callback could be read.
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
    /// Those of the callback's items that are refused though the whole may go on; the ground is that of the first.
    pub refused: Vec<RefusedItem>,
}

/// One of a callback's items that is refused by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedItem {
    /// Which of them, counted from 0.
    pub index: usize,
    /// Its account.
    pub account: String,
    /// The code that the command can carry.
    pub code: u32,
    /// What the caller reads with the code, where the command has a place for it.
    pub text: Arc<str>,
}

impl Question<'_> {
    /// Whether who acts can be cleared: of nobody there is no verdict.
    fn can_be_cleared(&self) -> bool {
        self.readable && self.operator.is_some()
    }
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
            store: Store::new(),
            subjects_max,
            evicted: AtomicU64::new(0),
            terms: ArcSwap::from_pointee(Terms::default()),
            offsets: ArcSwap::from_pointee(Vec::new()),
            warm: AtomicBool::new(false),
            fallback: ArcSwap::from_pointee(fallback),
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
        let mut best = Best::new(question, now);
        let mut text_left = FOLDED_BYTES_MAX;
        self.each_verdict(question, refusal, &mut text_left, |held| best.weigh(held));
        if let Some((weight, held)) = best.found {
            return Decision::of(weight, &held, refusal, verdicts_at);
        }
        let few = question.items.len() <= ITEMS_JUDGED_MAX;
        let refused = match few {
            true => self.refuse_items(question, refusal, now, &mut text_left, &verdicts_at),
            false => None,
        };
        if few && text_left > 0 && question.can_be_cleared() && self.is_warm() {
            return refused.unwrap_or_else(|| Decision::unbidden(Effect::Allow, DecidedBy::Default, verdicts_at));
        }
        // Of the others nobody knows: where the fallback denies, they are not let in beside those who are refused.
        let fallback = self.fall_back(question.command);
        match fallback.effect {
            Effect::Allow => refused.unwrap_or(fallback),
            Effect::Deny | Effect::Drop => fallback,
        }
    }

    /// The callback may go on without some of its items; `None` where none of them is refused.
    fn refuse_items(
        &self,
        question: &Question<'_>,
        refusal: Refusal,
        now: Timestamp,
        text_left: &mut usize,
        verdicts_at: &Arc<Vec<i64>>,
    ) -> Option<Decision> {
        let mut decision: Option<Decision> = None;
        for (index, item) in question.items.iter().enumerate() {
            let mut best = Best::new(question, now);
            match (refusal.shape, &item.text) {
                (Shape::Members | Shape::Subscribers, _) => {
                    let store = &self.0.store;
                    store.each_of(question.app, SubjectKind::Operator, &item.account, &mut |held| {
                        best.weigh(held)
                    });
                }
                (Shape::Friends, Some(text)) => {
                    self.each_of_text(question.app, text, text_left, |held| best.weigh(held));
                }
                (Shape::Friends, None) | (Shape::Whole, _) => {}
            }
            let Some((weight, held)) = best.found.filter(|(weight, _)| *weight != Weight::ModeratorAllow) else {
                continue;
            };
            let decision = decision.get_or_insert_with(|| Decision {
                verdict: Some(held.id),
                rule: held.ruling.rule.clone(),
                ..Decision::unbidden(Effect::Allow, weight.ground(), Arc::clone(verdicts_at))
            });
            decision.refused.push(RefusedItem {
                index,
                account: item.account.clone(),
                code: held.code(refusal.codes),
                text: held.ruling.text.clone(),
            });
        }
        decision
    }

    /// The configured answer when no decision can be made.
    pub fn fall_back(&self, command: &Command) -> Decision {
        let verdicts_at = self.0.offsets.load_full();
        match (command.refusal(), self.0.fallback.load().reply(command)) {
            (Some(refusal), FallbackReply::Deny { code, text }) => Decision {
                code: Some(refusal.codes.code(Some(*code))),
                text: Some(text.as_str().into()),
                ..Decision::unbidden(Effect::Deny, DecidedBy::Fallback, verdicts_at)
            },
            (Some(_) | None, FallbackReply::Allow) | (None, FallbackReply::Deny { .. }) => {
                Decision::unbidden(Effect::Allow, DecidedBy::Fallback, verdicts_at)
            }
        }
    }

    /// Another configured answer from here on.
    pub fn set_fallback(&self, fallback: Fallback) {
        self.0.fallback.store(Arc::new(fallback));
    }

    /// Subjects in memory.
    pub fn subjects(&self) -> u64 {
        self.0.store.subjects()
    }

    /// Room for so many subjects.
    pub(crate) fn subjects_max(&self) -> u64 {
        self.0.subjects_max
    }

    /// Verdicts that had to go for newer ones since the start: they are not in force any more.
    pub fn evicted(&self) -> u64 {
        self.0.evicted.load(Ordering::Relaxed)
    }

    /// Each verdict in memory, as it is when it is come to, with its app and subject. Others go on meanwhile, the keeper
    /// included.
    pub(crate) fn each_held(&self, mut visit: impl FnMut(AppId, &Subject, &Held)) {
        self.0
            .store
            .each(|_, entry| entry.held().for_each(|held| visit(entry.app(), entry.subject(), held)));
    }

    fn is_warm(&self) -> bool {
        self.0.warm.load(Ordering::Acquire)
    }

    fn each_verdict(
        &self,
        question: &Question<'_>,
        refusal: Refusal,
        text_left: &mut usize,
        mut visit: impl FnMut(&Held),
    ) {
        let store = &self.0.store;
        let app = question.app;
        if let Some(operator) = question.operator {
            store.each_of(app, SubjectKind::Operator, operator, &mut visit);
        }
        if let Some(address) = question.client_ip {
            store.each_covering(app, address, &mut visit);
        }
        // What is said to friends is judged for each of them.
        if let Some(name) = question.name.filter(|_| refusal.shape != Shape::Friends) {
            self.each_of_text(app, name, text_left, &mut visit);
        }
        store.each_of(app, SubjectKind::Everyone, "", &mut visit);
    }

    /// `text_left` as in [`text::skeleton_within`]: one bound for all that a callback says, so that a decision takes a
    /// fraction of a millisecond whatever it is.
    fn each_of_text(&self, app: AppId, said: &str, text_left: &mut usize, mut visit: impl FnMut(&Held)) {
        let (store, terms) = (&self.0.store, self.0.terms.load());
        if !store.has(SubjectKind::Name) && terms.is_empty() {
            return;
        }
        let skeleton = text::skeleton_within(said, text_left);
        store.each_of(app, SubjectKind::Name, &skeleton, &mut visit);
        terms.each_in(app, &skeleton, |term| {
            store.each_of(app, SubjectKind::Term, term, &mut visit)
        });
    }
}

/// The verdict that weighs most among those that hold.
struct Best<'a> {
    command: &'a Command,
    now: Timestamp,
    found: Option<(Weight, Held)>,
}

impl<'a> Best<'a> {
    fn new(question: &Question<'a>, now: Timestamp) -> Self {
        Self {
            command: question.command,
            now,
            found: None,
        }
    }

    fn weigh(&mut self, held: &Held) {
        if held.is_expired(self.now) || !held.applies_to(self.command) {
            return;
        }
        if let Some(weight) = Weight::of(held)
            && self.found.as_ref().is_none_or(|(heaviest, _)| weight < *heaviest)
        {
            self.found = Some((weight, held.clone()));
        }
    }
}

impl Weight {
    fn of(held: &Held) -> Option<Self> {
        use portcullis_schema::Source::{Moderator, Rule};
        match (held.ruling.source, held.ruling.effect) {
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
    /// What the verdict that weighs most says of the whole.
    fn of(weight: Weight, held: &Held, refusal: Refusal, verdicts_at: Arc<Vec<i64>>) -> Self {
        let (effect, code) = match (weight, held.ruling.effect, refusal.drop) {
            (Weight::ModeratorAllow, _, _) => (Effect::Allow, None),
            (_, Effect::Drop, Some(code)) => (Effect::Drop, Some(code)),
            // A command that cannot drop silently refuses.
            _ => (Effect::Deny, Some(held.code(refusal.codes))),
        };
        Self {
            code,
            text: (effect == Effect::Deny).then(|| held.ruling.text.clone()),
            verdict: Some(held.id),
            rule: held.ruling.rule.clone(),
            ..Self::unbidden(effect, weight.ground(), verdicts_at)
        }
    }

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
            refused: Vec::new(),
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
            refused: self.refused.iter().map(|item| item.account.clone()).collect(),
        }
    }
}
