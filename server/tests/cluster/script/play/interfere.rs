//! Acts of a script that are about data that members do not agree on.

use serde_json::Value;

use crate::corrupt::{alarms, alter};
use crate::harness::http;
use crate::harness::process::Process;
use crate::harness::script::Outcome;
use crate::joining::reason;
use crate::members::eventually;

use super::Play;

/// What a member says of others whose data it compared with its own: names and figures that say which.
const COMPARED: [&str; 6] = [
    "local-member-id",
    "local-member-revision",
    "local-member-compact-revision",
    "remote-peer-endpoints",
    "remote-peer-revision",
    "remote-peer-compact-revision",
];

/// What a member found at its peers when it was started.
fn said(log: &str) -> Outcome {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let about_peers = lines.filter(|line| {
        line["level"] == "warn" && line["msg"].as_str().is_some_and(|msg| msg.contains("remote peer"))
    });
    let found = about_peers.map(|line| {
        // Lists are no text of their own here.
        let fields = COMPARED.map(|name| line[name].to_string().replace(['[', ']'], ""));
        format!("{} {} {}\n", line["level"], line["msg"], fields.join(" "))
    });
    Outcome { code: None, stdout: found.collect(), stderr: String::new() }
}

impl Play {
    /// `stop`, `alter`, `boot`, `refused`, `said`, `alarmed` and `http`.
    pub(super) async fn interfere(&mut self, act: &str, name: &str, args: &[String]) -> Option<Outcome> {
        let at = self.position(name);
        let member = &mut self.cluster.members[at];
        match act {
            "stop" => drop(tokio::task::block_in_place(|| member.terminate())),
            "alter" => alter(&member.data, &args[0]),
            "boot" => {
                member.extra = args.to_vec();
                tokio::task::block_in_place(|| self.cluster.start(at));
            }
            "refused" => {
                member.extra = args.to_vec();
                let mut process = Process::spawn(&mut self.cluster.command(&self.cluster.members[at]));
                let status = tokio::task::block_in_place(|| process.wait());
                return Some(Outcome {
                    code: status.code(),
                    stderr: reason(&process.log()),
                    ..said(&process.log())
                });
            }
            "said" => return Some(said(&member.log())),
            "alarmed" => {
                eventually("an alarm", async || match alarms(&self.cluster, at).await {
                    none if none.is_empty() => Err("none"),
                    _raised => Ok(()),
                })
                .await;
            }
            _http => {
                let (code, body) = http::request(member.client_port, "GET", &args[0]);
                // etcd's checks come in another order each time.
                let mut lines: Vec<&str> = body.lines().collect();
                lines.sort_unstable();
                return Some(Outcome {
                    code: Some(code.into()),
                    stdout: lines.join("\n"),
                    stderr: String::new(),
                });
            }
        }
        None
    }
}
