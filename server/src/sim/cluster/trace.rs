//! What happened, as a digest always and in words if asked for.

use std::fmt::Write;

/// Every event of a run, folded; and its words.
#[derive(Debug, Default)]
pub(super) struct Trace {
    digest: u64,
    text: Option<String>,
}

impl Trace {
    /// A trace, in words too if `words`.
    #[must_use]
    pub(super) fn new(words: bool) -> Trace {
        Trace { digest: 0, text: words.then(String::new) }
    }

    /// Folds a number in.
    pub(super) fn mix(&mut self, number: u64) {
        let mixed = (self.digest ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.digest = mixed ^ (mixed >> 29);
    }

    /// Notes something that happened at `now` (microseconds); it is put into words only if somebody wants them.
    pub(super) fn note(&mut self, now: u64, number: u64, words: impl FnOnce() -> String) {
        self.mix(now);
        self.mix(number);
        if let Some(text) = &mut self.text {
            // A String grows: writing to it cannot fail.
            let _infallible = writeln!(text, "{:>4}.{:06} {}", now / 1_000_000, now % 1_000_000, words());
        }
    }

    /// Stands for everything so far.
    #[must_use]
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// The words.
    #[must_use]
    pub(super) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
