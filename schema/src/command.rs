use std::fmt;
use std::ops::RangeInclusive;

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

/// How a command can be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code that refuses with Chat's own text: the caller sees 10016 and not the code.
    pub plain: u32,
    /// The codes that reach the caller together with `ErrorInfo`.
    pub custom: RangeInclusive<u32>,
}

impl Refusal {
    /// The code that a refusal with `wanted` carries: `wanted` where the command can carry it, else the plain one.
    ///
    /// A verdict about an operator can apply to commands of several ranges; the refusal itself must survive.
    pub fn code(&self, wanted: Option<u32>) -> u32 {
        match wanted {
            Some(code) if self.custom.contains(&code) => code,
            _ => self.plain,
        }
    }
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
    ///
    /// Topic and group creation: 1, or 10100 to 10200 with a text (Chat's pages "Before a Topic Is Created" and
    /// "Before a Group Is Created").
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::BeforeCreateTopic | Self::BeforeCreateGroup => Some(Refusal {
                plain: 1,
                custom: 10_100..=10_200,
            }),
            _ => None,
        }
    }
}
