//! Lives of members: they start, die, are stopped for a while, and stop by themselves when their disk fails.

use super::planted::Bug;
use super::queue::{What, Who};
use super::world::World;
use crate::consensus::core::Input;

impl World {
    /// Starts the process on machine `at`.
    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        let node = &self.nodes[at];
        if node.live.is_some() || node.away || node.gone {
            return Ok(());
        }
        self.lives += 1;
        let (life, seed) = (self.lives, self.random.next());
        let id = node.id;
        let node = &mut self.nodes[at];
        match node.start(life, seed, &self.options) {
            Ok(torn) => {
                // A fault that was to come and did not is forgotten.
                node.disk.heal();
                node.armed = node.full;
                self.stats.torn_tails += u64::from(torn);
                self.note(life, || format!("{id:x} starts"));
                self.started(at, Who { node: at, life })
            }
            Err(why) if node.rotten => self.noticed(at, &why),
            Err(why) if node.armed => {
                self.note(life, || format!("{id:x} does not start: {why}"));
                self.stats.failed_starts += 1;
                self.nodes[at].kill();
                self.restart_later(at);
                Ok(())
            }
            Err(why) => Err(format!("member {id:x} does not start: {why}")),
        }
    }

    fn started(&mut self, at: usize, who: Who) -> Result<(), String> {
        let first = self.up_to(self.nodes[at].tick_us);
        self.after(first, What::Tick(who));
        let upkeep = self.up_to(self.options.upkeep_us);
        self.after(upkeep, What::Upkeep(who));
        if self.options.planted == Some(Bug::DuplicateApplyAfterRestart) {
            self.apply_again(at);
        }
        self.check_start(at)?;
        self.input(at, Input::Tick);
        Ok(())
    }

    /// What a start brought back was applied by somebody, and is what it was.
    fn check_start(&mut self, at: usize) -> Result<(), String> {
        let (id, applied) = (self.nodes[at].id, self.nodes[at].applied());
        if applied > self.truth.applied() {
            return Err(format!(
                "{id:x} starts at applied index {applied}, {} was committed",
                self.truth.applied()
            ));
        }
        self.compare_state(at)?;
        Ok(())
    }

    /// The disk is whole again, and a while later the process starts.
    fn restart_later(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.disk.heal();
        let most = self.options.tick_us * u64::from(self.options.election_ticks) * 2;
        let us = self.up_to(most);
        self.after(us, What::Start(at));
    }

    /// The member stopped by itself: right if its disk was made to fail, and only then.
    pub(super) fn stopped(&mut self, at: usize, why: &str) -> Result<(), String> {
        let id = self.nodes[at].id;
        if self.nodes[at].rotten {
            return self.noticed(at, why);
        }
        if !self.nodes[at].armed {
            return Err(format!("member {id:x} stopped on a healthy disk: {why}"));
        }
        self.stats.fail_stops += 1;
        self.note(id, || format!("{id:x} stops: {why}"));
        self.die(at);
        self.restart_later(at);
        Ok(())
    }

    /// A member has noticed that its disk lies. Nobody trusts that disk again.
    fn noticed(&mut self, at: usize, why: &str) -> Result<(), String> {
        let id = self.nodes[at].id;
        self.note(id, || format!("{id:x} notices: {why}"));
        self.stats.damage_found += 1;
        self.lose(at);
        Ok(())
    }

    fn die(&mut self, at: usize) {
        self.begin_vacancy(at);
        self.watchers.disconnect(at);
        self.nodes[at].kill();
    }

    /// The process dies, and starts again after `us`.
    pub(super) fn kill(&mut self, at: usize, us: u64) {
        if self.nodes[at].live.is_none() {
            return;
        }
        let id = self.nodes[at].id;
        self.stats.kills += 1;
        self.note(id, || format!("{id:x} is killed"));
        self.die(at);
        self.after(us, What::Start(at));
    }

    /// The machine loses power, and is back after `us`.
    pub(super) fn crash(&mut self, at: usize, us: u64) {
        if self.nodes[at].live.is_none() {
            return;
        }
        let (id, in_sync) = (self.nodes[at].id, self.random.one_in(2));
        self.begin_vacancy(at);
        self.watchers.disconnect(at);
        let torn = self.nodes[at].crash(in_sync);
        self.stats.crashes += 1;
        self.stats.crashes_in_sync += u64::from(torn);
        self.note(id, || format!("{id:x} loses power"));
        self.after(us, What::Start(at));
    }

    /// The process is stopped for `us`.
    pub(super) fn pause(&mut self, at: usize, us: u64) {
        let Some(who) = self.who(at).filter(|_| self.nodes[at].is_up()) else { return };
        let id = self.nodes[at].id;
        self.stats.pauses += 1;
        self.disturb_vacancy();
        self.note(id, || format!("{id:x} is stopped for {} ms", us / 1000));
        self.nodes[at].deferred = Some(Vec::new());
        self.after(us, What::Resume(who));
    }

    /// A stopped process goes on: all that came meanwhile happens now.
    pub(super) fn resume(&mut self, who: Who) {
        let node = &mut self.nodes[who.node];
        let Some(live) = node.live.as_mut().filter(|live| live.life == who.life) else { return };
        let Some(deferred) = node.deferred.take() else { return };
        live.resumed = true;
        let id = node.id;
        self.note(id, || format!("{id:x} goes on"));
        deferred.into_iter().for_each(|what| self.after(1, what));
    }

    /// A disk that hung goes on.
    pub(super) fn unstick(&mut self, who: Who) {
        self.nodes[who.node].stuck = false;
        self.after(1, What::Synced(who));
    }

    /// A full disk has room again.
    pub(super) fn room(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.disk.set_capacity(None);
        node.full = false;
    }
}
