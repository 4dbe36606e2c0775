//! What every handle of a store holds: the way to its content, which another store's may replace, and the watchers, who stay.

use std::sync::{Arc, Mutex};

use crate::index::publish::Cell;
use crate::shared::{Shared, lock};
use crate::watch::hub::Hub;

/// See the file's comment.
#[derive(Debug)]
pub(crate) struct Front {
    content: Cell<Shared>,
    pub(crate) hub: Hub,
    /// Contents that were replaced: taken apart when nobody reads them any more.
    replaced: Mutex<Vec<Arc<Shared>>>,
}

impl Front {
    pub(crate) fn new(content: Arc<Shared>) -> Front {
        let hub = Hub::new(content.root.get().revision, &content.options);
        Front { content: Cell::new(content), hub, replaced: Mutex::default() }
    }

    /// The content in force. Neither waits for the writer nor makes it wait.
    pub(crate) fn content(&self) -> Arc<Shared> {
        self.content.get()
    }

    /// Puts another content in place; only for the writer.
    ///
    /// Duties of the old one end first: its folder may be removed as soon as this returns. Then readers and watchers see
    /// the new one, in one step for the latter, who are all late from now on.
    pub(crate) fn replace(&self, old: Arc<Shared>, new: &Arc<Shared>) {
        let postponed = lock(&old.background).retire();
        lock(&new.background).postponed_before(postponed);
        let root = new.root.get();
        self.hub.replace(root.revision, || drop(self.content.set(Arc::clone(new))));
        lock(&self.replaced).push(old);
    }

    /// Lets replaced contents go that nobody reads any more. Only for whoever does the background's duties: closing files takes
    /// its time.
    pub(crate) fn let_go(&self) {
        // The writer is not kept waiting for the list.
        let replaced = std::mem::take(&mut *lock(&self.replaced));
        let read = replaced.into_iter().filter_map(|content| Arc::try_unwrap(content).err());
        let read: Vec<_> = read.collect();
        lock(&self.replaced).extend(read);
    }

    /// Forgets copies of the content that a reader kept from being forgotten; only for the writer.
    pub(crate) fn tidy(&self) {
        if !lock(&self.replaced).is_empty() {
            self.content.tidy();
        }
    }
}
