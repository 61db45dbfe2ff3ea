//! Time as the host tells it.

use core::ops::{Add, Sub};

/// A point in time, in milliseconds since any moment that stays the same for the life of a [`Client`](crate::Client).
///
/// The machine reads no clock: the host passes the time with every input. It must never run backwards; a clock that also
/// counts while the device sleeps (`Date.now()`, `CLOCK_BOOTTIME`) finds a dead connection sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// How many milliseconds lie between `earlier` and `self`; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Millis {
    type Output = Self;
    fn add(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

impl Sub<u64> for Millis {
    type Output = Self;
    fn sub(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_sub(milliseconds))
    }
}
