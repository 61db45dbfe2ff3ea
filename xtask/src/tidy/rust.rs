//! What the rules ask of a Rust file: which paths it names, and what of it is there for tests alone.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, UseTree};

/// A path that code names, such as `crate::hub::Hub`, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// What a Rust file says outside of its tests.
#[derive(Debug, Default)]
pub(super) struct Rust {
    /// Every path of more than one segment, and every import, taken apart.
    pub(super) paths: Vec<NamedPath>,
    /// The modules in other files that are compiled for tests alone.
    pub(super) test_modules: Vec<String>,
    /// The lines of items that are compiled for tests alone.
    pub(super) test_lines: BTreeSet<usize>,
}

impl Rust {
    /// Reads a file.
    ///
    /// # Errors
    /// When the text is not Rust.
    pub(super) fn read(text: &str) -> syn::Result<Self> {
        let mut rust = Self::default();
        rust.visit_file(&syn::parse_file(text)?);
        Ok(rust)
    }

    /// Whether a part is compiled for tests alone; then its lines are noted.
    fn skips(&mut self, attributes: &[Attribute], span: Span) -> bool {
        let is_test = attributes.iter().any(is_for_tests);
        if is_test {
            self.test_lines.extend(span.start().line..=span.end().line);
        }
        is_test
    }

    fn name(&mut self, segments: Vec<String>, line: usize) {
        self.paths.push(NamedPath { segments, line });
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        match tree {
            UseTree::Path(path) => {
                segments.push(path.ident.to_string());
                self.import(&path.tree, &segments);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, prefix);
                }
            }
            UseTree::Name(name) if name.ident != "self" => {
                segments.push(name.ident.to_string());
                self.name(segments, tree.span().start().line);
            }
            UseTree::Rename(rename) if rename.ident != "self" => {
                segments.push(rename.ident.to_string());
                self.name(segments, tree.span().start().line);
            }
            _ => self.name(segments, tree.span().start().line),
        }
    }

    /// Reads the paths in what a macro or an attribute is given, which may not be Rust.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut segments = Vec::new();
        let (mut colons, mut line) = (0, 0);
        for token in tokens {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.finish(&mut segments, line);
                    }
                    if segments.is_empty() {
                        line = word.span().start().line;
                    }
                    segments.push(word.to_string());
                    colons = 0;
                }
                _ => {
                    self.finish(&mut segments, line);
                    colons = 0;
                }
            }
            if let TokenTree::Group(group) = token {
                self.tokens(group.stream());
            }
        }
        self.finish(&mut segments, line);
    }

    fn finish(&mut self, segments: &mut Vec<String>, line: usize) {
        let segments = std::mem::take(segments);
        if segments.len() > 1 {
            self.name(segments, line);
        }
    }
}

impl<'ast> Visit<'ast> for Rust {
    fn visit_item(&mut self, item: &'ast Item) {
        if !self.skips(attributes(item), item.span()) {
            visit::visit_item(self, item);
        } else if let Item::Mod(module) = item
            && module.content.is_none()
        {
            self.test_modules.push(module.ident.to_string());
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !self.skips(&function.attrs, function.span()) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if !self.skips(&function.attrs, function.span()) {
            visit::visit_trait_item_fn(self, function);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !self.skips(&field.attrs, field.span()) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, value: &'ast syn::FieldValue) {
        if !self.skips(&value.attrs, value.span()) {
            visit::visit_field_value(self, value);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !self.skips(&local.attrs, local.span()) {
            visit::visit_local(self, local);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        visit::visit_attribute(self, attribute);
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        self.import(&import.tree, &[]);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let mut segments = segments.map(|segment| segment.ident.to_string()).collect();
        self.finish(&mut segments, path.span().start().line);
        visit::visit_path(self, path);
    }
}

/// Returns the attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether the attribute is `#[cfg(test)]` or names `test` in another condition than `not(test)`.
pub(super) fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => names_test(list.tokens.clone()),
        _ => false,
    }
}

fn names_test(condition: TokenStream) -> bool {
    let mut is_negated = false;
    for token in condition {
        match token {
            TokenTree::Ident(word) if word == "test" => return true,
            TokenTree::Ident(word) => is_negated = word == "not",
            TokenTree::Group(group) if !is_negated && names_test(group.stream()) => return true,
            _ => is_negated = false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        let paths = Rust::read(code).unwrap().paths.into_iter();
        paths.map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let code =
            "/* a::b /* c::d */ */ // e::f\nconst G: &str = \"h::i\"; fn f() { r#\"j::k\"#; 'l'; }";
        assert!(names(code).is_empty());
    }

    #[test]
    fn test_items_are_left_out() {
        let code = "\
use a::b;
#[cfg(test)]
use c::{d};
#[cfg(test)]
mod model;
#[cfg(test)]
#[path = \"x\"]
mod tests { fn f() { e::f(); } }
#[cfg(not(test))]
fn h() { g::h(); }
#[cfg(any(test, feature = \"x\"))]
pub(crate) const I: [u8; 2] = { [1; 2] };
struct J {
    #[cfg(test)]
    k: l::m,
}
";
        let rust = Rust::read(code).unwrap();
        assert_eq!(names(code), ["a::b", "g::h"]);
        assert_eq!(rust.test_modules, ["model"]);
        let expect = [2..=8, 11..=12, 14..=15].into_iter().flatten();
        assert_eq!(rust.test_lines, expect.collect());
    }

    #[test]
    fn imports_are_taken_apart() {
        let code = "use crate::{hub::{self, Hub as H}, engine::*};\npub use std::time::Duration;\nuse tokio;\n";
        let expect = [
            "crate::hub",
            "crate::hub::Hub",
            "crate::engine",
            "std::time::Duration",
            "tokio",
        ];
        assert_eq!(names(code), expect);
    }

    #[test]
    fn paths_in_expressions_attributes_and_macros_are_seen() {
        assert_eq!(
            names("fn f(x: crate::hub::Hub) { tokio::spawn(x.y()); let z = Vec::<u8>::new(); }"),
            ["crate::hub::Hub", "tokio::spawn", "Vec::new"]
        );
        assert_eq!(
            names("#[derive(serde::Serialize)] struct A; a! { b => [c::d(e: f, ::g::h)] }"),
            ["serde::Serialize", "c::d", "g::h"]
        );
        assert_eq!(
            names("fn f() -> impl Fn() + use<> { move || x.y }"),
            [""; 0]
        );
    }

    #[test]
    fn a_path_knows_its_line() {
        let rust = Rust::read("\n\nuse a::{\n  b,\n  c::d,\n};").unwrap();
        assert_eq!(rust.paths[1].line, 5);
    }
}
