//! Watchers by number: one block of memory, so that a hundred thousand idle ones cost little more than themselves.

use super::watcher::Watcher;

/// Numbers are used again after a removal.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    slots: Vec<Option<Watcher>>,
    free: Vec<u32>,
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a watcher in and says its number.
    pub(crate) fn insert(&mut self, watcher: Watcher) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(watcher);
                number
            }
            None => {
                self.slots.push(Some(watcher));
                (self.slots.len() - 1) as u32
            }
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Watcher> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Watcher> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if self.slots.get_mut(number as usize).and_then(Option::take).is_some() {
            self.free.push(number);
        }
        if self.free.len() == self.slots.len() {
            *self = Slab::default(); // the last one gives the block back
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Watcher)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number as u32, slot.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::KeyRange;
    use crate::watch::watcher::WatchRequest;

    #[test]
    fn numbers_are_used_again_and_the_last_one_empties_it() {
        let watcher = |id| Watcher::new(&WatchRequest::new(KeyRange::all()), 1, id, 1);
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..3).map(|id| slab.insert(watcher(id))).collect();
        slab.remove(numbers[1]);
        slab.remove(numbers[1]);
        assert_eq!((slab.len(), slab.get(numbers[1]).is_none()), (2, true));
        assert_eq!(slab.insert(watcher(9)), numbers[1]);
        assert_eq!(slab.iter().map(|(_, watcher)| watcher.id).collect::<Vec<_>>(), [0, 9, 2]);
        numbers.iter().for_each(|&number| slab.remove(number));
        assert_eq!((slab.len(), slab.slots.capacity()), (0, 0));
    }
}
