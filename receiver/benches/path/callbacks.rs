use std::collections::BTreeMap;

use portcullis_receiver::callback::{Body, Callback, Caller, Query};
use portcullis_receiver::decision::{Decisions, Keeper, Question};
use portcullis_receiver::outcome::Outcome;
use portcullis_receiver::record::{self, Boot};
use portcullis_receiver::reply::{self, Reply};
use portcullis_receiver::{Fallback, Tokens};
use portcullis_schema::{AppId, Effect, Rung, Source, Subject, SubjectKind, Timestamp, Verdict, id};

const APP: AppId = AppId(1_400_000_001);
const TOKEN: &str = "bench-token";
const BODY_BYTES_MAX: usize = 64 << 10;

/// A callback as it comes in.
pub(crate) struct Request {
    pub(crate) query: String,
    pub(crate) body: String,
}

/// What steps 2 to 6 need.
pub(crate) struct Path {
    pub(crate) apps: BTreeMap<AppId, Tokens>,
    pub(crate) decisions: Decisions,
    pub(crate) now: Timestamp,
    boot: Boot,
}

/// The name of the operator that the verdict of this number denies.
pub(crate) fn denied(number: u64) -> String {
    format!("denied-{number:07}")
}

impl Path {
    /// With so many operators denied.
    pub(crate) fn new(verdicts: u64, now: Timestamp) -> Self {
        let (decisions, mut keeper) = Decisions::new(verdicts.max(1_000), Fallback::default());
        fill(&mut keeper, verdicts, now);
        Self {
            apps: BTreeMap::from([(APP, Tokens::new(vec![TOKEN.to_owned()]))]),
            decisions,
            now,
            boot: Boot::new("receiver-1".to_owned(), now),
        }
    }

    /// One of each kind that is frequent: allowed and denied topics, a message, an invitation, a notification.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let topic = |operator: &str| {
            let body = format!(
                r#"{{"CallbackCommand":"Group.CallbackBeforeCreateTopic","Operator_Account":"{operator}","Type":"Community","Name":"MyFirstTopic"}}"#
            );
            self.request("Group.CallbackBeforeCreateTopic", body)
        };
        let message = r#"{"CallbackCommand":"Group.CallbackBeforeSendMsg","GroupId":"@TGS#2J4SZEAEL","Type":"Public","From_Account":"jared",
            "Operator_Account":"admin","Random":123456,"OnlineOnlyFlag":0,
            "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"red packet"}}]}"#;
        let invitation = r#"{"CallbackCommand":"Group.CallbackBeforeInviteJoinGroup","GroupId":"@TGS#2J4SZEAEL","Type":"Public",
            "Operator_Account":"leckie","DestinationMembers":[{"Member_Account":"jared"},{"Member_Account":"tommy"}]}"#;
        let state = r#"{"CallbackCommand":"State.StateChange","EventTime":1629883332497,"Info":{"Action":"Login","To_Account":"testuser316",
            "Reason":"Register"}}"#;
        vec![
            topic("leckie"),
            topic(&denied(7)),
            self.request("Group.CallbackBeforeSendMsg", message.to_owned()),
            self.request("Group.CallbackBeforeInviteJoinGroup", invitation.to_owned()),
            self.request("State.StateChange", state.to_owned()),
        ]
    }

    fn request(&self, command: &str, body: String) -> Request {
        let time = self.now.as_seconds().to_string();
        let sign = self.apps[&APP].sign(&time).expect("a token");
        let query = format!(
            "SdkAppid={APP}&CallbackCommand={command}&contenttype=json&ClientIP=203.0.113.7&OptPlatform=iOS&Sign={sign}&RequestTime={time}"
        );
        Request { query, body }
    }

    /// Step 2.
    pub(crate) fn parse(&self, request: &Request) -> Callback {
        let mut query = Query::parse(&request.query);
        let caller = Caller::authenticate(&mut query, &self.apps, self.now).expect("signed");
        let body = Body::parse(request.body.as_bytes(), BODY_BYTES_MAX);
        Callback::new(caller, query.into_others(), body)
    }

    /// Steps 2 to 6: the entry for the journal, and the reply.
    pub(crate) fn answer(&self, request: &Request) -> (Vec<u8>, Reply) {
        let callback = self.parse(request);
        let decision = self.decisions.decide(&question(&callback), self.now);
        let outcome = match decision.effect {
            Effect::Allow => Outcome::Allowed,
            Effect::Deny | Effect::Drop => Outcome::Denied,
        };
        let reply = reply::to_decision(callback.command(), &callback.items, &decision);
        let record = self.boot.record(callback, &decision, outcome, Rung::Normal, self.now);
        let entry = record::encode(&record).expect("encodes").numbered(self.boot.next_seq());
        (entry, reply)
    }
}

pub(crate) fn question(callback: &Callback) -> Question<'_> {
    Question {
        app: callback.app(),
        command: callback.command(),
        operator: callback.operator(),
        client_ip: callback.client_ip(),
        name: callback.name(),
        items: &callback.items,
        readable: true,
    }
}

fn fill(keeper: &mut Keeper, verdicts: u64, now: Timestamp) {
    for number in 0..verdicts {
        let verdict = Verdict {
            id: id::derived(now, &[&number.to_be_bytes()]),
            app: APP,
            subject: Subject::parse(SubjectKind::Operator, &denied(number)).expect("a subject"),
            commands: vec!["Group.CallbackBeforeCreateTopic".to_owned()],
            effect: Effect::Deny,
            code: Some(10_101),
            text: "too many topics, try later".to_owned(),
            source: Source::Rule,
            rule: Some("topic-burst".to_owned()),
            reason: "5 records in 60s".to_owned(),
            by: "worker-1".to_owned(),
            issued_at: now,
            expires_at: None,
            evidence: Vec::new(),
        };
        keeper.put(&verdict, now);
    }
    keeper.settle(&[1, 2, 3]);
    keeper.warm();
}
