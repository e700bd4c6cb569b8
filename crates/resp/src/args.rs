//! Arguments of one command, wherever they lie: ranges in a read buffer, slices, owned vectors.

use crate::scan::ArgRange;

/// The arguments of one command; argument 0 is its name.
pub trait Args {
    /// How many arguments there are, the name included.
    fn count(&self) -> usize;
    /// Argument `index`. Callers stay below `count()`; an index past it gives an empty argument, never a panic.
    fn arg(&self, index: usize) -> &[u8];
}

/// A scanned frame and the ranges that `RequestScanner` found in it.
#[derive(Debug, Clone, Copy)]
pub struct FrameArgs<'a> {
    /// The frame, its first byte at index 0.
    pub frame: &'a [u8],
    /// One range per argument.
    pub ranges: &'a [ArgRange],
}

impl<'a> FrameArgs<'a> {
    /// Argument `index`, with the lifetime of the frame.
    #[must_use]
    pub fn slice(&self, index: usize) -> &'a [u8] {
        self.ranges
            .get(index)
            .map_or(&[], |range| range.of(self.frame))
    }
}

impl Args for FrameArgs<'_> {
    fn count(&self) -> usize {
        self.ranges.len()
    }

    #[inline]
    fn arg(&self, index: usize) -> &[u8] {
        self.slice(index)
    }
}

impl<T: AsRef<[u8]>> Args for [T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn arg(&self, index: usize) -> &[u8] {
        self.get(index).map(AsRef::as_ref).unwrap_or_default()
    }
}

impl<T: AsRef<[u8]>> Args for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn arg(&self, index: usize) -> &[u8] {
        self.as_slice().arg(index)
    }
}

impl<T: AsRef<[u8]>, const N: usize> Args for [T; N] {
    fn count(&self) -> usize {
        N
    }

    fn arg(&self, index: usize) -> &[u8] {
        self.as_slice().arg(index)
    }
}

impl<A: Args + ?Sized> Args for &A {
    fn count(&self) -> usize {
        (**self).count()
    }

    #[inline]
    fn arg(&self, index: usize) -> &[u8] {
        (**self).arg(index)
    }
}
