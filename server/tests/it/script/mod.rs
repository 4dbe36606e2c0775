//! One script of etcdctl commands, against the real etcd and against ketch, with the same answers.
//!
//! Compared are exit code, standard output and standard error of every command. Masked are only sizes,
//! durations, the port of the endpoint and etcdctl's own log lines.

use crate::harness::process::Instance;
use crate::harness::programs;
use crate::harness::script::mask::mask;
use crate::harness::script::{assert_same, parse, run};

#[test]
fn etcdctl_sees_no_difference() {
    let Some(tools) = programs::real_etcd("etcdctl_sees_no_difference") else { return };
    let steps = parse(include_str!("commands.txt"));
    assert!(steps.len() >= 200, "{} commands", steps.len());
    let dir = tempfile::tempdir().unwrap();
    let etcdctl = tools.join("etcdctl");

    let etcd = Instance::new(tools.join("etcd"), dir.path().join("etcd"));
    let ketch = Instance::new(programs::ketch(), dir.path().join("ketch"));
    let (_etcd_process, _ketch_process) = (etcd.start_settled(), ketch.start_settled());
    let outcomes: Vec<_> = steps
        .iter()
        .map(|step| {
            let [expected, found] = [&etcd, &ketch].map(|server| {
                let outcome = run(&etcdctl, &server.url(), &step.args, step);
                outcome.masked(|text| mask(text, server.client_port))
            });
            (step, expected, found)
        })
        .collect();
    // Neither a broken script nor one without errors to compare would say much.
    let refused = outcomes.iter().filter(|(_, expected, _)| expected.is_refusal()).count();
    assert!((10..=steps.len() / 2).contains(&refused), "{refused} of {} commands refused", steps.len());
    assert_same(outcomes.iter().map(|(step, expected, found)| (*step, expected, found)));
}
