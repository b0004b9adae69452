//! The contracts, seen from outside.

mod golden;
