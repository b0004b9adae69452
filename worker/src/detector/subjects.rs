//! The subjects that are tracked, in the order in which they were last seen.
//!
//! One look-up for each record, without an allocation when the subject is known. The order is a list through the
//! slots, so that the longest idle one is found at once, to be swept when its windows are over or to make room.

use std::collections::HashMap;
use std::sync::Arc;

/// A map that knows which entry was used the longest ago.
#[derive(Debug)]
pub(crate) struct Subjects<T> {
    places: HashMap<Arc<str>, usize>,
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    /// Both ends of the list; there when it is not empty.
    ends: Option<Ends>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    newest: usize,
    oldest: usize,
}

#[derive(Debug)]
struct Slot<T> {
    key: Arc<str>,
    newer: Option<usize>,
    older: Option<usize>,
    /// Absent in a free slot.
    value: Option<T>,
}

impl<T> Default for Subjects<T> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ends: None,
        }
    }
}

impl<T> Subjects<T> {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The entry of `key`, now the newest; `None` where it is unknown.
    pub(crate) fn touch(&mut self, key: &str) -> Option<&mut T> {
        let place = *self.places.get(key)?;
        self.unlink(place);
        self.link(place);
        self.slots.get_mut(place)?.value.as_mut()
    }

    /// Adds an entry that is not there yet, the newest.
    pub(crate) fn insert(&mut self, key: &str, value: T) {
        debug_assert!(!self.places.contains_key(key), "inserted twice");
        let key: Arc<str> = key.into();
        let slot = Slot {
            key: Arc::clone(&key),
            newer: None,
            older: None,
            value: Some(value),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.places.insert(key, place);
        self.link(place);
    }

    pub(crate) fn oldest(&self) -> Option<&T> {
        self.slots.get(self.ends?.oldest)?.value.as_ref()
    }

    /// The oldest becomes the newest.
    pub(crate) fn pass_over_oldest(&mut self) {
        if let Some(ends) = self.ends {
            self.unlink(ends.oldest);
            self.link(ends.oldest);
        }
    }

    pub(crate) fn remove_oldest(&mut self) -> Option<T> {
        let place = self.ends?.oldest;
        self.unlink(place);
        let slot = self.slots.get_mut(place)?;
        self.places.remove(&slot.key);
        self.free.push(place);
        slot.value.take()
    }

    fn link(&mut self, place: usize) {
        let former = self.ends.map(|ends| ends.newest);
        self.slots[place].older = former;
        self.slots[place].newer = None;
        if let Some(former) = former {
            self.slots[former].newer = Some(place);
        }
        let oldest = self.ends.map_or(place, |ends| ends.oldest);
        self.ends = Some(Ends { newest: place, oldest });
    }

    fn unlink(&mut self, place: usize) {
        let (newer, older) = (self.slots[place].newer, self.slots[place].older);
        if let Some(newer) = newer {
            self.slots[newer].older = older;
        }
        if let Some(older) = older {
            self.slots[older].newer = newer;
        }
        self.ends = self.ends.and_then(|ends| {
            let newest = if ends.newest == place { older? } else { ends.newest };
            let oldest = if ends.oldest == place { newer? } else { ends.oldest };
            Some(Ends { newest, oldest })
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Subjects;

    proptest! {
        #[test]
        fn the_longest_untouched_is_always_the_oldest(steps in proptest::collection::vec((0_u8..4, 0_u8..8), 0..200)) {
            let mut subjects = Subjects::default();
            let mut model: Vec<u8> = Vec::new();
            for (step, key) in steps {
                let text = key.to_string();
                if step == 0 {
                    let oldest = (!model.is_empty()).then(|| model.remove(0));
                    prop_assert_eq!(subjects.remove_oldest(), oldest);
                    continue;
                }
                if step == 1 {
                    subjects.pass_over_oldest();
                    let turned = usize::from(!model.is_empty());
                    model.rotate_left(turned);
                    continue;
                }
                match subjects.touch(&text) {
                    Some(value) => prop_assert_eq!(*value, key),
                    None => subjects.insert(&text, key),
                }
                model.retain(|other| *other != key);
                model.push(key);
                prop_assert_eq!(subjects.oldest(), model.first());
                prop_assert_eq!(subjects.len(), model.len());
            }
        }
    }
}
