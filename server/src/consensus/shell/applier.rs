//! The applier's station: what is committed takes effect, and whoever waits for it is told.

use std::sync::atomic::Ordering;

use ketch_raft::Apply;

use super::{Driver, Input, Stopped};
use crate::apply::core::{Answered, ApplyCore};
use crate::clock::Stopwatch;
use crate::consensus::core::Applied;
use crate::metrics::Metrics;
use crate::staging::Staging;

impl Driver {
    /// Applies what is queued as one batch of the store, then answers; unless another thread is at it.
    pub(super) fn run_applier(&self) -> bool {
        self.run_applier_if(|_any| true)
    }

    /// The same if `is_mine` says so of all that is queued. Whoever asks looks at the queues afterwards.
    pub(super) fn run_applier_if(&self, is_mine: impl FnOnce(&[Apply]) -> bool) -> bool {
        if self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        let Some((mut applier, jobs)) = self.apply_queue.take_to(&self.applier, is_mine) else {
            return false;
        };
        let done = apply_jobs(&mut applier, jobs, &self.staging, &self.metrics);
        let answers = match done {
            Ok((answers, inputs)) => {
                // Published and handed over in order: before the applier can be taken by somebody else.
                self.shared.set_applied(applier.applied_index());
                self.shared.set_used_bytes(applier.store().logical_bytes());
                if applier.take_cluster_changed() {
                    self.shared.set_cluster(applier.cluster().clone(), applier.alarms());
                    self.note_members(applier.cluster());
                }
                if inputs.iter().any(|input| matches!(input, Input::Applied(done) if done.snapshot.is_some()))
                {
                    self.shared.installed.send_modify(|count| *count += 1);
                }
                self.inbox.extend(inputs.into_iter());
                answers
            }
            Err(fault) => {
                self.stop(Stopped(fault));
                return true;
            }
        };
        drop(applier);
        let is_alone = answers.len() == 1 && self.has_one_request();
        for Answered { id, outcome } in answers {
            if is_alone {
                self.proposals.complete_alone(id.serial, Ok(outcome));
            } else {
                self.proposals.complete(id.serial, Ok(outcome));
            }
        }
        self.wake_readers();
        self.run_consensus();
        true
    }
}

type AppliedJobs = (Vec<Answered>, Vec<Input>);

fn apply_jobs(
    applier: &mut ApplyCore,
    jobs: Vec<Apply>,
    staging: &Staging,
    metrics: &Metrics,
) -> Result<AppliedJobs, String> {
    let mut answers = Vec::with_capacity(jobs.len());
    let mut inputs = Vec::with_capacity(jobs.len());
    let watch = Stopwatch::start();
    for job in jobs {
        if let Some(snapshot) = &job.snapshot {
            metrics.snapshot_apply.inc();
            let installed = applier.install(snapshot, staging);
            metrics.snapshot_apply.dec();
            installed?;
        }
        let mut conf_changes = Vec::new();
        applier.apply(job.entries, &mut answers, &mut conf_changes).map_err(|fault| fault.to_string())?;
        inputs.push(Input::Applied(Applied {
            token: job.token,
            index: applier.applied_index(),
            conf_changes,
            snapshot: job.snapshot,
        }));
    }
    let tally = applier.take_tally();
    metrics.apply.observe(&tally, watch.elapsed());
    metrics.put_bytes.add(tally.put_bytes());
    let watch = Stopwatch::start();
    applier.commit().map_err(|fault| fault.to_string())?;
    metrics.backend_commit.observe(watch.elapsed());
    metrics.count_applied(&answers);
    Ok((answers, inputs))
}
