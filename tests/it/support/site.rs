use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};

use portcullis_schema::Uuid;
use serde_json::Value;

use super::{APP, Authority, Caller, Ended, Folder, Kafka, Portcullis, Process, TOKEN, free_address};

/// Everything that one test needs to play the whole: a Kafka, a configuration, and the processes that it starts.
pub(crate) struct Site {
    pub(crate) kafka: Kafka,
    folder: Folder,
    listen: SocketAddr,
    started: Cell<u32>,
}

impl Site {
    pub(crate) fn at(kafka: Kafka) -> Self {
        Self::with_properties(kafka, &[])
    }

    /// With properties of librdkafka for every client of the site.
    pub(crate) fn with_properties(kafka: Kafka, properties: &[(&str, &str)]) -> Self {
        let (folder, listen) = (Folder::new(), free_address());
        let own = format!(
            "{}[[apps]]\nid = {APP}\ntokens = [\"{TOKEN}\"]\n\
             [receiver]\ninstance = \"receiver-1\"\nlisten = \"{listen}\"\n\
             [worker]\ngroup = \"worker-{}\"\n",
            kafka.section_with(properties),
            Uuid::now_v7()
        );
        folder.write("portcullis.toml", &own);
        Self {
            kafka,
            folder,
            listen,
            started: Cell::new(0),
        }
    }

    /// With a certificate for its receiver.
    pub(crate) fn encrypted(self, authority: &Authority) -> Self {
        let (certificate, key) = authority.certificate();
        self.folder.write("cert.pem", &certificate);
        self.folder.write("key.pem", &key);
        let path = self.folder.path().join("portcullis.toml");
        let own = std::fs::read_to_string(path).expect("the configuration");
        let section = "[receiver]\ntls = { certificate = \"cert.pem\", key = \"key.pem\" }\n";
        self.folder
            .write("portcullis.toml", &own.replace("[receiver]\n", section));
        self
    }

    /// The rules of its workers.
    pub(crate) fn rules(self, rules: &str) -> Self {
        self.folder.write("rules.toml", rules);
        self
    }

    /// Starts its receiver.
    pub(crate) fn receiver(&self) -> Process {
        self.receiver_with(&[])
    }

    /// Starts a receiver with settings of its own, such as `("PORTCULLIS__RECEIVER__DATA", "elsewhere")`.
    pub(crate) fn receiver_with(&self, settings: &[(&str, &str)]) -> Process {
        self.start("receiver", "RECEIVER", settings, |process| process)
    }

    /// A socket where its receiver is called, for receivers that it is passed to.
    pub(crate) fn socket(&self) -> TcpListener {
        TcpListener::bind(self.listen).expect("the address is free")
    }

    /// Starts its receiver with a socket that is passed.
    pub(crate) fn receiver_on(&self, socket: &TcpListener) -> Process {
        let socket = socket.try_clone().expect("a second handle");
        self.start("receiver", "RECEIVER", &[], |process| process.passing(socket.into()))
    }

    /// Starts its receiver within the limits that the arguments of `ulimit` say.
    pub(crate) fn receiver_limited(&self, limits: &str) -> Process {
        self.start("receiver", "RECEIVER", &[], |process| process.limited(limits))
    }

    /// Starts a worker of its group.
    pub(crate) fn worker(&self, instance: &str) -> Process {
        let named = [("PORTCULLIS__WORKER__INSTANCE", instance)];
        self.start("worker", "WORKER", &named, |process| process)
    }

    /// Where its receiver is called.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// A connection to its receiver.
    pub(crate) fn caller(&self) -> Caller {
        Caller::at(self.listen)
    }

    /// Where its configuration, its data and its logs are.
    pub(crate) fn folder(&mut self) -> &mut Folder {
        &mut self.folder
    }

    /// A moderator's hand.
    pub(crate) fn verdict(&self, arguments: &[&str]) -> Ended {
        Portcullis::command(self.folder.path(), &[&["verdict"], arguments].concat()).run()
    }

    /// A moderator's hand about a subject of the app, which must succeed.
    #[track_caller]
    pub(crate) fn moderate(&self, action: &str, arguments: &[&str]) {
        let app = APP.to_string();
        self.verdict(&[&[action, "--app", &app], arguments].concat()).expect(0);
    }

    /// The verdicts that hold.
    #[track_caller]
    pub(crate) fn held(&self) -> Vec<Value> {
        self.verdict(&["list", "--json"]).expect(0).json()
    }

    fn start(
        &self,
        command: &str,
        section: &str,
        environment: &[(&str, &str)],
        prepared: impl FnOnce(Portcullis) -> Portcullis,
    ) -> Process {
        let admin = free_address();
        let mut process = Portcullis::command(self.folder.path(), &[command]);
        process = process.environment(&format!("PORTCULLIS__{section}__ADMIN"), &admin.to_string());
        for (name, value) in environment {
            process = process.environment(name, value);
        }
        let number = self.started.replace(self.started.get() + 1);
        let log = self.folder.path().join(format!("{command}-{number}.log"));
        Process::new(prepared(process).start(log), admin)
    }
}
