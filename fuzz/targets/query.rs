//! A query of any bytes: nobody is taken for Chat without the right digest, and no secret is left in what is kept.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use portcullis_receiver::Tokens;
use portcullis_receiver::callback::{Caller, Query};
use portcullis_schema::{AppId, Timestamp};

const TOKEN: &str = "xxxxyyyy";
const OTHER_TOKEN: &str = "the-next-one";
/// Of the protocol's own sample.
const REQUEST_TIME: i64 = 1_669_872_112;
const SIGN: &str = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";
const WINDOW_SECONDS: i64 = 60;

fuzz_target!(|input: &[u8]| {
    let raw = String::from_utf8_lossy(input);
    let now = Timestamp::from_micros(REQUEST_TIME * 1_000_000);
    let apps = BTreeMap::from([(
        AppId(1_400_000_001),
        Tokens::new(vec![TOKEN.to_owned(), OTHER_TOKEN.to_owned()]),
    )]);
    let mut query = Query::parse(&raw);
    if Caller::authenticate(&mut query, &apps, now).is_ok() {
        let signs = |token: &str, seconds: i64| Tokens::new(vec![token.to_owned()]).sign(&seconds.to_string());
        let window = REQUEST_TIME - WINDOW_SECONDS..=REQUEST_TIME + WINDOW_SECONDS;
        let lower = raw.to_ascii_lowercase();
        // Written plainly or escaped, which leaves its digits.
        let digits: String = lower.chars().filter(char::is_ascii_hexdigit).collect();
        let right = |token| {
            window
                .clone()
                .any(|seconds| signs(token, seconds).is_some_and(|sign| digits.contains(&sign)) || lower.contains('%'))
        };
        assert!(lower.contains(SIGN) || right(TOKEN) || right(OTHER_TOKEN), "{raw:?}");
    }
    let _ = (query.claims_nothing(), query.claims(), query.ahead_seconds(now));
    for (name, value) in query.into_others() {
        assert!(!name.eq_ignore_ascii_case("sign"), "{raw:?}");
        for kept in [name, value] {
            assert!(!kept.contains(TOKEN) && !kept.contains(OTHER_TOKEN), "{raw:?}");
        }
    }
});
