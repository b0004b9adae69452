use std::io::Write;

/// Says what is not checked here, and why. Past the capture of the test harness, which would hide it as long as the
/// test passes.
pub(crate) fn not_checked(what: &str, why: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "NOT CHECKED: {what}, because {why}");
}
