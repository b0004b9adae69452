//! Text of strangers, for a terminal: it must not move the cursor, and a line to be copied must mean the same.

/// `text` as one word of a shell.
pub(super) fn quote(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-/:@%+,=".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if text.chars().all(is_visible) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    // bash and zsh: bytes by their numbers.
    let bytes = text.chars().map(|character| match character {
        '\\' | '\'' => format!("\\{character}"),
        visible if is_visible(visible) => visible.to_string(),
        other => {
            let mut buffer = [0; 4];
            let bytes = other.encode_utf8(&mut buffer).bytes();
            bytes.map(|byte| format!("\\x{byte:02x}")).collect()
        }
    });
    format!("$'{}'", bytes.collect::<String>())
}

/// `text` with everything that a terminal would obey or hide written out.
pub(crate) fn visible(text: &str) -> String {
    let written = text.chars().map(|character| match character {
        character if is_visible(character) => character.to_string(),
        other => other.escape_default().to_string(),
    });
    written.collect()
}

/// Rust's own table of what can be printed, which counts controls, marks of direction and invisible characters out.
fn is_visible(character: char) -> bool {
    match character {
        '\'' | '"' | '\\' => true,
        other => other.escape_debug().len() == 1,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{quote, visible};

    const HOSTILE: [&str; 7] = [
        "leckie",
        "",
        "two words; rm -rf $HOME",
        "it's",
        "\u{1b}[2Jgone\u{7}",
        "ab\u{202e}cd\u{200b}",
        "频道\n'\\",
    ];

    #[test]
    fn a_shell_reads_a_quoted_text_back_as_it_was() {
        for text in HOSTILE {
            let script = format!("printf %s {}", quote(text));
            let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        for text in HOSTILE {
            for shown in [visible(text), quote(text)] {
                let obeyed = |character: char| character.is_control() || "\u{202e}\u{200b}".contains(character);
                assert!(!shown.contains(obeyed), "{shown:?}");
            }
        }
        assert_eq!(visible("频道 é"), "频道 é");
    }
}
