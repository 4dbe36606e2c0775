//! Plays the script at one cluster.

mod interfere;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::{MemberAddRequest, MoveLeaderRequest};
use ketch_proto::rpc_error::RpcError;

use crate::harness::script::mask::{hide_fields, mask};
use crate::harness::script::{Outcome, Step, run};
use crate::members::{Cluster, Member, PATIENCE, eventually, status};

/// Columns and fields of raft's own, which elections move.
const RAFTS: [&str; 8] = [
    "\"raft_term\"",
    "\"raftTerm\"",
    "\"raftIndex\"",
    "\"raftAppliedIndex\"",
    "\"RaftTerm\"",
    "\"RaftIndex\"",
    "\"RaftAppliedIndex\"",
    "\"dbSizeQuota\"",
];
const COLUMNS: [&str; 3] = ["RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX"];

/// The script's members, those that join later too, and what is known of them.
#[derive(Debug)]
pub(super) struct Play {
    cluster: Cluster,
    /// Members that are not started yet.
    drafts: Vec<Member>,
    /// Ids by name, of all that ever were members.
    ids: BTreeMap<String, u64>,
    founders: Vec<String>,
    etcdctl: PathBuf,
}

impl Play {
    pub(super) fn new(mut cluster: Cluster, etcdctl: PathBuf) -> Play {
        let drafts = vec![cluster.draft(), cluster.draft()];
        let founders = cluster.members.iter().map(|member| member.name.clone()).collect();
        Play { cluster, drafts, ids: BTreeMap::new(), founders, etcdctl }
    }

    /// The same members on the same ports, of `program`, as if nothing had been.
    pub(super) fn again(self, program: PathBuf) -> Play {
        let Play { mut cluster, mut drafts, founders, etcdctl, .. } = self;
        let mut all: Vec<Member> = cluster.members.drain(..).chain(drafts.drain(..)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for member in &mut all {
            member.extra.clear();
            drop(member.process.take());
            drop(std::fs::remove_dir_all(&member.data));
        }
        let drafts = all.split_off(founders.len());
        cluster.found_again(program, all);
        Play { cluster, drafts, ids: BTreeMap::new(), founders, etcdctl }
    }

    /// The outcome of each step; steps that are no commands have none.
    pub(super) async fn all(&mut self, steps: &[Step]) -> Vec<Option<Outcome>> {
        self.learn().await;
        for at in 0..self.cluster.members.len() {
            self.is_up_to_date(at).await;
        }
        let mut outcomes = Vec::new();
        for step in steps {
            if let Some(act) = step.args[0].strip_prefix('!') {
                outcomes.push(self.act(act, &step.args[1], &step.args[2..]).await);
                continue;
            }
            let told = self.command(step).await;
            if step.args.iter().any(|word| word == "add") {
                self.learn().await;
            }
            let unordered = step.text.contains(" health") || self.ids.len() > self.founders.len();
            outcomes.push(Some(told.masked(|text| self.masked(text, unordered))));
        }
        outcomes
    }

    fn position(&self, name: &str) -> usize {
        self.cluster.members.iter().position(|member| member.name == name).unwrap()
    }

    /// etcd raises its storage version a moment after it is ready.
    async fn is_up_to_date(&self, at: usize) {
        let channel = self.cluster.members[at].channel();
        eventually("the newest storage version", async || match status(channel.clone()).await {
            Ok(told) if told.storage_version == "3.7.0" => Ok(()),
            other => Err(other),
        })
        .await;
    }

    /// Learns ids by peer URLs: one that joins has no name yet.
    async fn learn(&mut self) {
        let listed = self.cluster.list(0).await;
        for member in self.cluster.members.iter().chain(&self.drafts) {
            if let Some(found) = listed.iter().find(|found| found.peer_urls.contains(&member.peer_url())) {
                self.ids.insert(member.name.clone(), found.id);
            }
        }
    }

    /// What is done to the member `name`; where that can be looked at, what it showed.
    async fn act(&mut self, act: &str, name: &str, args: &[String]) -> Option<Outcome> {
        match act {
            "stop" | "alter" | "boot" | "refused" | "said" | "alarmed" | "http" => {
                return self.interfere(act, name, args).await;
            }
            "leader" => self.lead(name).await,
            "start" => {
                let at = self.drafts.iter().position(|member| member.name == name).unwrap();
                let mut member = self.drafts.remove(at);
                member.birth.1 = format!("{},{name}={}", self.cluster.initial_cluster(), member.peer_url());
                self.cluster.members.push(member);
                let at = self.cluster.members.len() - 1;
                tokio::task::block_in_place(|| self.cluster.join(at));
                self.is_up_to_date(at).await;
            }
            "off" => {
                let at = self.position(name);
                let mut member = self.cluster.members.remove(at);
                drop(member.process.take());
                self.drafts.push(member);
            }
            "known" => {
                // Each answers for itself: what the last command changed is applied everywhere.
                for at in 0..self.cluster.members.len() {
                    self.cluster.list(at).await;
                }
            }
            "settled" => {
                // Refused in any case: for being unhealthy first.
                let peer_urls = vec![self.cluster.members[self.position(name)].peer_url()];
                let request = MemberAddRequest { peer_urls, is_learner: false };
                eventually("a cluster that counts as healthy", async || {
                    let mut cluster = ClusterClient::new(self.cluster.members[0].channel());
                    match cluster.member_add(request.clone()).await {
                        Err(status) if status.message() == RpcError::PeerURLExist.message() => Ok(()),
                        other => Err(other),
                    }
                })
                .await;
            }
            other => panic!("the script knows no {other:?}"),
        }
        None
    }

    async fn lead(&mut self, name: &str) {
        let (at, target_id) = (self.position(name), self.ids[name]);
        eventually("leadership where the script wants it", async || {
            let leader = self.cluster.leader().await;
            if leader == at {
                return Ok(());
            }
            let mut maintenance = MaintenanceClient::new(self.cluster.members[leader].channel());
            let told = maintenance.move_leader(MoveLeaderRequest { target_id }).await;
            Err(told.map_or_else(|status| status.to_string(), |_| "moved".into()))
        })
        .await;
        for member in &self.cluster.members {
            eventually("everybody knows the leader", async || match status(member.channel()).await {
                Ok(told) if told.leader == target_id => Ok(()),
                other => Err(other),
            })
            .await;
        }
    }

    async fn command(&self, step: &Step) -> Outcome {
        let mut args: Vec<String> = step.args.iter().map(|word| self.filled(word)).collect();
        let endpoints = match args[0].strip_prefix('@') {
            Some(name) => {
                let url = self.cluster.members[self.position(name)].url();
                args.remove(0);
                url
            }
            None => self.cluster.members.iter().map(Member::url).collect::<Vec<_>>().join(","),
        };
        let again = args[0].strip_prefix('~').map(str::to_owned);
        let insists = again.is_some();
        if let Some(word) = again {
            args[0] = word;
        }
        let start = Instant::now();
        loop {
            let outcome = tokio::task::block_in_place(|| run(&self.etcdctl, &endpoints, &args, step));
            if !insists || outcome.code == Some(0) {
                return outcome;
            }
            assert!(start.elapsed() < PATIENCE, "{}: {outcome:?}", step.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A word with ids and addresses in place of names, and a file beside the members' data, the same one for both programs: a command that
    /// saves one puts it in the place of whatever has its name, so never that of a device.
    fn filled(&self, word: &str) -> String {
        let saved = self.cluster.members[0].data.with_file_name("saved");
        let mut word = word.replace("{saved}", &saved.to_string_lossy());
        for (name, id) in &self.ids {
            word = word.replace(&format!("{{id:{name}}}"), &format!("{id:x}"));
        }
        for member in self.cluster.members.iter().chain(&self.drafts) {
            word = word.replace(&format!("{{peer:{}}}", member.name), &member.peer_url());
            word = word.replace(&format!("{{{}}}", member.name), &member.url());
        }
        word
    }

    /// What may differ between two clusters that behave the same is hidden. The order of members is that of their ids, which
    /// is another one wherever somebody joined; that of `health` is the order of answers.
    fn masked(&self, text: &str, unordered: bool) -> String {
        let mut text = text.to_owned();
        for (name, id) in &self.ids {
            if !self.founders.contains(name) {
                // One with leading zeroes is padded.
                text = text.replace(&format!("{id:16x}"), &format!("ID-{name}"));
                text = text.replace(&format!("{id:x}"), &format!("ID-{name}"));
                text = text.replace(&id.to_string(), &format!("ID-{name}"));
            }
        }
        for member in self.cluster.members.iter().chain(&self.drafts) {
            text = text
                .replace(&format!("127.0.0.1:{}", member.client_port), &format!("ENDPOINT-{}", member.name));
            text = text.replace(&member.peer_url(), &format!("PEER-{}", member.name));
        }
        // How many spaces there are is another matter in each build of Go's library.
        let text = mask(&rafts_hidden(&text.replace("  alarm:", " alarm:")), 0);
        if !unordered {
            return text;
        }
        let mut lines: Vec<String> = text.lines().map(in_order).collect();
        lines.sort();
        lines.join("\n")
    }
}

/// `ETCD_INITIAL_CLUSTER` and JSON arrays with their parts in order.
fn in_order(line: &str) -> String {
    let mut parts: Vec<&str> = line.split([',', '"', '[', ']']).collect();
    parts.sort_unstable();
    parts.join(",")
}

/// Hides raft's terms and indexes in JSON, fields, tables and plain lines of a status.
fn rafts_hidden(text: &str) -> String {
    let table_head = text.lines().find(|line| line.contains("RAFT TERM"));
    let hidden: Vec<usize> = table_head.map_or_else(Vec::new, |head| {
        let cells = head.split(['|', '│']).enumerate();
        cells.filter(|(_, cell)| COLUMNS.contains(&cell.trim())).map(|(at, _)| at).collect()
    });
    let lines = text.lines().map(|line| {
        let mut line = hide_fields(line, &RAFTS);
        if !hidden.is_empty() && Some(line.as_str()) != table_head && line.starts_with(['|', '│']) {
            let mut cells: Vec<&str> = line.split(['|', '│']).collect();
            hidden.iter().for_each(|at| cells[*at] = "*");
            line = cells.join("|");
        }
        plain_status_hidden(&line)
    });
    lines.map(|line| line + "\n").collect()
}

/// `endpoint, id, version, storage version, size, in use, %, quota, leader, learner, term, index, applied, errors, …`
fn plain_status_hidden(line: &str) -> String {
    let parts: Vec<&str> = line.split(", ").collect();
    if parts.len() < 12 || !line.contains("ENDPOINT") {
        return line.to_owned();
    }
    let hidden = parts.iter().map(|part| if part.parse::<u64>().is_ok() { "*" } else { *part });
    hidden.collect::<Vec<_>>().join(", ")
}
