//! Text that is made without the machinery of formatting, which would be a tenth of the browser's client.

use fanfare_protocol::SocketId;

pub(crate) fn socket_text(id: SocketId) -> String {
    hexadecimal(id.bits(), 32)
}

/// What `format!("{number:0width$x}")` gives.
pub(crate) fn hexadecimal(number: u128, width: u32) -> String {
    let digits = (128 - number.leading_zeros()).div_ceil(4).max(width);
    let digit = |place: u32| char::from_digit((number >> (4 * place)) as u32 & 15, 16);
    (0..digits).rev().filter_map(digit).collect()
}
