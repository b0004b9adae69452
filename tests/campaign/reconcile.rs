use crate::stage::Stage;

/// Lets `portcullis reconcile` be the last witness: it must find exactly what this campaign has found. Everything is
/// stopped by now, so that the ledger is at its end. `None` where the binary has no such command yet.
pub(crate) fn testify(stage: &mut Stage, lost: u64) -> Option<Result<(), String>> {
    let help = stage.call(&["--help"]).run().expect(0).out;
    let known = help.lines().any(|line| line.trim_start().starts_with("reconcile "));
    if !known {
        return None;
    }
    let told = stage.call(&["reconcile", "--json"]).run();
    let code = i32::from(lost > 0);
    Some(if told.code == code {
        Ok(())
    } else {
        Err(format!(
            "reconcile: exit code {} where {code} is right, with {lost} records lost; it says {}{}",
            told.code, told.out, told.err
        ))
    })
}
