//! Reads the records, finds abuse, says so.
