use crate::support::{Folder, Portcullis};

fn run(arguments: &[&str]) -> crate::support::Ended {
    Portcullis::command(Folder::new().path(), arguments).run()
}

#[test]
fn help_lists_every_command_with_one_line_and_each_shows_an_example() {
    let help = run(&["--help"]).expect(0).out;
    for command in [
        "receiver", "worker", "topics", "config", "rules", "verdict", "simulate", "health",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in\n{help}");
        let own = run(&[command, "--help"]).expect(0).out;
        assert!(
            own.contains(&format!("\n  portcullis {command}")),
            "an example in\n{own}"
        );
    }
}

#[test]
fn arguments_that_make_no_sense_end_with_2_and_say_what_would() {
    let deny = ["verdict", "deny", "--app", "1400000001"];
    for (arguments, told) in [
        (&[][..], "--operator <USER>|--client-ip"),
        (&["--operator", "a", "--everyone"], "cannot be used with"),
        (
            &["--operator", "a", "--command", "Group.CallbackAfterCreateGroup"],
            "Group.CallbackBeforeCreateTopic",
        ),
        (&["--operator", "a", "--code", "7"], "10100 to 10200"),
        (&["--operator", "a", "--text", "no code"], "--code"),
        (
            &["--operator", "a", "--code", "1", "--text", "unheard"],
            "carries no text",
        ),
        (&["--operator", "a", "--for", "soon"], "\"1h\""),
        (&["--client-ip", "home"], "203.0.113.0/24"),
        (&["--term", "\u{200b}"], "no visible character"),
    ] {
        let ended = run(&[&deny, arguments].concat()).expect(2);
        assert!(ended.err.contains(told), "{told:?} in\n{}", ended.err);
        assert_eq!(ended.out, "");
    }
    run(&["verdikt"]).expect(2);
    run(&["verdict", "list", "--app", "mine"]).expect(2);
}
