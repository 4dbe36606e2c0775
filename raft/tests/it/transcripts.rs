//! Our own transcripts: commands and their exact output, through the lanes as an owner sees them. The names of the
//! files in `tests/transcripts/` are the test plan. `KETCH_REWRITE=1 cargo test -p ketch-raft --test it transcripts`
//! rewrites the outputs; read the difference before you keep it.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;

use ketch_raft::{
    Apply, ConfChange, ConfState, Config, Fault, MemoryStorage, Message, Node, NodeId, Pacing, Payload,
    Persist, ReadId, ReadMode, Ready, SnapshotMeta, Storage, Transition,
};

use crate::datadriven::{self, Directive};
use crate::describe;

#[path = "steps.rs"]
mod steps;

struct Member {
    node: Option<Node<MemoryStorage>>,
    config: Config,
    /// What a crash leaves.
    disk: MemoryStorage,
    persists: VecDeque<Persist>,
    applies: VecDeque<Apply>,
    applied: u64,
    members: ConfState,
    reads: u64,
}

#[derive(Default)]
struct World {
    members: Vec<Member>,
    letters: Vec<Message>,
    cut: Vec<NodeId>,
    out: String,
}

type Outcome = Result<(), String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl World {
    fn member(&mut self, id: NodeId) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    fn node(&mut self, id: NodeId) -> Result<&mut Node<MemoryStorage>, String> {
        self.member(id).node.as_mut().ok_or_else(|| format!("{id} is down"))
    }

    fn say(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{line}");
    }

    fn run(&mut self, d: &Directive) -> String {
        self.out.clear();
        if let Err(error) = self.command(d) {
            self.say(format!("refused: {error}"));
        }
        if self.out.is_empty() { "ok\n".to_string() } else { self.out.clone() }
    }

    fn command(&mut self, d: &Directive) -> Outcome {
        let id = d.args.first().and_then(|arg| arg.key.parse::<u64>().ok()).unwrap_or(0);
        let second = || d.args.get(1).map(|arg| arg.key.clone()).unwrap_or_default();
        let number = || second().parse::<u64>().map_err(text);
        match d.command.as_str() {
            "nodes" => self.nodes(d),
            "campaign" => self.node(id)?.campaign().map_err(text),
            "tick" => {
                for _ in 0..number().unwrap_or(1) {
                    self.node(id)?.tick();
                }
                Ok(())
            }
            "propose" => self.node(id)?.propose(second().into()).map_err(text),
            "expect" => {
                self.node(id)?.expect_proposals(second() == "more");
                Ok(())
            }
            "change" => self.change(id, d),
            "transfer" => self.node(id)?.transfer_leader(number()?).map_err(text),
            "forget" => self.node(id)?.forget_leader().map_err(text),
            "unreachable" => {
                self.node(id)?.report_unreachable(number()?);
                Ok(())
            }
            "snapshot-report" => {
                let ok = d.value("ok") == Some("true");
                self.node(id)?.report_snapshot(number()?, ok);
                Ok(())
            }
            "read" => {
                self.member(id).reads += 1;
                let read = ReadId { node: id, boot: 1, counter: self.member(id).reads };
                self.node(id)?.read_index(read).map_err(text)
            }
            "ready" => self.ready(id),
            "persist" => self.persist(id),
            "apply" => self.apply(id),
            "deliver" => self.deliver(id, d.value("type")),
            "drop" => {
                let before = self.letters.len();
                self.letters.retain(|letter| letter.to != id);
                self.say(format!("dropped {}", before - self.letters.len()));
                Ok(())
            }
            "duplicate" => {
                let again: Vec<Message> =
                    self.letters.iter().filter(|letter| letter.to == id).cloned().collect();
                self.letters.extend(again);
                Ok(())
            }
            "reverse" => {
                self.letters.reverse();
                Ok(())
            }
            "cut" => {
                self.cut.push(id);
                Ok(())
            }
            "mend" => {
                self.cut.clear();
                Ok(())
            }
            "settle" => self.settle(),
            "crash" => {
                let member = self.member(id);
                member.node = None;
                member.persists.clear();
                member.applies.clear();
                Ok(())
            }
            "restart" => self.restart(id),
            "compact" => self.compact(id, number()?),
            "log" => self.log(id),
            "status" => self.status(id),
            "progress" => self.progress(id),
            other => Err(format!("no such command: {other}")),
        }
    }

    fn restart(&mut self, id: NodeId) -> Outcome {
        let member = self.member(id);
        let mut storage = member.disk.clone();
        storage.set_conf_state(member.members.clone());
        let config = Config { applied: member.applied, ..member.config.clone() };
        let node = Node::new(config, storage).map_err(|fault: Fault| text(fault))?;
        member.node = Some(node);
        self.status(id)
    }

    /// Everything runs until nobody has anything to do; then how everybody stands.
    fn settle(&mut self) -> Outcome {
        for _ in 0..10_000 {
            let mut idle = true;
            for id in 1..=self.members.len() as u64 {
                while self.member(id).node.as_ref().is_some_and(Node::has_ready) {
                    let before = self.out.len();
                    self.ready(id)?;
                    self.keep_reads(before);
                    idle = false;
                }
                while !self.member(id).persists.is_empty() {
                    self.persist(id)?;
                    idle = false;
                }
                while !self.member(id).applies.is_empty() {
                    self.apply(id)?;
                    idle = false;
                }
            }
            for id in 1..=self.members.len() as u64 {
                let before = self.out.len();
                if self.letters.iter().any(|letter| letter.to == id) {
                    self.deliver(id, None)?;
                    idle = false;
                }
                self.out.truncate(before);
            }
            if idle {
                break;
            }
        }
        (1..=self.members.len() as u64).try_for_each(|id| self.status(id))
    }

    /// Of a Ready carried out while settling, only confirmed reads are told.
    fn keep_reads(&mut self, before: usize) {
        let tail = self.out.split_off(before);
        for line in tail.lines().filter(|line| line.starts_with("read ")) {
            self.say(line);
        }
    }
}

pub(crate) fn play(file: &Path) -> Result<(), String> {
    let script = std::fs::read_to_string(file).map_err(text)?;
    let directives = datadriven::parse(&script)?;
    let mut world = World::default();
    let mut rewritten =
        script.lines().take_while(|line| line.starts_with('#')).fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        });
    let mut difference = None;
    for directive in &directives {
        let actual = world.run(directive);
        if actual != directive.expected && difference.is_none() {
            difference = Some(format!(
                "{}, line {}: `{}`\nexpected:\n{}actual:\n{actual}",
                file.display(),
                directive.line,
                directive.command,
                directive.expected
            ));
        }
        let line = script.lines().nth(directive.line - 1).unwrap_or_default();
        let _ = write!(rewritten, "\n{line}\n----\n{actual}");
    }
    if std::env::var_os("KETCH_REWRITE").is_some() {
        return std::fs::write(file, rewritten).map_err(text);
    }
    difference.map_or(Ok(()), Err)
}

#[test]
fn all_transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let failures: Vec<String> = files.iter().filter_map(|file| play(file).err()).collect();
    assert!(files.len() >= 60, "only {} transcripts", files.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
