//! Moments between two parts of a long read at which whoever asked for it may let others run.

/// What is called at such moments, if anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest(Option<fn()>);

impl Rest {
    /// So many things are done between two calls: a few microseconds' work.
    const EVERY: u32 = 64;

    pub(crate) fn new(rest: fn()) -> Rest {
        Rest(Some(rest))
    }

    /// Such a moment.
    #[inline]
    pub(crate) fn now(self) {
        if let Some(rest) = self.0 {
            rest();
        }
    }

    /// Calls for one now and then, if it is told of each thing done.
    #[inline]
    pub(crate) fn at_times(self) -> impl FnMut() {
        let mut done = 0;
        move || {
            done += 1;
            if done == Self::EVERY {
                done = 0;
                self.now();
            }
        }
    }

    /// The same items, with rests among them.
    pub(crate) fn among<I: IntoIterator>(self, items: I) -> impl Iterator<Item = I::Item> {
        let mut done = self.at_times();
        items.into_iter().inspect(move |_| done())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn rests_come_now_and_then() {
        thread_local! { static RESTS: Cell<usize> = const { Cell::new(0) }; }
        let rest = Rest::new(|| RESTS.set(RESTS.get() + 1));
        assert_eq!(rest.among(0..1000).sum::<usize>(), 1000 * 999 / 2);
        assert_eq!(RESTS.get(), 1000 / 64);
        assert_eq!(Rest::default().among(0..1000).count(), 1000);
        assert_eq!(RESTS.get(), 1000 / 64);
    }
}
