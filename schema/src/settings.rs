//! What an operator writes: TOML, read so that every mistake is told at once, each with its place, what was found and
//! what is allowed.
//!
//! A [`Document`] is parsed once, overridden from the environment, and taken apart by [`Section`]s. Each read takes
//! its key out; what is left when a section goes out of scope is an unknown key, and a mistake too.

mod document;
mod node;
mod section;

pub use document::{Document, Mistakes};
pub use node::Place;
pub use section::Section;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// The key, with its sections.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
}
