//! Bodies and texts that a careful parser trips over. Each is answered in the contract of the command in its query.

use portcullis_schema::CommandKind;
use serde_json::json;

use super::call::Call;
use super::samples::{COMMANDS, sample};
use super::scenario::{address_of, of, scattered};

/// No account in them is one that an answer may name.
const BODIES: [&[u8]; 30] = [
    b"",
    b" ",
    b"\0",
    b"null",
    b"true",
    b"5",
    b"-1e999999",
    b"\"text\"",
    b"[]",
    b"[[[]]]",
    b"{}",
    b"{",
    b"}",
    b"{\"Operator_Account\":",
    b"{\"Operator_Account\":\"a\"} {}",
    b"{\"Operator_Account\":\"a\",}",
    b"{'Operator_Account':'a'}",
    b"{\"Operator_Account\":\"a\",\"Operator_Account\":\"b\",\"Name\":\"x\",\"Name\":5}",
    b"{\"Operator_Account\":{\"a\":[]},\"Name\":[\"x\"],\"MsgBody\":\"text\",\"FriendItem\":{},\"DestinationMembers\":7}",
    b"{\"Operator_Account\":123456789012345678901234567890,\"Name\":1.0e-400}",
    b"{\"Operator_Account\":\"\\ud800\",\"Name\":\"\\udc00\\ud800\"}",
    b"{\"Operator_Account\":\"\xff\xfe\",\"Name\":\"\xc3\"}",
    b"{\"Operator_Account\":\"a\",\"Name\":\"\xed\xa0\x80\"}",
    b"\xef\xbb\xbf{\"Operator_Account\":\"a\",\"Name\":\"x\"}",
    b"{\"Operator_Account\":\"a\", // who\n\"Name\":\"x\" /* what */}",
    b"{\"Operator_Account\":\"a\" /* without an end",
    b"{\"CallbackCommand\":\"State.StateChange\",\"Operator_Account\":\"a\",\"Name\":\"x\"}",
    b"{\"CallbackCommand\":[],\"EventTime\":\"soon\",\"\":\"\",\"\\u0000\":1}",
    b"\x1f\x8b\x08\0\0\0\0\0",
    b"operator=a&name=x",
];
/// As a name, as what is said, as an account.
const TEXTS: [&str; 20] = [
    "",
    " ",
    "\0",
    "\u{7f}\u{1b}[2J\r\n\t",
    "\u{200b}\u{200d}\u{2060}\u{feff}",
    "\u{202e}txet\u{202c}",
    "\u{fffd}\u{ffff}\u{fdd0}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}\u{1f3fd}",
    "Z\u{351}\u{36b}\u{343}\u{36a}\u{302}a\u{34f}\u{300}\u{317}l\u{321}\u{33a}go",
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "ﷺ",
    "İıſßẞŉ",
    "Ω≈ç√∫˜µ≤≥÷",
    "田中さんにあげて下さい",
    "مُنَاقَشَةُ سُبُلِ اِسْتِخْدَامِ اللُّغَةِ",
    "<script>alert(1)</script>",
    "'; DROP TABLE users; --",
    "%s%n{0}${jndi:ldap://x}",
    "\\\"\\u0000\\",
    "NaN",
];
/// Behind which texts are cut for the decision, and bodies are too large in the default configuration.
const LONG: usize = 5_000;
const TOO_LARGE: usize = 70_000;
const DEEP: usize = 3_000;

/// The odd callback of this number.
pub(super) fn call(seed: u64, number: u64) -> Call {
    let kind = of(&COMMANDS, scattered(seed, number));
    let (name, address) = (kind.name(), address_of(number));
    // First every body and every text, then those that are made.
    match number % (BODIES.len() + TEXTS.len() + 4) as u64 {
        turn if turn < BODIES.len() as u64 => Call::new(name, address, of(&BODIES, turn).to_vec()),
        turn if turn < (BODIES.len() + TEXTS.len()) as u64 => {
            with_text(kind, address, of(&TEXTS, turn - BODIES.len() as u64), number)
        }
        turn => match turn - (BODIES.len() + TEXTS.len()) as u64 {
            0 => Call::new(
                name,
                address,
                ["[".repeat(DEEP), "]".repeat(DEEP)].concat().into_bytes(),
            ),
            1 => Call::new(name, address, "{\"a\":".repeat(DEEP).into_bytes()),
            2 => with_text(kind, address, &"e\u{301}".repeat(LONG), number),
            _ => {
                let body = json!({"CallbackCommand": name, "Operator_Account": "a", "Name": "x".repeat(TOO_LARGE)});
                Call::json(name, address, &body)
            }
        },
    }
}

/// The text everywhere, but for the operator: many callbacks of one would be a burst.
fn with_text(kind: CommandKind, address: String, text: &str, number: u64) -> Call {
    sample(kind, &format!("odd-{number}"), address, text, text)
}
