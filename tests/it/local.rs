//! `portcullis local`: what somebody sees who has just built it.

use std::process::Command;

use serde_json::Value;

use crate::support::{Folder, PATIENCE, Portcullis, free_address, not_checked, wait_until};

#[test]
fn the_whole_loop_plays_in_one_process_and_its_curl_lines_work() {
    let folder = Folder::new();
    let listen = free_address().to_string();
    let local = Portcullis::command(folder.path(), &["local", "--for", "10s", "--listen", &listen]);
    let mut running = local.start(folder.path().join("log"));
    // What happens is told in this order.
    for line in ["ready  ", "abuse  ", "verdict  denied for 10m, with 10101", "refused  "] {
        wait_until(line, PATIENCE, || running.log().contains(line));
    }
    if has_curl() {
        let log = running.log();
        let lines: Vec<&str> = log
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("curl "))
            .collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert_eq!(reply(&folder, lines[0])["ErrorCode"], 0);
        let refused = reply(&folder, lines[1]);
        assert_eq!(refused["ErrorCode"], 10_101);
        assert_eq!(refused["ErrorInfo"], "too many topics, try later");
    } else {
        not_checked("the curl lines of `portcullis local`", "curl is not installed here");
    }

    assert_eq!(running.wait(PATIENCE).code(), Some(0), "{}", running.log());
    let log = running.log();
    let summary = log.lines().find(|line| line.contains("in Kafka:")).expect("a summary");
    assert!(summary.contains(" records without a hole, "), "{log}");
    assert!(summary.ends_with("; 0 remain in the journal"), "{log}");
    let answered = log.lines().find(|line| line.contains("answered ")).expect("a tally");
    assert!(answered.contains(" 0 without an answer"), "{log}");
}

fn has_curl() -> bool {
    Command::new("curl").arg("--version").output().is_ok()
}

/// Pastes the line into a shell, as a person would.
fn reply(folder: &Folder, line: &str) -> Value {
    let output = Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", line])
        .output();
    let output = output.expect("sh runs");
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
