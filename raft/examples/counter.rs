//! Three replicas of a counter in one process: whoever leads takes the additions, all end with the same sum.
//!
//!     cargo run -p ketch-raft --example counter

use bytes::Bytes;
use ketch_raft::drive::{Committed, drive};
use ketch_raft::{Config, MemoryStorage, Message, Node, Payload, Role};

/// One member: a node over its log, and the state its committed entries make.
struct Replica {
    node: Node<MemoryStorage>,
    sum: u64,
}

impl Replica {
    fn new(id: u64) -> Result<Replica, Box<dyn std::error::Error>> {
        let config = Config { id, seed: id, ..Config::default() };
        let node = Node::new(config, MemoryStorage::with_voters([1, 2, 3]))?;
        Ok(Replica { node, sum: 0 })
    }

    /// Persists, applies, and answers what is to be sent.
    fn run(&mut self) -> Result<Vec<Message>, Box<dyn std::error::Error>> {
        let sum = &mut self.sum;
        let driven = drive(&mut self.node, |committed| {
            if let Committed::Entry(entry) = committed
                && let Payload::Normal(data) = &entry.payload
                && let Ok(bytes) = <[u8; 8]>::try_from(&data[..])
            {
                *sum += u64::from_be_bytes(bytes);
            }
        })?;
        Ok(driven.messages)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut replicas = [Replica::new(1)?, Replica::new(2)?, Replica::new(3)?];
    let mut to_add = (1..=100u64).collect::<Vec<_>>();
    for tick in 0.. {
        // One tick of everybody's clock; then messages until nobody has anything to say.
        for replica in &mut replicas {
            replica.node.tick();
        }
        if let Some(leader) =
            replicas.iter_mut().find(|replica| replica.node.soft_state().role == Role::Leader)
            && let Some(number) = to_add.pop()
        {
            leader.node.propose(Bytes::copy_from_slice(&number.to_be_bytes()))?;
        }
        loop {
            let mut messages = Vec::new();
            for replica in &mut replicas {
                messages.extend(replica.run()?);
            }
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let to = message.to as usize - 1;
                // A refused message is like a lost one.
                let _ = replicas[to].node.step(message);
            }
        }
        if replicas.iter().all(|replica| replica.sum == 5050) {
            println!("after {tick} ticks all three replicas hold {}", replicas[0].sum);
            return Ok(());
        }
    }
    Ok(())
}
