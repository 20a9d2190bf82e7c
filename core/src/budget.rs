//! Memory that is asked for before it is allocated.
//!
//! What grows with what a peer does (windows, buffers, queues) takes its bytes from a [`Budget`] first, and gives them
//! back when the [`Reserved`] bytes are dropped. Who keeps the account, and by what limits, the budget does not say:
//! the node's ledger does, for the connection's peer, its address and the whole node at once.
//!
//! ```
//! use peerage_core::budget::Budget;
//!
//! let budget = Budget::limited(1024);
//! let mut buffer = budget.reserve(1000)?;
//! assert!(buffer.grow(25).is_err());
//! buffer.shrink(500);
//! assert!(buffer.grow(25).is_ok());
//! assert_eq!(buffer.bytes(), 525);
//! # Ok::<(), peerage_core::budget::Exhausted>(())
//! ```

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Keeps the account of a [`Budget`].
pub trait Account: Send + Sync {
    /// Takes `bytes`, or nothing.
    ///
    /// # Errors
    /// [`Exhausted`], naming the limit that stands in the way.
    fn take(&self, bytes: usize) -> Result<(), Exhausted>;

    /// Gives back what was taken before.
    fn give_back(&self, bytes: usize);
}

/// A refusal: the memory is not there. Asking again may succeed once something was given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes of memory refused: {why}")]
#[non_exhaustive]
pub struct Exhausted {
    /// The bytes that were asked for.
    pub wanted: usize,
    /// Which limit of whom.
    pub why: String,
}

impl Exhausted {
    /// A refusal of `wanted` bytes by the limit that `why` names.
    pub fn new(wanted: usize, why: impl Into<String>) -> Self {
        Self { wanted, why: why.into() }
    }
}

/// Where memory is asked for. Cheap to clone; clones share one account.
#[derive(Clone)]
pub struct Budget(Arc<dyn Account>);

impl Budget {
    /// A budget with this account.
    pub fn new(account: impl Account + 'static) -> Self {
        Self(Arc::new(account))
    }

    /// A budget that refuses nothing: for tests, and where somebody else keeps the account.
    pub fn unlimited() -> Self {
        Self::limited(usize::MAX)
    }

    /// A budget of so many bytes by itself.
    pub fn limited(bytes: usize) -> Self {
        Self::new(Simple { max: bytes, used: AtomicUsize::new(0) })
    }

    /// Takes `bytes` until what is returned is dropped.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing was taken.
    pub fn reserve(&self, bytes: usize) -> Result<Reserved, Exhausted> {
        let mut reserved = self.nothing();
        reserved.grow(bytes)?;
        Ok(reserved)
    }

    /// Nothing yet, to [grow](Reserved::grow) later.
    pub fn nothing(&self) -> Reserved {
        Reserved { budget: self.clone(), bytes: 0 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::unlimited()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Budget")
    }
}

/// Bytes that were taken from a budget, and that go back when this is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Budget,
    bytes: usize,
}

impl Reserved {
    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more`.
    ///
    /// # Errors
    /// [`Exhausted`]; what there was before stays.
    pub fn grow(&mut self, more: usize) -> Result<(), Exhausted> {
        let Some(sum) = self.bytes.checked_add(more) else {
            return Err(Exhausted::new(more, "more than there are numbers"));
        };
        if more > 0 {
            self.budget.0.take(more)?;
        }
        self.bytes = sum;
        Ok(())
    }

    /// Gives `less` back, at most all there is.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        if less > 0 {
            self.bytes = self.bytes.saturating_sub(less);
            self.budget.0.give_back(less);
        }
    }

    /// Grows or shrinks to `bytes`.
    ///
    /// # Errors
    /// [`Exhausted`] if it would have to grow and cannot; what there was before stays.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes.saturating_sub(bytes));
                Ok(())
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

struct Simple {
    max: usize,
    used: AtomicUsize,
}

impl Account for Simple {
    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(()),
            Err(_) => Err(Exhausted::new(bytes, format!("limit of {} bytes reached", self.max))),
        }
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_is_given_and_one_more_is_not() {
        let budget = Budget::limited(10);
        let mut ten = budget.reserve(10).unwrap();
        let error = budget.reserve(1).unwrap_err();
        assert_eq!(error.to_string(), "1 bytes of memory refused: limit of 10 bytes reached");
        ten.shrink(1);
        drop(budget.reserve(1).unwrap());
        assert!(ten.grow(2).is_err());
        assert_eq!(ten.bytes(), 9);
        drop(ten);
        assert!(budget.reserve(10).is_ok());
    }

    #[test]
    fn sizes_at_the_end_of_the_numbers_are_refused() {
        let budget = Budget::unlimited();
        let mut all = budget.reserve(usize::MAX).unwrap();
        assert!(all.grow(1).is_err() && budget.reserve(1).is_err());
        all.resize(0).unwrap();
        all.shrink(usize::MAX);
        assert!(budget.reserve(1).is_ok());
    }
}
