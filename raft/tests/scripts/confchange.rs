//! Scripts about changes of members alone.

use ketch_raft::testing::{enter_joint, leave_joint, simple};
use ketch_raft::{ConfChangeKind, ConfChangeSingle, Tracker};

use crate::datadriven::Directive;
use crate::lines::progress;

pub(crate) fn run(directives: &[Directive]) -> Vec<String> {
    let mut tracker = Tracker::new(10, 0);
    directives
        .iter()
        .zip(0..)
        .map(|(directive, last_index)| step(&mut tracker, last_index, directive))
        .collect()
}

fn step(tracker: &mut Tracker, last_index: u64, directive: &Directive) -> String {
    let steps = match parse(&directive.input) {
        Ok(steps) => steps,
        Err(error) => return error,
    };
    let outcome = match directive.command.as_str() {
        "simple" => simple(tracker, last_index, &steps),
        "enter-joint" => {
            enter_joint(tracker, last_index, directive.value("autoleave") == Some("true"), &steps)
        }
        "leave-joint" if !steps.is_empty() => return "this command takes no input\n".to_string(),
        "leave-joint" => leave_joint(tracker),
        _ => return "unknown command".to_string(),
    };
    match outcome {
        Err(error) => format!("{error}\n"),
        Ok(next) => {
            *tracker = next;
            let ids: Vec<u64> = (0..64).filter(|id| tracker.get(*id).is_some()).collect();
            let known = |id: &u64| tracker.get(*id).map(|known| format!("{id}: {}\n", progress(known)));
            format!("{}\n{}", tracker.conf_state(), ids.iter().filter_map(known).collect::<String>())
        }
    }
}

/// `v1 l2 r3 u4`.
pub(crate) fn parse(text: &str) -> Result<Vec<ConfChangeSingle>, String> {
    text.split_whitespace()
        .map(|token| {
            if token.len() < 2 {
                return Err(format!("unknown token {token}"));
            }
            let kind = match token.as_bytes()[0] {
                b'v' => ConfChangeKind::AddVoter,
                b'l' => ConfChangeKind::AddLearner,
                b'r' => ConfChangeKind::Remove,
                b'u' => ConfChangeKind::Update,
                _ => return Err(format!("unknown input: {token}")),
            };
            let number = &token[1..];
            let node = number
                .parse()
                .map_err(|_| format!("strconv.ParseUint: parsing \"{number}\": invalid syntax"))?;
            Ok(ConfChangeSingle { kind, node })
        })
        .collect()
}
