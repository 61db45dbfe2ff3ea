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
            push_hexadecimal(self.key(field), number.into(), 1);
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

/// An array of plain values under construction: how a host that only reads JSON is told something.
///
/// ```
/// let mut text = String::new();
/// let mut list = fanfare_protocol::json::List::open(&mut text);
/// list.text("orders");
/// list.number(12);
/// list.flag(true);
/// list.optional_text(None);
/// list.close();
/// assert_eq!(text, r#"["orders",12,true,null]"#);
/// ```
#[derive(Debug)]
pub struct List<'a>(&'a mut String);

impl<'a> List<'a> {
    /// Starts an array behind what is there already.
    pub fn open(out: &'a mut String) -> Self {
        out.push('[');
        Self(out)
    }

    /// Ends it.
    pub fn close(&mut self) {
        self.0.push(']');
    }

    /// Appends a string.
    pub fn text(&mut self, text: &str) {
        push_string(self.next(), text);
    }

    /// Appends a string, or `null`.
    pub fn optional_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// Appends a number.
    pub fn number(&mut self, number: u64) {
        push_number(self.next(), number);
    }

    /// Appends a number, or `null`.
    pub fn optional_number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.number(number),
            None => self.null(),
        }
    }

    /// Appends `true` or `false`.
    pub fn flag(&mut self, flag: bool) {
        self.next().push_str(if flag { "true" } else { "false" });
    }

    /// Appends `null`.
    pub fn null(&mut self) {
        self.next().push_str("null");
    }

    /// Appends a number as a string of at least so many hexadecimal digits.
    pub fn hexadecimal(&mut self, number: u128, digits: u32) {
        push_hexadecimal(self.next(), number, digits);
    }

    fn next(&mut self) -> &mut String {
        if !self.0.ends_with('[') {
            self.0.push(',');
        }
        self.0
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

fn push_hexadecimal(out: &mut String, number: u128, digits: u32) {
    let count = (128 - number.leading_zeros()).div_ceil(4).max(digits);
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
///
/// `get` in place of an index: the panic of the latter would bring the formatting of text, and its tables, into the browser.
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
