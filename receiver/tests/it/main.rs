//! The receiver's parts, each over its public interface.

mod front;
mod journal;
mod journal_crash;
mod journal_damage;
mod journal_hang;
mod journal_model;
mod publisher;
mod scratch;
