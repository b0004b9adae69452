//! The image, as far as it can be looked at without Docker.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::Folder;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The instructions of a Dockerfile, each on one line.
fn instructions(dockerfile: &str) -> Vec<String> {
    let lines = dockerfile.lines().map(str::trim);
    let text: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    text.join("\n").replace("\\\n", "").lines().map(str::to_owned).collect()
}

fn copy(sources: &[&str], destination: &Path) {
    fs::create_dir_all(destination).expect("a folder");
    for source in sources {
        let name = Path::new(source).file_name().expect("a file, not a folder");
        fs::copy(Path::new(ROOT).join(source), destination.join(name)).expect("copied");
    }
}

/// A manifest that names what the empty crates do not have stops cargo, and no other test would see it.
#[test]
fn cargo_takes_the_empty_crates_that_the_image_builds_its_dependencies_around() {
    let dockerfile = fs::read_to_string(Path::new(ROOT).join("deploy/Dockerfile")).expect("the Dockerfile");
    let instructions = instructions(&dockerfile);
    let folder = Folder::new();
    let mut steps = instructions.iter().skip_while(|step| !step.starts_with("WORKDIR "));
    let build = loop {
        let step = steps.next().expect("a step that builds");
        if step.starts_with("RUN ") {
            break step;
        }
        if let Some(files) = step.strip_prefix("COPY ") {
            let files: Vec<&str> = files.split_whitespace().collect();
            let (destination, sources) = files.split_last().expect("a destination");
            copy(sources, &folder.path().join(destination));
        }
    };
    // Reads every manifest as the build does, and the lock file, and compiles nothing.
    let fetch = "\"$CARGO\" fetch --locked --offline --target host-tuple";
    let script = build["RUN ".len()..].replace("cargo build --release --locked", fetch);
    assert!(script.contains(fetch), "{build}");
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script]).current_dir(folder.path());
    shell.env("CARGO", std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let ended = shell.output().expect("a shell");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
