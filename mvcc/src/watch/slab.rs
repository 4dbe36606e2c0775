//! Watchers, and streams, by number: one block of memory, so that a hundred thousand idle ones cost little more than themselves.

/// Numbers are used again after a removal.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts one in and says its number.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(item);
                number
            }
            None => {
                self.slots.push(Some(item));
                (self.slots.len() - 1) as u32
            }
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if self.take(number).is_some() {
            self.release(number);
        }
    }

    /// Takes one out whose number may still be in use somewhere: it is not given to another before it has been released.
    pub(crate) fn take(&mut self, number: u32) -> Option<T> {
        self.slots.get_mut(number as usize)?.take()
    }

    /// The number of one that was taken out may be given to another.
    pub(crate) fn release(&mut self, number: u32) {
        self.free.push(number);
        if self.free.len() == self.slots.len() {
            *self = Slab::default(); // the last one gives the block back
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number as u32, slot.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_the_last_one_empties_it() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..3).map(|id| slab.insert(id)).collect();
        slab.remove(numbers[1]);
        slab.remove(numbers[1]);
        assert_eq!((slab.len(), slab.get(numbers[1]).is_none()), (2, true));
        assert_eq!(slab.insert(9), numbers[1]);
        assert_eq!(slab.iter().map(|(_, &item)| item).collect::<Vec<_>>(), [0, 9, 2]);
        numbers.iter().for_each(|&number| slab.remove(number));
        assert_eq!((slab.len(), slab.slots.capacity()), (0, 0));
    }

    #[test]
    fn a_number_is_not_used_again_before_it_is_released() {
        let mut slab = Slab::default();
        let (first, _) = (slab.insert('a'), slab.insert('b'));
        assert_eq!((slab.take(first), slab.take(first), slab.get(first)), (Some('a'), None, None));
        assert_ne!(slab.insert('c'), first);
        slab.release(first);
        assert_eq!(slab.insert('d'), first);
    }
}
