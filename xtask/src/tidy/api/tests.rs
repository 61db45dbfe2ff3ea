use super::*;

#[track_caller]
fn check(sources: &[(&str, &str)], expect: &str) {
    let files = sources
        .iter()
        .map(|(path, text)| SourceFile::new(path, text));
    let files: Vec<SourceFile> = files.collect();
    assert_eq!(snapshot(&files, "protocol").unwrap(), expect);
}

const MODULE: &str = "\
pub(crate) fn hidden() {}
pub fn shown<T: Clone>(mut first: T) -> Result<(), T> { todo!() }
#[non_exhaustive]
pub enum E { One, Two(u8), Three { name: String } }
pub trait T: Send { fn must(&self); fn may(&self) { todo!() } }
";

#[test]
fn public_items_are_shown_without_bodies_and_private_parts() {
    let root = "\
mod a;
#[cfg(feature = \"x\")]
pub mod b;
pub use a::{Kept, Open};
#[cfg(test)]
pub mod tests {}
";
    let a = "\
/// A doc comment.
#[derive(Clone, Debug)]
#[must_use]
pub struct Kept { pub size: usize, secret: u8, salt: u8 }
pub struct Open(pub u8, u16);
impl Kept {
    pub const NONE: u8 = 1 + 1;
    pub const fn new() -> Self { Self { size: 0, secret: 0, salt: 0 } }
    pub fn with(mut self) -> Self { self }
    pub fn set(&mut self) {}
    fn private(&self) {}
    #[doc(hidden)]
    pub fn for_tests(&self) {}
}
trait Private {}
impl Private for Kept {}
impl std::str::FromStr for Kept { type Err = (); fn from_str(text: &str) -> Result<Self, ()> { Err(()) } }
pub(crate) struct Unreachable;
impl Unreachable { pub fn new() -> Self { Self } }
";
    check(
        &[
            ("protocol/src/lib.rs", root),
            ("protocol/src/a.rs", a),
            ("protocol/src/b/mod.rs", MODULE),
        ],
        "\
// fanfare_protocol

pub use a::{Kept, Open};

#[derive(Clone, Debug)]
pub struct Kept {
    pub size: usize,
    _private: _,
}

impl Kept {
    pub const NONE: u8 = _;
    pub const fn new() -> Self {}
    pub fn with(self) -> Self {}
    pub fn set(&mut self) {}
}

impl std::str::FromStr for Kept {
    type Err = ();
}

pub struct Open(pub u8, _);

#[cfg(feature = \"x\")]
pub mod b;

// fanfare_protocol::b

#[non_exhaustive]
pub enum E {
    One,
    Two(u8),
    Three { name: String },
}

pub trait T: Send {
    fn must(&self);
    fn may(&self) {}
}

pub fn shown<T: Clone>(first: T) -> Result<(), T> {}

",
    );
}

#[test]
fn a_macro_that_makes_public_items_is_shown_with_its_invocations() {
    let root = "\
macro_rules! name { ($name:ident) => { /// A doc comment.
 pub struct $name(u8); }; }
name! { Channel }
macro_rules! quiet { () => { pub(crate) fn f() {} }; }
";
    check(
        &[("protocol/src/lib.rs", root)],
        "\
// fanfare_protocol

macro_rules! name {
    ($name:ident) => {
        pub struct $name (u8);
    };
}

name! {
    Channel
}

",
    );
}

#[test]
fn a_text_that_is_not_that_of_the_source_is_found() {
    let found = |source: &str, written: &str| {
        let files = [
            SourceFile::new("protocol/src/lib.rs", source),
            SourceFile::new("docs/api/protocol.txt", written),
        ];
        let rules = differences(&files)
            .into_iter()
            .map(|violation| violation.rule);
        rules.collect::<String>()
    };
    let written = "// fanfare_protocol\n\npub fn f() {}\n\n";
    assert_eq!(found("pub fn f() { g() }", written), "");
    assert!(found("pub fn f(x: u8) {}", written).contains("`pub fn f(x: u8) {}`"));
    assert!(found("fn f() {}", written).contains("cargo xtask api"));
    assert!(found("pub fn f() {}", "").contains("cargo xtask api"));
}
