//! What a command prints, with log levels and indentation, and the tracer that turns events into log lines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ketch_raft::{Event, Message, NodeId, Term, Tracer};

use crate::lines::line;

const LEVELS: [&str; 6] = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"];

/// Shared by the environment and the tracers of all nodes.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    level: usize,
    text: String,
    /// Messages each node said since its last Ready, in order.
    sent: HashMap<NodeId, Vec<Message>>,
}

impl Output {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic while locked")
    }

    pub(crate) fn level(&self) -> usize {
        self.inner().level
    }

    pub(crate) fn set_level(&self, level: usize) {
        self.inner().level = level;
    }

    pub(crate) fn level_named(name: &str) -> Result<usize, String> {
        let at = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
        at.ok_or_else(|| format!("log levels must be either of [{}]", LEVELS.join(" ")))
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.level() == LEVELS.len() - 1
    }

    pub(crate) fn write(&self, text: &str) {
        if !self.is_quiet() {
            self.inner().text.push_str(text);
        }
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.inner().text)
    }

    /// Whatever is written meanwhile is indented by two.
    pub(crate) fn indented<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = self.take();
        let outcome = act();
        let mut inner = self.inner();
        let indented: String = inner.text.lines().map(|line| format!("  {line}\n")).collect();
        inner.text = before + &indented;
        outcome
    }

    pub(crate) fn take_sent(&self, id: NodeId) -> Vec<Message> {
        self.inner().sent.remove(&id).unwrap_or_default()
    }
}

impl Tracer for Output {
    fn event(&mut self, id: NodeId, term: Term, event: &Event) {
        if let Event::Sent { message } = event {
            self.inner().sent.entry(id).or_default().push(message.clone());
        }
        if let Some((level, text)) = line(id, term, event)
            && self.level() <= level
        {
            self.write(&format!("{} {text}\n", LEVELS[level]));
        }
    }
}
