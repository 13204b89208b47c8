//! Who is put to the test.

use std::ops::{Deref, DerefMut};

use crate::client::Client;
use crate::kafka::{Version, shared};

/// A case: a client of the broker under test, and a topic that no other case uses.
pub(crate) struct Case(Client);

impl Case {
    pub(crate) fn on_kafka(version: Version, name: &str) -> Self {
        Self(Client::connect(&shared(version).bootstrap(), name.to_owned()))
    }
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
