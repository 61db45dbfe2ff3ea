//! What a message's tag is: the name of all messages of its epoch up to this one.
//!
//! Two masters may go on with one history, and both may be given some messages: the new master those that are repeated because
//! the old one did not answer. Were the tag a name of the message alone, both would have the same tag at the same offset with
//! other messages before it, and who stood there could not tell which of the two it came from. So a tag in Redis is a hash of
//! the tag before it and of the message's id, made where the message is appended (`redis/lua/append.lua`).
//!
//! In the memory of one process an epoch has one history. There a number drawn where the message is appended names what came
//! before it as well, and costs a third of a microsecond less.

use fanfare_protocol::Tag;

/// The tag of a message whose epoch has one history; never 0, which stands before the first message.
pub(super) fn random_tag() -> Tag {
    Tag(fastrand::u64(1..))
}

/// An id for a message: drawn once, however often publishing it is tried.
#[cfg(feature = "redis")]
pub(super) fn random_id() -> u64 {
    fastrand::u64(..)
}

/// The rule of `redis/lua/append.lua`: the first 16 digits of the SHA-1 of the tag before and the id, in hexadecimal and with a
/// space in between; never 0.
#[cfg(all(test, feature = "redis"))]
pub(super) fn tag_after(previous: Tag, id: u64) -> Tag {
    use sha1::{Digest, Sha1};

    let digest = Sha1::digest(format!("{previous} {id:x}"));
    let first = digest.first_chunk().copied().unwrap_or_default();
    Tag(u64::from_be_bytes(first).max(1))
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_what_came_before() {
        let run = |ids: &[u64]| ids.iter().fold(Tag(0), |tag, id| tag_after(tag, *id));
        assert_eq!(run(&[7]).to_string(), "73e4cb47c2556322");
        assert_ne!(run(&[1, 2, 3]), run(&[2, 1, 3]));
        assert_ne!(run(&[1, 2, 3]), run(&[2, 3]));
        assert_eq!(run(&[1, 2, 3]), tag_after(run(&[1, 2]), 3));
    }
}
