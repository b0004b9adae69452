use std::fmt;

use crate::{Codes, Refusal, Shape};

/// What a callback is about: the `CallbackCommand` of its query.
///
/// The list is that of Chat's pages "Webhook Commands" and the commands of its sister products; anything else is
/// [`Command::Other`] and is answered OK, recorded and counted, never refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    /// A command of the list.
    Known(CommandKind),
    /// A command that is not in the list, as it came.
    Other(Box<str>),
}

impl Command {
    /// Never fails: what is not in the list is [`Command::Other`].
    pub fn parse(name: &str) -> Self {
        CommandKind::ALL
            .iter()
            .find(|kind| kind.name() == name)
            .map_or_else(|| Self::Other(name.into()), |kind| Self::Known(*kind))
    }

    /// As Chat writes it.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(kind) => kind.name(),
            Self::Other(name) => name,
        }
    }

    /// Bounded in number: the name of a known command, else `other`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Known(kind) => kind.name(),
            Self::Other(_) => "other",
        }
    }

    /// How it can be refused; `None` for what can only be noted.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Known(kind) => kind.refusal(),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

macro_rules! commands {
    ($($kind:ident = $name:literal,)*) => {
        /// The commands that Chat documents.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each stands for the name beside it")]
        pub enum CommandKind { $($kind,)* }

        impl CommandKind {
            /// Every one of them, the most frequent on a path that decides first.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// As Chat writes it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

commands! {
    BeforeCreateTopic = "Group.CallbackBeforeCreateTopic",
    BeforeCreateGroup = "Group.CallbackBeforeCreateGroup",
    BeforeApplyJoinGroup = "Group.CallbackBeforeApplyJoinGroup",
    BeforeInviteJoinGroup = "Group.CallbackBeforeInviteJoinGroup",
    BeforeSendGroupMessage = "Group.CallbackBeforeSendMsg",
    BeforeSendMessage = "C2C.CallbackBeforeSendMsg",
    BeforeAddFriend = "Sns.CallbackPrevFriendAdd",
    BeforeAnswerFriend = "Sns.CallbackPrevFriendResponse",
    BeforeCreateOfficialAccount = "OfficialAccount.CallbackBeforeCreateOfficialAccount",
    BeforeAddSubscriber = "OfficialAccount.CallbackBeforeAddSubscriber",
    BeforeSendOfficialMessage = "OfficialAccount.CallbackBeforeSendMsg",
    StateChange = "State.StateChange",
    PortraitSet = "Profile.CallbackPortraitSet",
    FriendAdd = "Sns.CallbackFriendAdd",
    FriendDelete = "Sns.CallbackFriendDelete",
    BlackListAdd = "Sns.CallbackBlackListAdd",
    BlackListDelete = "Sns.CallbackBlackListDelete",
    AfterFollowAdd = "Follow.CallbackAfterFollowAdd",
    AfterFollowDelete = "Follow.CallbackAfterFollowDelete",
    AfterSendMessage = "C2C.CallbackAfterSendMsg",
    AfterMessageReport = "C2C.CallbackAfterMsgReport",
    AfterMessageWithdraw = "C2C.CallbackAfterMsgWithDraw",
    AfterCreateGroup = "Group.CallbackAfterCreateGroup",
    AfterNewMemberJoin = "Group.CallbackAfterNewMemberJoin",
    AfterMemberExit = "Group.CallbackAfterMemberExit",
    AfterSendGroupMessage = "Group.CallbackAfterSendMsg",
    AfterRecallGroupMessage = "Group.CallbackAfterRecallMsg",
    AfterGroupFull = "Group.CallbackAfterGroupFull",
    AfterGroupDestroyed = "Group.CallbackAfterGroupDestroyed",
    AfterGroupInfoChanged = "Group.CallbackAfterGroupInfoChanged",
    OnMemberStateChange = "Group.CallbackOnMemberStateChange",
    SendGroupMessageException = "Group.CallbackSendMsgException",
    AfterCreateTopic = "Group.CallbackAfterCreateTopic",
    AfterTopicDestroyed = "Group.CallbackAfterTopicDestroyed",
    AfterTopicInfoChanged = "Group.CallbackAfterTopicInfoChanged",
    AfterMemberFieldChanged = "Group.CallbackAfterMemberFieldChanged",
    AfterGroupAttributeChanged = "Group.CallbackAfterGroupAttrChanged",
    AfterReadReceipt = "Group.CallbackAfterReadReceipt",
    AfterChangeGroupOwner = "Group.CallbackAfterChangeGroupOwner",
    OnDailyGroupQuotaAlarm = "Group.CallbackOnDailyGroupQuotaAlarm",
    BotMessage = "Bot.OnC2CMessage",
    BotGroupMessage = "Bot.OnGroupMessage",
    ChatbotSignalMessage = "Chatbot.OnC2CSignalMessage",
    ContentResult = "ContentCallback.ResultNotify",
    AfterCreateOfficialAccount = "OfficialAccount.CallbackAfterCreateOfficialAccount",
    AfterOfficialAccountInfoChanged = "OfficialAccount.CallbackAfterOfficialAccountInfoChanged",
    AfterOfficialAccountDestroyed = "OfficialAccount.CallbackAfterOfficialAccountDestroyed",
    AfterAddSubscriber = "OfficialAccount.CallbackAfterAddSubscriber",
    AfterDeleteSubscriber = "OfficialAccount.CallbackAfterDeleteSubscriber",
    AfterOfficialAccountFull = "OfficialAccount.CallbackAfterOfficialAccountFull",
    AfterSendOfficialMessage = "OfficialAccount.CallbackAfterSendMsg",
    AfterOfficialMessageWithdraw = "OfficialAccount.CallbackAfterMsgWithDraw",
    OfflinePush = "Push.OfflinePush",
    AllMemberPush = "Push.AllMemberPush",
    RequestOverLimit = "Alert.RequestOverLimit",
}

impl CommandKind {
    /// How it can be refused; `None` for what can only be noted.
    pub const fn refusal(self) -> Option<Refusal> {
        let (codes, drop, shape) = match self {
            Self::BeforeCreateTopic | Self::BeforeCreateGroup | Self::BeforeApplyJoinGroup => {
                (Codes::Group, None, Shape::Whole)
            }
            Self::BeforeInviteJoinGroup => (Codes::Group, None, Shape::Members),
            Self::BeforeSendGroupMessage => (Codes::Group, Some(2), Shape::Whole),
            Self::BeforeSendMessage => (Codes::Message, Some(2), Shape::Whole),
            Self::BeforeAddFriend | Self::BeforeAnswerFriend => (Codes::Friend, None, Shape::Friends),
            Self::BeforeCreateOfficialAccount => (Codes::Message, None, Shape::Whole),
            Self::BeforeAddSubscriber => (Codes::Plain, None, Shape::Subscribers),
            Self::BeforeSendOfficialMessage => (Codes::Plain, Some(2), Shape::Whole),
            _ => return None,
        };
        Some(Refusal { codes, drop, shape })
    }
}
