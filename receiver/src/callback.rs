//! From the bytes of a request to a [`Callback`]: parsed once, trusted from here on.
//!
//! In two halves, because what is not from Chat is turned away before its body is read: the query says who calls and
//! about what ([`Query`], [`Caller`]), the body says the rest ([`Body`], [`Fields`]).

mod body;
mod caller;
mod fields;
mod query;

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_schema::{AppId, Command};

pub use body::Body;
pub use caller::{Caller, Forged};
pub use fields::Item;
pub use query::Query;

use fields::Fields;

/// An authentic callback.
#[derive(Debug)]
pub struct Callback {
    /// The query's half.
    pub caller: Caller,
    /// The parameters that have no field of their own.
    pub query: BTreeMap<String, String>,
    /// The body, whole up to its limit.
    pub body: Body,
    /// Who acts.
    pub operator: Option<String>,
    /// The text to be judged: a name, or what is said.
    pub name: Option<String>,
    /// Whom it is about beside its operator.
    pub items: Vec<Item>,
    /// The command that the body names, where it is another than the query's.
    pub body_command: Option<String>,
    /// Whether its body could be read.
    pub is_json: bool,
}

impl Callback {
    /// `others` is what a record keeps of the query ([`Query::into_others`]). Never fails: whatever the body is, an
    /// authentic callback is answered. Where the query names no command, the body does.
    pub fn new(mut caller: Caller, others: BTreeMap<String, String>, body: Body) -> Self {
        let json = body.readable();
        if let Some(json) = json.as_deref().filter(|_| caller.command.name().is_empty())
            && let Some(named) = fields::command(json)
        {
            caller.set_command(&named);
        }
        let is_json = json.is_some();
        let fields = json.map_or_else(Fields::default, |json| Fields::read(&json, &caller.command));
        let other_command = fields.command.filter(|named| named != caller.command.name());
        Self {
            caller,
            query: others,
            body,
            is_json,
            operator: fields.operator,
            name: fields.name,
            items: fields.items,
            body_command: other_command,
        }
    }

    /// The app.
    pub fn app(&self) -> AppId {
        self.caller.app
    }

    /// The query's command.
    pub fn command(&self) -> &Command {
        &self.caller.command
    }

    /// Who acts, where that is known.
    pub fn operator(&self) -> Option<&str> {
        self.operator.as_deref()
    }

    /// The address of the user's device: Chat's claim, not the peer of the connection.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.caller.client_ip
    }

    /// The text to be judged, where there is one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portcullis_schema::{AppId, Command};

    use super::{Body, Callback, Caller};

    fn callback(command: &str, body: &str) -> Callback {
        let caller = Caller {
            app: AppId(1),
            command: Command::parse(command),
            client_ip: None,
            platform: None,
        };
        Callback::new(caller, BTreeMap::new(), Body::parse(body.as_bytes(), 1 << 10))
    }

    #[test]
    fn the_body_names_the_command_only_where_the_query_names_none() {
        const APPLY: &str = "Group.CallbackBeforeApplyJoinGroup";
        let body = format!(r#"{{"CallbackCommand":"{APPLY}","Requestor_Account":"jared","Operator_Account":"o"}}"#);
        for (query, command, operator, other) in [
            ("", APPLY, "jared", None),
            (APPLY, APPLY, "jared", None),
            (
                "Group.CallbackBeforeCreateTopic",
                "Group.CallbackBeforeCreateTopic",
                "o",
                Some(APPLY),
            ),
            ("Some.Other", "Some.Other", "o", Some(APPLY)),
        ] {
            let callback = callback(query, &body);
            assert_eq!(callback.command().name(), command);
            assert_eq!(callback.operator(), Some(operator), "{query}");
            assert_eq!(callback.body_command.as_deref(), other, "{query}");
        }
        assert_eq!(callback("", "no json").command().name(), "");
    }
}
