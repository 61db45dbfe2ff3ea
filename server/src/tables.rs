//! Tables that give back the memory of what is gone.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

/// Gives back the memory of a table that has room for four times what is in it.
///
/// A peer may fill a table and leave; without this the table keeps the room of its fullest moment. Called after removals it
/// costs as much as these, as half of the room was emptied since it was last made smaller.
pub(crate) fn shrink_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if is_roomy(map.len(), map.capacity()) {
        map.shrink_to(map.len() * 2);
    }
}

/// The same for a set.
pub(crate) fn shrink_set<K: Eq + Hash, S: BuildHasher>(set: &mut HashSet<K, S>) {
    if is_roomy(set.len(), set.capacity()) {
        set.shrink_to(set.len() * 2);
    }
}

fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity > ROOM_MIN && capacity / 4 > len
}

/// 1,024 entries are not worth an allocation.
const ROOM_MIN: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_full_is_small_again() {
        let mut map: HashMap<u32, u64> = (0..100_000).map(|key| (key, 0)).collect();
        for key in 0..100_000 {
            map.remove(&key);
            shrink_map(&mut map);
            let room = map.len().max(ROOM_MIN) * 5;
            assert!(
                map.capacity() <= room,
                "{} for {}",
                map.capacity(),
                map.len()
            );
        }
    }
}
