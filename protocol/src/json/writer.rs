//! Appending JSON to a string: objects, arrays, strings, numbers.
//!
//! Numbers above 2^53 - 1, which JavaScript cannot count with, are written as 2^53 - 1.

use crate::json::field::Field;
use crate::position::{OFFSET_MAX, Position};
use crate::raw::RawJson;
use alloc::string::String;

/// An object under construction.
pub(crate) struct Writer<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn bare(out: &'a mut String) -> Self {
        out.push('{');
        Self {
            out,
            is_empty: true,
        }
    }

    pub(crate) fn open(out: &'a mut String, kind: &str) -> Self {
        let mut object = Self::bare(out);
        object.text(Field::Type, kind);
        object
    }

    pub(crate) fn close(self) {
        self.out.push('}');
    }

    /// Writes a field's name; its value goes into what this returns.
    pub(crate) fn key(&mut self, field: Field) -> &mut String {
        self.out.push_str(if self.is_empty { "\"" } else { ",\"" });
        self.is_empty = false;
        self.out.push_str(field.name());
        self.out.push_str("\":");
        self.out
    }

    pub(crate) fn text(&mut self, field: Field, text: &str) {
        push_string(self.key(field), text);
    }

    pub(crate) fn optional_text(&mut self, field: Field, text: Option<&impl AsRef<str>>) {
        if let Some(text) = text {
            self.text(field, text.as_ref());
        }
    }

    pub(crate) fn number(&mut self, field: Field, number: u64) {
        push_number(self.key(field), number);
    }

    pub(crate) fn raw(&mut self, field: Field, json: &RawJson) {
        self.key(field).push_str(json.as_str());
    }

    pub(crate) fn optional_number(&mut self, field: Field, number: Option<u64>) {
        if let Some(number) = number {
            self.number(field, number);
        }
    }

    pub(crate) fn flag(&mut self, field: Field, flag: bool) {
        self.key(field)
            .push_str(if flag { "true" } else { "false" });
    }

    pub(crate) fn optional_hexadecimal(&mut self, field: Field, number: Option<u64>) {
        if let Some(number) = number {
            push_hexadecimal(self.key(field), number);
        }
    }

    pub(crate) fn optional_position(&mut self, field: Field, position: Option<Position>) {
        if let Some(position) = position {
            let mut object = Writer::bare(self.key(field));
            object.optional_hexadecimal(Field::Epoch, Some(position.epoch.0));
            object.number(Field::Offset, position.offset);
            object.optional_hexadecimal(Field::Tag, Some(position.tag.0));
            object.close();
        }
    }
}

/// Writes an array.
pub(crate) fn write_list<T>(out: &mut String, items: &[T], write: impl Fn(&T, &mut String)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(']');
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn push_number(out: &mut String, number: u64) {
    let mut number = number.min(OFFSET_MAX);
    // 2^53 - 1 has 16 digits.
    let mut digits = [0; 16];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    push_ascii(out, &digits[at..]);
}

fn push_hexadecimal(out: &mut String, number: u64) {
    let count = (64 - number.leading_zeros()).div_ceil(4).max(1);
    out.push('"');
    for place in (0..count).rev() {
        out.push(char::from(DIGITS[(number >> (4 * place) & 15) as usize]));
    }
    out.push('"');
}

fn push_ascii(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        out.push(char::from(byte));
    }
}

/// Writes a string with the escapes that JSON asks for (RFC 8259, section 7) and no others.
fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            8 => "\\b",
            12 => "\\f",
            0..0x20 => "\\u00",
            _ => continue,
        };
        out.push_str(text.get(written..at).unwrap_or_default());
        out.push_str(escape);
        if escape.len() > 2 {
            push_ascii(
                out,
                &[
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ],
            );
        }
        written = at + 1;
    }
    out.push_str(text.get(written..).unwrap_or_default());
    out.push('"');
}
