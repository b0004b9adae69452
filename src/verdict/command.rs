use portcullis_schema::{Codes, CommandKind};

/// A command that can be refused, from an argument.
pub(super) fn parse(name: &str) -> Result<CommandKind, String> {
    let mut refusable = CommandKind::ALL.iter().filter(|kind| kind.refusal().is_some());
    let found = refusable.clone().find(|kind| kind.name() == name);
    found.copied().ok_or_else(|| {
        let names = refusable.by_ref().map(|kind| format!("\n  {}", kind.name()));
        format!("it cannot be refused; these can:{}", names.collect::<String>())
    })
}

/// `code`, where every one of `commands` can carry it; without commands, where any command can. Else what they can
/// carry.
pub(super) fn check_code(code: u32, commands: &[CommandKind]) -> Result<(), String> {
    let carries = |kind: &CommandKind| kind.refusal().is_some_and(|refusal| refusal.codes.carry(code));
    let fits = match commands {
        [] => CommandKind::ALL.iter().any(carries),
        some => some.iter().all(carries),
    };
    if fits {
        return Ok(());
    }
    let concerned = if commands.is_empty() {
        CommandKind::ALL
    } else {
        commands
    };
    let mut allowed: Vec<String> = Vec::new();
    for codes in concerned
        .iter()
        .filter_map(|kind| kind.refusal())
        .map(|refusal| refusal.codes)
    {
        let told = match codes.custom() {
            Some(_) => format!("{codes} with a text"),
            None => codes.to_string(),
        };
        if !allowed.contains(&told) {
            allowed.push(told);
        }
    }
    Err(format!("found {code}, allowed: {}", allowed.join("; ")))
}

/// Whether a text reaches the caller with `code`.
pub(super) fn carries_text(code: u32) -> bool {
    let mut ranges = Codes::ALL.into_iter().filter_map(Codes::custom);
    ranges.any(|custom| custom.contains(&code))
}

#[cfg(test)]
mod tests {
    use portcullis_schema::CommandKind;

    use super::{carries_text, check_code, parse};

    #[test]
    fn a_code_must_be_carried_by_every_named_command_or_by_any_when_none_is_named() {
        let topic = [CommandKind::BeforeCreateTopic];
        for (code, holds) in [
            (1, true),
            (10_100, true),
            (10_200, true),
            (0, false),
            (10_099, false),
            (10_201, false),
        ] {
            assert_eq!(check_code(code, &topic).is_ok(), holds, "{code}");
            assert_eq!(check_code(code, &[]).is_ok(), holds, "{code}");
        }
        let told = check_code(5, &topic).expect_err("5 is in no range");
        assert_eq!(told, "found 5, allowed: 1, or 10100 to 10200 with a text");
    }

    #[test]
    fn a_plain_refusal_carries_no_text() {
        assert!(carries_text(10_150) && !carries_text(1));
    }

    #[test]
    fn a_command_that_only_tells_is_refused_with_the_list_of_those_that_ask() {
        assert_eq!(
            parse("Group.CallbackBeforeCreateTopic"),
            Ok(CommandKind::BeforeCreateTopic)
        );
        let told = parse("Group.CallbackAfterCreateGroup").expect_err("a notification");
        assert!(told.contains("\n  Group.CallbackBeforeCreateTopic"), "{told}");
    }
}
