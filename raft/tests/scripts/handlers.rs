//! The commands.

use ketch_raft::{Body, ConfChange, Message, NodeId, ReadMode, SnapshotMeta, StepError, Storage, Transition};

use crate::confchange;
use crate::datadriven::Directive;
use crate::describe;
use crate::env::{Env, plain_config};
use crate::lines::progress;
use crate::output::Output;
use crate::work::{AppendWork, Letter};

type Outcome = Result<(), String>;

impl Env {
    /// What the command prints; `ok` if nothing.
    pub(crate) fn handle(&mut self, directive: &Directive) -> String {
        self.output.take();
        let outcome = self.dispatch(directive);
        if let Err(error) = outcome {
            if self.output.is_quiet() {
                return error;
            }
            self.output.write(&error);
        }
        let text = self.output.take();
        if text.is_empty() { "ok".to_string() } else { text }
    }

    fn dispatch(&mut self, d: &Directive) -> Outcome {
        match d.command.as_str() {
            "_breakpoint" => Ok(()),
            "add-nodes" => self.add_nodes(d),
            "campaign" => {
                self.member(d.number(0)).node.hup();
                Ok(())
            }
            "compact" => self.compact(d.number(0), d.number(1)),
            "deliver-msgs" => self.deliver(d),
            "forget-leader" => {
                let _ = self.member(d.number(0)).node.forget_leader();
                Ok(())
            }
            "log-level" => Output::level_named(&d.args[0].key).map(|level| self.output.set_level(level)),
            "process-ready" => self.each(d, "handling Ready", Env::process_ready),
            "process-append-thread" => self.each(d, "processing append thread", Env::process_append),
            "process-apply-thread" => self.each(d, "processing apply thread", Env::process_apply),
            "propose" => self.propose(d),
            "propose-conf-change" => self.propose_change(d),
            "raft-log" => self.raft_log(d.number(0)),
            "raft-state" => self.raft_state(),
            "report-unreachable" => self.report_unreachable(d),
            "send-snapshot" => self.send_snapshot(d.number(0), d.number(1)),
            "set-randomized-election-timeout" => {
                let ticks =
                    d.value("timeout").and_then(|ticks| ticks.parse().ok()).ok_or("timeout is missing")?;
                self.member(d.number(0)).node.set_election_wait(ticks);
                Ok(())
            }
            "stabilize" => self.stabilize_command(d),
            "status" => self.status(d.number(0)),
            "tick-election" => self.tick(d.number(0), plain_config().election_ticks),
            "tick-heartbeat" => self.tick(d.number(0), plain_config().heartbeat_ticks),
            "transfer-leadership" => self.transfer(d),
            _ => Err("unknown command".to_string()),
        }
    }

    fn add_nodes(&mut self, d: &Directive) -> Outcome {
        let mut config = plain_config();
        let mut snapshot = SnapshotMeta::default();
        let mut is_async = false;
        let mut bootstraps = false;
        for arg in &d.args[1..] {
            for value in &arg.values {
                let number = || value.parse::<u64>().map_err(|error| error.to_string());
                let flag = || value.parse::<bool>().map_err(|error| error.to_string());
                match arg.key.as_str() {
                    "voters" => snapshot.conf_state.voters.push(number()?),
                    "learners" => snapshot.conf_state.learners.push(number()?),
                    "inflight" => config.max_inflight_messages = number()? as usize,
                    "index" => {
                        snapshot.index = number()?;
                        config.applied = snapshot.index;
                    }
                    "content" => bootstraps = true,
                    "async-storage-writes" => is_async = flag()?,
                    "prevote" => config.pre_vote = flag()?,
                    "checkquorum" => config.check_quorum = flag()?,
                    "max-committed-size-per-ready" => config.max_applying_bytes = number()?,
                    "disable-conf-change-validation" => config.disable_change_validation = flag()?,
                    "read-only" => {
                        config.reads = match value.as_str() {
                            "safe" => ReadMode::Quorum,
                            "lease-based" => ReadMode::Lease { max_drift_ticks: 0 },
                            other => return Err(format!("invalid read-only option \"{other}\"")),
                        };
                    }
                    "step-down-on-removal" => config.step_down_on_removal = flag()?,
                    _ => {}
                }
            }
        }
        bootstraps |= snapshot != SnapshotMeta::default();
        if bootstraps && snapshot.index <= 1 {
            return Err("index must be specified as > 1 due to bootstrap".to_string());
        }
        snapshot.term = u64::from(bootstraps);
        (0..d.number(0)).try_for_each(|_| self.add_node(&config, is_async, &snapshot))
    }

    fn compact(&mut self, id: NodeId, index: u64) -> Outcome {
        let compacted = self.member(id).node.storage_mut().memory.compact(index);
        compacted.map_err(|_| "requested index is unavailable due to compaction".to_string())?;
        self.raft_log(id)
    }

    /// Runs `act` for each named node, with a heading and indented when there are several.
    fn each(&mut self, d: &Directive, heading: &str, act: fn(&mut Env, NodeId) -> Outcome) -> Outcome {
        let ids = d.numbers();
        for id in &ids {
            if ids.len() > 1 {
                self.headed(*id, heading, act)?;
            } else {
                act(self, *id)?;
            }
        }
        Ok(())
    }

    fn headed(&mut self, id: NodeId, heading: &str, act: fn(&mut Env, NodeId) -> Outcome) -> Outcome {
        let output = self.output.clone();
        output.write(&format!("> {id} {heading}\n"));
        output.indented(|| act(self, id))
    }

    fn deliver(&mut self, d: &Directive) -> Outcome {
        let mut handled = 0;
        let kind = d.value("type").map(str::to_string);
        for arg in &d.args {
            if arg.key != "type" && arg.values.is_empty() {
                let id = arg.key.parse().map_err(|_| "expected a node id")?;
                handled += self.deliver_to(id, kind.as_deref(), false)?;
            } else if arg.key == "drop" {
                for id in &arg.values {
                    handled += self.deliver_to(
                        id.parse().map_err(|_| "expected a node id")?,
                        kind.as_deref(),
                        true,
                    )?;
                }
            }
        }
        if handled == 0 {
            self.output.write("no messages\n");
        }
        Ok(())
    }

    fn split(&mut self, to: NodeId, kind: Option<&str>, drop: bool) -> Vec<Letter> {
        let chosen = |letter: &Letter| {
            letter.to() == to && !(drop && letter.is_local()) && kind.is_none_or(|kind| letter.kind() == kind)
        };
        let (taken, kept) = std::mem::take(&mut self.letters).into_iter().partition(chosen);
        self.letters = kept;
        taken
    }

    fn deliver_to(&mut self, id: NodeId, kind: Option<&str>, drop: bool) -> Result<usize, String> {
        let letters = self.split(id, kind, drop);
        let count = letters.len();
        for letter in letters {
            let dropped = if drop { "dropped: " } else { "" };
            self.output.write(&format!("{dropped}{}\n", letter.text()));
            if !drop {
                self.take_letter(letter)?;
            }
        }
        Ok(count)
    }

    fn take_letter(&mut self, letter: Letter) -> Outcome {
        let output = self.output.clone();
        let node = &mut self.member(letter.to()).node;
        match letter {
            Letter::Appended { report, .. } => node.step_report(&report).map_err(|fault| fault.to_string()),
            Letter::Applied { token, .. } => node.applied(token).map_err(|fault| fault.to_string()),
            Letter::Peer(message) if message.from == message.to => {
                if !node.status().conf_state.contains(message.to) {
                    output.write("raft: cannot step as peer not found\n");
                    return Ok(());
                }
                node.step_own(message).map_err(|fault| fault.to_string())
            }
            Letter::Peer(message) => {
                let is_proposal = matches!(message.body, Body::Propose { .. });
                match node.step(message) {
                    Err(StepError::UnknownPeer { .. }) => {
                        output.write("raft: cannot step as peer not found\n");
                    }
                    Err(StepError::Refused(_)) if is_proposal => output.write("raft proposal dropped\n"),
                    Err(StepError::Faulted) => return Err(format!("{:?}", node.fault())),
                    Ok(()) | Err(_) => {}
                }
                Ok(())
            }
        }
    }

    fn process_append(&mut self, id: NodeId) -> Outcome {
        let output = self.output.clone();
        let member = self.member(id);
        let Some(work) = member.append_work.pop_front() else {
            output.write("no append work to perform");
            return Ok(());
        };
        output.write(&format!("Processing:\n{}\n", work.text(false)));
        let AppendWork { hard_state, entries, snapshot, responses, token, .. } = work;
        member.store(hard_state, &entries, snapshot.as_ref())?;
        member.node.forget_batch(token);
        output.write("Responses:\n");
        for response in &responses {
            output.write(&format!("{}\n", response.text()));
        }
        self.letters.extend(responses);
        Ok(())
    }

    fn process_apply(&mut self, id: NodeId) -> Outcome {
        let output = self.output.clone();
        let member = self.member(id);
        let Some(work) = member.apply_work.pop_front() else {
            output.write("no apply work to perform");
            return Ok(());
        };
        output.write(&format!("Processing:\n{}\n", work.text(false)));
        member.apply(work.entries())?;
        output.write(&format!("Responses:\n{}\n", work.response.text()));
        self.letters.push(work.response);
        Ok(())
    }

    fn propose(&mut self, d: &Directive) -> Outcome {
        let data = d.args[1].key.clone();
        self.member(d.number(0)).node.propose(data.into()).map_err(|_| "raft proposal dropped".to_string())
    }

    fn propose_change(&mut self, d: &Directive) -> Outcome {
        let mut change = ConfChange::default();
        for arg in &d.args[1..] {
            for value in &arg.values {
                match (arg.key.as_str(), value.as_str()) {
                    ("v1", flag) => change.v1 = flag.parse().map_err(|_| format!("bad flag {flag}"))?,
                    ("transition", "auto") => change.transition = Transition::Auto,
                    ("transition", "implicit") => change.transition = Transition::Implicit,
                    ("transition", "explicit") => change.transition = Transition::Explicit,
                    ("transition", other) => return Err(format!("unknown transition {other}")),
                    (key, _) => return Err(format!("unknown command {key}")),
                }
            }
        }
        change.changes = confchange::parse(&d.input)?;
        if change.v1 && (change.changes.len() != 1 || change.transition != Transition::Auto) {
            return Err("v1 conf change can only have one operation and no transition".to_string());
        }
        let node = &mut self.member(d.number(0)).node;
        node.propose_conf_change(change).map_err(|_| "raft proposal dropped".to_string())
    }

    fn raft_log(&mut self, id: NodeId) -> Outcome {
        let output = self.output.clone();
        let memory = &self.member(id).node.storage().memory;
        let (first, last) = (memory.first_index(), memory.last_index());
        if last < first {
            output.write(&format!("log is empty: first index={first}, last index={last}"));
        } else {
            output.write(&describe::entries(memory.all()));
        }
        Ok(())
    }

    fn raft_state(&mut self) -> Outcome {
        for member in &self.members {
            let status = member.node.status();
            let voter = if status.conf_state.is_voter(status.id) { "(Voter)" } else { "(Non-Voter)" };
            let role = describe::role(status.role);
            self.output.write(&format!(
                "{}: {role} {voter} Term:{} Lead:{}\n",
                status.id, status.term, status.leader
            ));
        }
        Ok(())
    }

    fn report_unreachable(&mut self, d: &Directive) -> Outcome {
        let [on, reported] = d.numbers()[..] else {
            return Err(
                "must specify exactly two node indexes: node on which to report, and reported node".into()
            );
        };
        self.member(on).node.report_unreachable(reported);
        Ok(())
    }

    fn send_snapshot(&mut self, from: NodeId, to: NodeId) -> Outcome {
        let node = &self.member(from).node;
        let (term, meta) = (node.status().term, node.storage().newest());
        let message = Message { from, to, term, body: Body::Snapshot { meta } };
        self.output.write(&describe::message(&message));
        self.letters.push(Letter::Peer(message));
        Ok(())
    }

    fn status(&mut self, id: NodeId) -> Outcome {
        for (id, known) in &self.member(id).node.status().progress {
            self.output.write(&format!("{id}: {}\n", progress(known)));
        }
        Ok(())
    }

    fn tick(&mut self, id: NodeId, ticks: u32) -> Outcome {
        (0..ticks).for_each(|_| self.member(id).node.tick());
        Ok(())
    }

    fn transfer(&mut self, d: &Directive) -> Outcome {
        let id =
            |key| d.value(key).and_then(|id| id.parse().ok()).ok_or_else(|| format!("expected valid {key}"));
        let (from, to): (u64, u64) = (id("from")?, id("to")?);
        let _ = self.member(from).node.transfer_leader(to);
        Ok(())
    }

    fn stabilize_command(&mut self, d: &Directive) -> Outcome {
        let before = self.output.level();
        if let Some(level) = d.value("log-level") {
            self.output.set_level(Output::level_named(level)?);
        }
        let named = d.numbers();
        let ids = if named.is_empty() { (1..=self.members.len() as u64).collect() } else { named };
        let outcome = self.stabilize(&ids);
        self.output.set_level(before);
        outcome
    }

    /// Handles Readys, messages and work until none is left.
    fn stabilize(&mut self, ids: &[NodeId]) -> Outcome {
        loop {
            let mut idle = true;
            for id in ids {
                if self.member(*id).node.has_ready() {
                    self.headed(*id, "handling Ready", Env::process_ready)?;
                    idle = false;
                }
            }
            for id in ids {
                if self.letters.iter().any(|letter| letter.to() == *id) {
                    self.headed(*id, "receiving messages", |env, id| {
                        env.deliver_to(id, None, false).map(|_| ())
                    })?;
                    idle = false;
                }
            }
            for id in ids {
                if !self.member(*id).append_work.is_empty() {
                    self.drain(*id, "processing append thread", Env::process_append, |env, id| {
                        env.member(id).append_work.is_empty()
                    })?;
                    idle = false;
                }
            }
            for id in ids {
                if !self.member(*id).apply_work.is_empty() {
                    self.drain(*id, "processing apply thread", Env::process_apply, |env, id| {
                        env.member(id).apply_work.is_empty()
                    })?;
                    idle = false;
                }
            }
            if idle {
                return Ok(());
            }
        }
    }

    fn drain(
        &mut self,
        id: NodeId,
        heading: &str,
        act: fn(&mut Env, NodeId) -> Outcome,
        done: fn(&mut Env, NodeId) -> bool,
    ) -> Outcome {
        self.output.write(&format!("> {id} {heading}\n"));
        let output = self.output.clone();
        while !done(self, id) {
            output.indented(|| act(self, id))?;
        }
        Ok(())
    }
}
