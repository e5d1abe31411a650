//! How many runs there are. The pool counts instances, memories and tables, of which a run has one or many: this counts runs.

use std::sync::atomic::{AtomicU32, Ordering};

pub(super) struct Slots {
    taken: AtomicU32,
    max: u32,
}

/// A run that goes on; its slot is free again when this is dropped.
pub(super) struct Slot<'a>(&'a AtomicU32);

impl Slots {
    pub(super) fn new(max: u32) -> Self {
        Self { taken: AtomicU32::new(0), max }
    }

    pub(super) fn take(&self) -> Option<Slot<'_>> {
        let one_more = |taken: u32| if taken < self.max { taken.checked_add(1) } else { None };
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken.ok().map(|_| Slot(&self.taken))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn there_are_so_many_and_they_come_back() {
        let slots = Slots::new(2);
        let (one, two) = (slots.take(), slots.take());
        assert!(one.is_some() && two.is_some() && slots.take().is_none());
        drop(one);
        let three = slots.take();
        assert!(three.is_some() && slots.take().is_none());
        drop((two, three));
        assert!(slots.take().is_some());
    }
}
