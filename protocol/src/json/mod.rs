//! The native dialect as text: one writer, one reader.
//!
//! The writer ([`encode_message`], [`encode_request`]) needs no JSON library. The reader is generic over who parsed the text:
//! [`read_message`] takes anything that implements [`Object`], so that a browser reads what `JSON.parse` gave it and a native
//! program reads text (`decode_messages`, feature `json`) through one and the same mapping of fields to types.
//!
//! No limit is applied here: a transport refuses a frame that is too long before it gets this far.

mod error;
mod field;
mod message;
#[cfg(feature = "json")]
mod request;
#[cfg(feature = "json")]
mod text;
mod value;
mod write;
mod writer;

pub use error::{DecodeError, DecodeProblem, Place};
pub use field::Field;
pub(crate) use message::StandIn;
pub use message::{read_message, read_messages};
#[cfg(feature = "json")]
pub use text::{decode_messages, decode_request};
pub use value::{Object, Value};
pub use write::{
    encode_batch, encode_event, encode_list, encode_message, encode_message_into, encode_request,
};

#[cfg(feature = "json")]
pub(crate) use request::read_subscribe;
#[cfg(feature = "json")]
pub(crate) use text::{payload, root};
#[cfg(feature = "json")]
pub(crate) use value::{Reader, name, number};

pub(crate) use writer::Writer;
