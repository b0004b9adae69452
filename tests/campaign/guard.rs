use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends every process that works in the folder. Those that ended in order are gone by then; nobody else works in a
/// folder that was made for this campaign. A small disk in it has a guard of its own.
const CLEAN_UP: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/cwd")" != "$0" ] || kill -KILL "${process#/proc/}"
done
"#;

/// Cleans up when its input ends: in order with the campaign, or when the campaign's own process is killed. Deaf to
/// the terminal, so that Ctrl-C ends the campaign first.
pub(crate) struct Guard(Child);

impl Guard {
    /// Of the folder of a site.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        // As the system names it.
        let folder = folder.canonicalize()?;
        let guard = Command::new("sh")
            .args(["-c", CLEAN_UP])
            .arg(folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(guard))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
