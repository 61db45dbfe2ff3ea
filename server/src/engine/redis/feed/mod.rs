//! Everything between Redis pub/sub and the hub of one node.

pub(crate) mod catch_up;
pub(crate) mod interest;
pub(crate) mod probe;
pub(crate) mod pubsub;
pub(crate) mod reader;
pub(crate) mod reads;
pub(crate) mod recent;
pub(crate) mod track;
pub(crate) mod tracks;
