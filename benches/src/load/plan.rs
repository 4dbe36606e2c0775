//! What to send, how much of it and how fast.

use std::str::FromStr;
use std::time::Duration;

/// Kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Puts one key.
    Put,
    /// Reads one key.
    Get,
    /// Lists up to `limit` keys from a key on, to the end of the prefix.
    Range,
    /// Counts all keys of the prefix.
    Count,
    /// Compares a key's creation revision and puts it in either branch.
    Txn,
}

impl Operation {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Operation); 5] = [
        ("put", Operation::Put),
        ("get", Operation::Get),
        ("range", Operation::Range),
        ("count", Operation::Count),
        ("txn", Operation::Txn),
    ];

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        Operation::ALL.iter().find(|(_, operation)| *operation == self).map_or("", |(name, _)| name)
    }

    /// The method of the service `KV` that does it.
    pub(super) fn path(self) -> &'static str {
        match self {
            Operation::Put => "/etcdserverpb.KV/Put",
            Operation::Txn => "/etcdserverpb.KV/Txn",
            Operation::Get | Operation::Range | Operation::Count => "/etcdserverpb.KV/Range",
        }
    }
}

impl FromStr for Operation {
    type Err = ();

    fn from_str(text: &str) -> Result<Operation, ()> {
        Operation::ALL.iter().find(|(name, _)| *name == text).map(|(_, operation)| *operation).ok_or(())
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many requests.
    Requests(u64),
    /// After so much time; requests under way are still awaited.
    Time(Duration),
}

/// One run of the load generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// URLs of the servers; connections are spread over them in turn.
    pub endpoints: Vec<String>,
    /// HTTP/2 connections.
    pub connections: usize,
    /// Clients, each with one request under way at most; spread over the connections in turn.
    pub clients: usize,
    /// Kind of request.
    pub operation: Operation,
    /// When to stop.
    pub length: Length,
    /// Requests per second (open loop); none is a closed loop.
    pub rate: Option<f64>,
    /// Start of every key.
    pub prefix: String,
    /// Bytes of a key; a key is never shorter than its prefix and number.
    pub key_size: usize,
    /// Bytes of a value.
    pub value_size: usize,
    /// Number of different keys.
    pub key_space: u64,
    /// Walk the key space in order rather than at random.
    pub sequential: bool,
    /// Most keys of a [`Operation::Range`]; 0 is no limit.
    pub limit: i64,
    /// Reads are answered by the member asked, without its quorum.
    pub serializable: bool,
    /// Seed of the choice of keys.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            connections: 1,
            clients: 1,
            operation: Operation::Put,
            length: Length::Requests(10_000),
            rate: None,
            prefix: "load/".to_owned(),
            key_size: 24,
            value_size: 256,
            key_space: 100_000,
            sequential: false,
            limit: 500,
            serializable: false,
            seed: 1,
        }
    }
}
