//! The end of a run: everybody has caught up, and everything is looked at once more.

use bytes::Bytes;
use ketch_mvcc::Query;

use super::ask;
use super::queue::What;
use super::wgl;
use super::world::World;

impl World {
    /// Has everybody converged?
    pub(super) fn look(&mut self) -> Result<bool, String> {
        let applied = self.truth.applied();
        let members = || self.nodes.iter().enumerate().filter(|(_, node)| !node.gone);
        let caught_up = members().all(|(_, node)| {
            node.live.as_ref().is_some_and(|live| {
                let status = live.core.status();
                // What the store has applied its raft may hear of a moment later, changes of members among it.
                let all = [status.commit, status.applied, node.applied()] == [applied; 3];
                status.leader != 0 && all
            })
        });
        let served = self.clients.all_healed(members().map(|(at, _)| at));
        if caught_up && served && self.is_complete() {
            return Ok(true);
        }
        self.after(self.options.tick_us, What::Look);
        Ok(false)
    }

    /// Looks at everything once more.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            self.compare_store(at)?;
        }
        if let Some(content) = self.clients.not_taken().find(|content| self.truth.times(*content) > 0) {
            return Err(format!("a command that was not taken took effect all the same ({content:x})"));
        }
        self.settle_watchers()?;
        self.end_vacancy();
        self.stats.promotions = self.truth.members().promoted;
        self.stats.changes_refused = self.truth.members().refused;
        let report = &self.watchers.report;
        self.stats.watched = report.watched;
        self.stats.bookmarks = report.bookmarks;
        self.stats.watches_resumed = report.resumed;
        self.stats.watches_lost = report.lost_watches;
        for node in &self.nodes {
            self.trace.mix(node.disk.digest());
        }
        self.second_opinion()
    }

    /// A member's whole store, at the newest and at some older revisions, is what the reference says.
    fn compare_store(&mut self, at: usize) -> Result<(), String> {
        let Some(live) = &self.nodes[at].live else { return Ok(()) };
        let (raft, store) = (live.core.status().conf_state, &live.applier.cluster().conf_state);
        if raft != *store {
            let id = self.nodes[at].id;
            return Err(format!("at the end {id:x} has the members {raft} in raft and {store} in the store"));
        }
        let view = live.applier.store().reader().view();
        let (newest, oldest) = (view.revision(), view.compacted().max(1));
        let mut revisions = vec![newest, oldest];
        revisions.extend((0..4).map(|_| oldest + self.random.below((newest - oldest + 1) as u64) as i64));
        for revision in revisions {
            let query = Query { revision, ..Query::new(ask::range(&Bytes::new())) };
            let found = match ask::pairs(&view, &query) {
                Ok(found) => found,
                // Damage that is named is damage noticed.
                Err(_) if self.nodes[at].rotten => return Ok(()),
                Err(why) => return Err(format!("at the end: {why}")),
            };
            let right = self.truth.pairs(&Bytes::new(), revision);
            if found != right {
                let id = self.nodes[at].id;
                return Err(format!(
                    "at the end {id:x} has {found:?} at revision {revision}, right is {right:?}"
                ));
            }
        }
        self.stats.stores_compared += 1;
        Ok(())
    }

    /// The history of answers alone, without revisions, is linearizable.
    fn second_opinion(&mut self) -> Result<(), String> {
        self.clients.close();
        let verdict = wgl::check(&self.clients.records)?;
        self.stats.histories_checked += verdict.decided;
        self.stats.histories_undecided += verdict.undecided;
        self.stats.history_operations += verdict.operations;
        Ok(())
    }
}
