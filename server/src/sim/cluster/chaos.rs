//! What goes wrong, and how it is healed in the end.

use ketch_wal::sim::{Fault, Op};

use super::queue::What;
use super::world::World;
use crate::consensus::core::Input;

impl World {
    /// Something goes wrong; says when the next thing does.
    pub(super) fn chaos(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let us = self.up_to(self.options.fault_every_us * 2);
        self.after(us, What::Chaos);
        let at = self.random.below(self.nodes.len() as u64) as usize;
        if self.nodes[at].gone {
            return Ok(());
        }
        self.misfortune(at)
    }

    fn election_us(&self) -> u64 {
        self.options.tick_us * u64::from(self.options.election_ticks)
    }

    fn misfortune(&mut self, at: usize) -> Result<(), String> {
        let election = self.election_us();
        let short = if self.random.one_in(2) { self.up_to(election / 10) } else { self.up_to(election * 3) };
        let mut acts = self.options.weights.all().into_iter();
        let total: u64 = acts.clone().sum();
        if total == 0 {
            return Ok(());
        }
        let mut drawn = self.random.below(total);
        let act = acts.position(|weight| {
            let here = drawn < weight;
            drawn = drawn.wrapping_sub(weight);
            here
        });
        match act.unwrap_or_default() {
            0 if self.random.one_in(12) => (0..self.nodes.len()).for_each(|at| self.crash(at, short)),
            0 => self.crash(at, short),
            1 => self.kill(at, short),
            2 => self.partition(at, election),
            3 => self.pause(at, short),
            4 => self.transfer(),
            5 => self.disk_fault(at),
            6 => self.full_disk(at, election * 2),
            7 => self.stuck_disk(at, election * 2),
            8 => {
                self.stats.rolling_restarts += 1;
                self.roll(0);
            }
            9 => self.absence(at, election),
            10 => self.resize(),
            11 => self.burn(at),
            12 => self.rot(at, election),
            _ => self.leader_death(election),
        }
        Ok(())
    }

    fn partition(&mut self, at: usize, election: u64) {
        self.stats.partitions += 1;
        self.disturb_vacancy();
        let (kind, side) = (self.random.below(4), self.random.next());
        let cut = |from: usize, to: usize| match kind {
            0 => from == at || to == at,
            1 => from == at,
            2 => to == at,
            _ => (side >> from & 1) != (side >> to & 1),
        };
        let number = self.network.cut(self.nodes.len(), cut);
        let id = self.nodes[at].id;
        let words = ["around", "from", "to", "in two halves, away from"][kind as usize];
        self.note(kind, || format!("the network is cut {words} {id:x} (partition {number})"));
        let us = self.up_to(election * 4);
        self.after(us, What::Mend(number));
    }

    pub(super) fn mend(&mut self, number: u64) {
        self.network.mend(number);
        self.note(number, || format!("partition {number} is over"));
    }

    fn transfer(&mut self) {
        let to = self.random.below(self.nodes.len() as u64) as usize;
        let to = self.nodes[to].id;
        let leader = self.leader();
        let on = leader.unwrap_or(self.random.below(self.nodes.len() as u64) as usize);
        self.stats.transfers += 1;
        let id = self.nodes[on].id;
        self.note(to, || format!("{id:x} is to hand leadership to {to:x}"));
        self.input(on, Input::Transfer { to });
    }

    /// The leader dies, by one death or the other, and is back when others have long led.
    fn leader_death(&mut self, election: u64) {
        let Some(at) = self.leader() else { return };
        let us = election * 4 + self.up_to(election * 2);
        if self.random.one_in(2) { self.crash(at, us) } else { self.kill(at, us) }
    }

    /// The machine of the leader of the newest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| {
            let node = &self.nodes[*at];
            node.live.as_ref().is_some_and(|live| live.core.standing().leader == node.id)
        };
        let term = |at: &usize| self.nodes[*at].live.as_ref().map_or(0, |live| live.core.standing().term);
        (0..self.nodes.len()).filter(leads).max_by_key(term)
    }

    /// One of the next writes or syncs fails, perhaps half done.
    fn disk_fault(&mut self, at: usize) {
        let (skip, kind) = (self.random.below(6), self.random.below(3));
        let short = self.random.below(2000) as usize;
        let node = &mut self.nodes[at];
        let (op, fault) = match kind {
            0 => (Op::Sync, Fault::Eio),
            1 => (Op::Write, Fault::Eio),
            _ => (Op::Write, Fault::Short(short)),
        };
        node.armed = true;
        node.disk.fail(op, skip, fault);
        let id = node.id;
        self.stats.disk_faults += 1;
        self.note(kind, || format!("the disk of {id:x} is going to fail: {op:?} {fault:?}"));
    }

    fn full_disk(&mut self, at: usize, most: u64) {
        let room = self.random.below(40_000);
        let us = self.up_to(most);
        let node = &mut self.nodes[at];
        let Ok(space) = ketch_wal::Disk::space(&*node.disk, std::path::Path::new("/member")) else { return };
        if space.total_bytes < 1 << 40 {
            return;
        }
        (node.armed, node.full) = (true, true);
        node.disk.set_capacity(Some(space.total_bytes - space.free_bytes + room));
        let id = node.id;
        self.stats.full_disks += 1;
        self.note(room, || format!("the disk of {id:x} has room for {room} bytes"));
        self.after(us, What::Room(at));
    }

    fn stuck_disk(&mut self, at: usize, most: u64) {
        let us = self.up_to(most);
        let Some(who) = self.who(at) else { return };
        self.nodes[at].stuck = true;
        self.disturb_vacancy();
        let id = self.nodes[at].id;
        self.stats.stuck_disks += 1;
        self.note(us, || format!("the disk of {id:x} hangs for {} ms", us / 1000));
        self.after(us, What::Unstick(who));
    }

    /// Restarts member after member.
    pub(super) fn roll(&mut self, at: usize) {
        if at >= self.nodes.len() {
            return;
        }
        let election = self.election_us();
        let down = self.up_to(election / 2);
        self.kill(at, down);
        self.after(down + election * 2, What::Roll(at + 1));
    }

    /// A process dies, and bits have flipped on its disk when it is back. That must be noticed or not matter; what is
    /// lost with it is as if the machine had burnt down, so it happens only where that might.
    fn rot(&mut self, at: usize, election: u64) {
        if self.nodes[at].live.is_none() || !self.may_burn(at) {
            return;
        }
        let us = self.up_to(election);
        self.kill(at, us);
        let paths = self.nodes[at].rot_paths();
        let Some(path) = paths.get(self.random.below(paths.len().max(1) as u64) as usize) else { return };
        let flips = 1 + self.random.below(4);
        for _ in 0..flips {
            let bit = self.random.next();
            self.stats.bit_flips += u64::from(self.nodes[at].flip(path, bit));
        }
        let id = self.nodes[at].id;
        self.note(flips, || format!("bits flip in {} of {id:x}", path.display()));
    }

    /// A member is away for long.
    fn absence(&mut self, at: usize, election: u64) {
        let us = election * 4 + self.up_to(election * 10);
        self.stats.absences += 1;
        self.kill(at, us);
    }

    /// Nothing goes wrong from now on, and everybody is back.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.healed = true;
        self.heal_by = self.now + self.options.heal_us;
        self.network.mend_all();
        self.note(0, || "the world is healed".into());
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.disk.heal();
            node.disk.set_capacity(None);
            node.full = false;
            node.away = false;
            if let Some(who) = self.who(at) {
                self.resume(who);
                self.unstick(who);
            }
            if !self.nodes[at].gone {
                self.start(at)?;
            }
        }
        self.after(self.options.tick_us, What::Look);
        Ok(())
    }
}
