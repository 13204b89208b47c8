//! Who is put to the test.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use kferry::sandbox::{Sandbox, SandboxOptions};
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::kafka::{Version, shared};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Broker {
    Sandbox,
    Kafka(Version),
}

/// A case: a client of the broker under test, and a topic that no other case uses.
pub(crate) struct Case(Client);

impl Case {
    pub(crate) fn on(broker: Broker, topic: &str) -> Self {
        let address = match broker {
            Broker::Sandbox => sandbox().bootstrap(),
            Broker::Kafka(version) => shared(version).bootstrap(),
        };
        Self(Client::connect(&address, topic.to_owned()))
    }
}

/// One sandbox for all cases, as there is one Kafka. It runs until the process ends.
pub(crate) fn sandbox() -> &'static Sandbox {
    static RUNNING: OnceLock<(Runtime, Sandbox)> = OnceLock::new();
    let (_, sandbox) = RUNNING.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let sandbox = runtime
            .block_on(Sandbox::start(SandboxOptions::default()))
            .expect("a sandbox");
        (runtime, sandbox)
    });
    sandbox
}

impl Deref for Case {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl DerefMut for Case {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.0
    }
}
