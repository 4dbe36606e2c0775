//! Watchers of the cluster: streams of the real service at the hub of one member after another, checked against what the
//! reference says happened.

use super::truth::Truth;
use super::world::World;
use crate::sim::Report;
use crate::sim::watch::{self, Stream};

const STREAMS: usize = 4;

/// All watchers of a run.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    truth: watch::Truth,
    streams: Vec<Stream>,
    /// The machine each is connected to.
    connected: Vec<Option<usize>>,
    /// What they were told.
    pub(super) report: Report,
}

impl Watchers {
    /// Learns what happened since the last call.
    pub(super) fn learn(&mut self, truth: &mut Truth) {
        for (revision, events) in truth.take_untold() {
            self.truth.tell(revision, events);
        }
    }

    /// The member on machine `at` has died.
    pub(super) fn disconnect(&mut self, at: usize) {
        for (stream, connected) in self.streams.iter_mut().zip(&mut self.connected) {
            if *connected == Some(at) {
                stream.disconnect();
                *connected = None;
            }
        }
    }
}

impl World {
    /// Some watcher does something.
    pub(super) fn watch(&mut self) -> Result<(), String> {
        let us = self.up_to(self.options.tick_us);
        self.after(us, super::queue::What::Watch);
        if self.watchers.streams.len() < STREAMS {
            self.watchers.streams.push(Stream::new(1 << (2 * self.watchers.streams.len())));
            self.watchers.connected.push(None);
        }
        let number = self.random.below(self.watchers.streams.len() as u64) as usize;
        let leaves = self.random.one_in(60);
        let anew = self.random.below(self.nodes.len() as u64) as usize;
        let Watchers { truth, streams, connected, report } = &mut self.watchers;
        let (Some(stream), Some(connected)) = (streams.get_mut(number), connected.get_mut(number)) else {
            return Ok(());
        };
        if leaves {
            stream.disconnect();
            *connected = None;
        }
        let at = *connected.get_or_insert(anew);
        let Some(live) = self.nodes[at].live.as_ref().filter(|_| self.nodes[at].deferred.is_none()) else {
            stream.disconnect();
            *connected = None;
            return Ok(());
        };
        let store = live.applier.store();
        stream.connect(store, report);
        let stepped = match self.random.one_in(3) {
            true => store.hub().step(1 + self.random.below(20) as usize).map(|_| ()),
            false => Ok(()),
        };
        if let Err(fault) = stepped {
            return self.stopped(at, &fault.to_string());
        }
        let id = self.nodes[at].id;
        stream.act(truth, store, &mut self.random, report).map_err(|why| format!("watch on {id:x}: {why}"))
    }

    /// Everything that is on its way to watchers arrives; they have seen all that happened.
    pub(super) fn settle_watchers(&mut self) -> Result<(), String> {
        let up = (0..self.nodes.len()).filter(|at| self.nodes[*at].live.is_some()).collect::<Vec<_>>();
        for number in 0..self.watchers.streams.len() {
            let first = self.watchers.connected[number].unwrap_or(up[number % up.len().max(1)]);
            let mut at = first;
            let mut others = up.iter().filter(|at| **at != first);
            // Whoever finds that the disk of his member lies goes on at another one.
            while !self.settle_stream(number, at)? {
                self.stats.damage_found += 1;
                self.watchers.streams[number].disconnect();
                at = *others.next().ok_or("no member is left to watch at")?;
            }
        }
        Ok(())
    }

    /// The same for one watcher at one member; false if that has noticed damage on its disk.
    fn settle_stream(&mut self, number: usize, at: usize) -> Result<bool, String> {
        let Watchers { truth, streams, report, .. } = &mut self.watchers;
        let Some(live) = &self.nodes[at].live else { return Ok(true) };
        let store = live.applier.store();
        let stream = &mut streams[number];
        stream.connect(store, report);
        for _ in 0..100 {
            loop {
                match store.hub().step(100) {
                    Ok(ketch_mvcc::Progress::More) => {}
                    Ok(_) => break,
                    Err(_) if self.nodes[at].rotten => return Ok(false),
                    Err(fault) => return Err(fault.to_string()),
                }
            }
            stream.read(truth, store, &mut self.random, report)?;
        }
        stream.has_all(truth)?;
        Ok(true)
    }
}
