//! Another configuration while the receiver runs.

use std::fs;
use std::time::SystemTime;

use crate::support::{Answer, Callback, Caller, Kafka, PATIENCE, Site, TOKEN, head, wait_until};

const NEXT: &str = "the-next-token";

fn post_signed(caller: &mut Caller, token: &str) -> Answer {
    let callback = Callback::topic("leckie", "x");
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let length = format!("Content-Length: {}", callback.body().len());
    let target = callback.target_signed(seconds.as_secs(), token);
    caller.send(&[head("POST", &target, &length), callback.body().to_vec()].concat())
}

#[test]
fn a_token_is_rotated_without_a_restart_and_a_bad_file_is_refused() {
    let mut site = Site::at(Kafka::start());
    let receiver = site.receiver().ready();
    let mut caller = site.caller();
    let path = site.folder().path().join("portcullis.toml");
    let first = fs::read_to_string(&path).expect("the configuration");
    let rotated = first.replace(&format!("[\"{TOKEN}\"]"), &format!("[\"{NEXT}\"]"));
    assert_eq!(post_signed(&mut caller, NEXT).status, 403);

    site.folder()
        .write("portcullis.toml", &rotated.replace("tokens = ", "token = "));
    receiver.signal("HUP");
    wait_until("the bad file is refused", PATIENCE, || {
        receiver
            .log()
            .contains("configuration is refused, the running one stays")
    });
    assert!(receiver.log().contains("token"), "it says what is wrong");
    assert_eq!(post_signed(&mut caller, TOKEN).status, 200);

    // Without a signal: it looks by itself, and at the fallback as well.
    let refusing =
        "[receiver.fallback]\n\"Group.CallbackBeforeCreateTopic\" = { deny = 10100, text = \"later\" }\n[worker]";
    let rotated = rotated.replace("[worker]", refusing);
    site.folder().write("portcullis.toml", &rotated);
    wait_until("the next token counts", PATIENCE, || {
        post_signed(&mut caller, NEXT).status == 200
    });
    assert_eq!(post_signed(&mut caller, TOKEN).status, 403);
    let unreadable = Callback::new("Group.CallbackBeforeCreateTopic", "{");
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let target = unreadable.target_signed(seconds.as_secs(), NEXT);
    let request = [head("POST", &target, "Content-Length: 1"), b"{".to_vec()].concat();
    assert_eq!(caller.send(&request).refusal(), (10_100, "later".to_owned()));

    // What cannot change is said to need a restart, by its keys.
    let moved = rotated.replace(
        "instance = \"receiver-1\"",
        "instance = \"receiver-2\"\nreply_deadline = \"200ms\"\njournal = { durability = \"process\" }",
    );
    site.folder().write("portcullis.toml", &moved);
    wait_until("the restart is asked for", PATIENCE, || {
        receiver.log().contains("what else has changed needs a restart")
    });
    let keys = "\"receiver.instance, receiver.reply_deadline, receiver.journal.durability\"";
    assert!(receiver.log().contains(keys), "{}", receiver.log());
    receiver.stop();
}
