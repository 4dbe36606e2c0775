//! Scripts about quorum arithmetic alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use ketch_raft::quorum::{Joint, Majority, VoteResult};

use crate::datadriven::Directive;

pub(crate) fn run(directives: &[Directive]) -> Vec<String> {
    directives.iter().map(step).collect()
}

/// What a directive describes; 0 stands for `_`.
#[derive(Default)]
struct Case {
    incoming: Vec<u64>,
    outgoing: Vec<u64>,
    is_joint: bool,
    indexes: Vec<u64>,
    votes: Vec<u64>,
}

fn read(directive: &Directive) -> Case {
    let mut case = Case::default();
    for arg in &directive.args {
        for value in &arg.values {
            match (arg.key.as_str(), value.as_str()) {
                ("cfg", id) => case.incoming.push(id.parse().expect("an id")),
                ("cfgj", "zero") => case.is_joint = true,
                ("cfgj", id) => {
                    case.is_joint = true;
                    case.outgoing.push(id.parse().expect("an id"));
                }
                ("idx", "_") => case.indexes.push(0),
                ("idx", index) => case.indexes.push(index.parse().expect("an index")),
                ("votes", vote) => {
                    case.votes.push(["_", "n", "y"].iter().position(|v| *v == vote).expect("a vote") as u64);
                }
                (key, _) => panic!("unknown arg {key}"),
            }
        }
    }
    case
}

/// Values in the order in which the ids first appear.
fn assigned(values: &[u64], incoming: &[u64], outgoing: &[u64]) -> BTreeMap<u64, u64> {
    let mut map = BTreeMap::new();
    let mut values = values.iter();
    for id in incoming.iter().chain(outgoing) {
        if !map.contains_key(id)
            && let Some(value) = values.next()
        {
            map.insert(*id, *value);
        }
    }
    map.retain(|_, value| *value != 0);
    map
}

fn step(directive: &Directive) -> String {
    let case = read(directive);
    let joint = Joint {
        incoming: Majority::new(case.incoming.clone()),
        outgoing: Majority::new(case.outgoing.clone()),
    };
    let input = if directive.command == "vote" { &case.votes } else { &case.indexes };
    if joint.ids().len() != input.len() {
        let ids: Vec<String> = joint.ids().iter().map(|id| format!("{id}:{{}}")).collect();
        let input: Vec<String> = input.iter().map(u64::to_string).collect();
        return format!(
            "error: mismatched input (explicit or _) for voters map[{}]: [{}]",
            ids.join(" "),
            input.join(" ")
        );
    }
    let values = assigned(input, &case.incoming, &case.outgoing);
    match directive.command.as_str() {
        "committed" => committed(&joint, case.is_joint, &values),
        "vote" => vote(&joint, &values),
        other => panic!("unknown command: {other}"),
    }
}

fn index(index: u64) -> String {
    if index == u64::MAX { "∞".to_string() } else { index.to_string() }
}

fn committed(joint: &Joint, is_joint: bool, acked: &BTreeMap<u64, u64>) -> String {
    let lookup = |id| acked.get(&id).copied();
    let mut text = describe(&joint.ids(), acked);
    let result = joint.committed_index(lookup);
    let mut also = |other: u64, how: &str| {
        if other != result {
            let _ = writeln!(text, "{} <-- via {how}", index(other));
        }
    };
    let swapped = Joint { incoming: joint.outgoing.clone(), outgoing: joint.incoming.clone() };
    if is_joint {
        also(swapped.committed_index(lookup), "symmetry");
    } else {
        let twice = Joint { incoming: joint.incoming.clone(), outgoing: joint.incoming.clone() };
        also(slow_committed(&joint.incoming, acked), "alternative computation");
        also(joint.incoming.committed_index(lookup), "zero-joint quorum");
        also(twice.committed_index(lookup), "self-joint quorum");
        overlay(&mut text, &joint.incoming, acked, result);
    }
    text + &index(result) + "\n"
}

/// Lowering what lies below the result does not change it.
fn overlay(text: &mut String, group: &Majority, acked: &BTreeMap<u64, u64>, result: u64) {
    for (id, ack) in acked.iter().filter(|(id, ack)| group.contains(**id) && result > **ack) {
        for (lower, shown) in [(ack - 1, *ack), (0, 0)] {
            let other = group
                .committed_index(|other| if other == *id { Some(lower) } else { acked.get(&other).copied() });
            if other != result {
                let _ = write!(text, "{} <-- overlaying {id}->{shown}", index(other));
            }
        }
    }
}

/// The largest index that more than half acknowledged, by trying each.
fn slow_committed(group: &Majority, acked: &BTreeMap<u64, u64>) -> u64 {
    if group.is_empty() {
        return u64::MAX;
    }
    let acks: Vec<u64> = group.ids().iter().map(|id| acked.get(id).copied().unwrap_or(0)).collect();
    let held = |index: u64| acks.iter().filter(|ack| **ack >= index).count() >= group.quorum();
    acks.iter().copied().filter(|index| held(*index)).max().unwrap_or(0)
}

fn vote(joint: &Joint, values: &BTreeMap<u64, u64>) -> String {
    let lookup = |id| values.get(&id).map(|vote| *vote == 2);
    let name = |result| match result {
        VoteResult::Pending => "VotePending",
        VoteResult::Lost => "VoteLost",
        VoteResult::Won => "VoteWon",
    };
    let swapped = Joint { incoming: joint.outgoing.clone(), outgoing: joint.incoming.clone() };
    let (result, other) = (joint.vote_result(lookup), swapped.vote_result(lookup));
    if result == other {
        format!("{}\n", name(result))
    } else {
        format!("{} <-- via symmetry\n{}\n", name(other), name(result))
    }
}

/// Bars as long as there are members strictly behind.
fn describe(ids: &[u64], acked: &BTreeMap<u64, u64>) -> String {
    if ids.is_empty() {
        return "<empty majority quorum>".to_string();
    }
    let ack = |id: &u64| acked.get(id).copied().unwrap_or(0);
    let n = ids.len();
    let mut text = format!("{}    idx\n", " ".repeat(n));
    for id in ids {
        let bar = ids.iter().filter(|other| ack(other) < ack(id)).count();
        if acked.contains_key(id) {
            let _ = write!(text, "{}>{}", "x".repeat(bar), " ".repeat(n - bar));
        } else {
            let _ = write!(text, "?{}", " ".repeat(n));
        }
        let _ = writeln!(text, " {:>5}    (id={id:x})", ack(id));
    }
    text
}
