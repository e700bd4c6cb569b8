//! Places that are used again, each tenant with a generation of its own.
//!
//! A stale id finds nothing, so a reply or an event that comes late never reaches a newer tenant.

/// A slab of `T`.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    tenant: Option<T>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many tenants there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes a tenant in; gives its place and generation.
    pub(super) fn insert(&mut self, tenant: T) -> (u32, u32) {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.tenant = Some(tenant);
            return (index, place.generation);
        }
        let index = u32::try_from(self.places.len()).expect("limits keep tenants below 4 billion");
        self.places.push(Place {
            generation: 0,
            tenant: Some(tenant),
        });
        (index, 0)
    }

    /// Takes a tenant out. Its id finds nothing from now on.
    pub(super) fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        let place = self.places.get_mut(index as usize)?;
        if place.generation != generation {
            return None;
        }
        let tenant = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        Some(tenant)
    }

    pub(super) fn find(&self, index: u32, generation: u32) -> Option<&T> {
        let place = self.places.get(index as usize)?;
        if place.generation == generation {
            place.tenant.as_ref()
        } else {
            None
        }
    }

    pub(super) fn find_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let place = self.places.get_mut(index as usize)?;
        if place.generation == generation {
            place.tenant.as_mut()
        } else {
            None
        }
    }

    /// All tenants with place and generation, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            place
                .tenant
                .as_ref()
                .map(|tenant| (index as u32, place.generation, tenant))
        })
    }

    /// All tenants with place and generation, by place.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, u32, &mut T)> {
        self.places
            .iter_mut()
            .enumerate()
            .filter_map(|(index, place)| {
                let generation = place.generation;
                place
                    .tenant
                    .as_mut()
                    .map(|tenant| (index as u32, generation, tenant))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::Slab;

    #[test]
    fn a_stale_id_never_finds_the_next_tenant() {
        let mut slab = Slab::new();
        let (index, generation) = slab.insert('a');
        assert_eq!(slab.remove(index, generation), Some('a'));
        let (again, newer) = slab.insert('b');
        assert_eq!(again, index);
        assert_ne!(newer, generation);
        assert_eq!(slab.find(index, generation), None);
        assert_eq!(slab.remove(index, generation), None);
        assert_eq!(slab.find_mut(again, newer), Some(&mut 'b'));
        assert_eq!(slab.len(), 1);
    }
}
