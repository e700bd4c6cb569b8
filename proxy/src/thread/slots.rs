//! Finds a socket by the core's id: the same place as in the core's slab, and the same generation.

use std::rc::Rc;

use crate::worker::{LaneId, SessionId};

/// An id of the core.
pub(crate) trait Id: Copy {
    /// Place in the slab, and which tenant of it.
    fn place(self) -> (usize, u32);
}

impl Id for SessionId {
    fn place(self) -> (usize, u32) {
        (self.index as usize, self.generation)
    }
}

impl Id for LaneId {
    fn place(self) -> (usize, u32) {
        (self.index as usize, self.generation)
    }
}

/// One socket for each id that is alive.
pub(crate) struct Slots<T> {
    slots: Vec<Option<(u32, Rc<T>)>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { slots: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn put(&mut self, id: impl Id, tenant: Rc<T>) {
        let (index, generation) = id.place();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some((generation, tenant));
    }

    /// The socket of this id; `None` once it was taken out or its place has a newer tenant.
    pub(crate) fn find(&self, id: impl Id) -> Option<&Rc<T>> {
        let (index, generation) = id.place();
        match self.slots.get(index) {
            Some(Some((tenant, found))) if *tenant == generation => Some(found),
            _ => None,
        }
    }

    /// Takes the socket of this id out.
    pub(crate) fn take(&mut self, id: impl Id) -> Option<Rc<T>> {
        self.find(id)?;
        self.slots[id.place().0].take().map(|(_, found)| found)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_never_finds_a_newer_tenant() {
        let mut slots = Slots::default();
        let (old, new) = (
            SessionId {
                index: 3,
                generation: 1,
            },
            SessionId {
                index: 3,
                generation: 2,
            },
        );
        slots.put(old, Rc::new("old"));
        assert_eq!(slots.find(old).map(|it| **it), Some("old"));
        slots.put(new, Rc::new("new"));
        assert!(slots.find(old).is_none() && slots.take(old).is_none());
        assert_eq!(slots.take(new).map(|it| *it), Some("new"));
        assert_eq!(slots.len(), 0);
    }
}
