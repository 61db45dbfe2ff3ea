//! The public part of an item: its declaration without bodies, values, private fields and documentation.

use std::collections::BTreeSet;

use proc_macro2::{Group, TokenStream, TokenTree};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Block, Expr, Fields, Ident, ImplItem, Item, Meta, Path, Type, Visibility,
    parse_quote,
};

/// The names of a crate that decide whether an implementation is public.
#[derive(Default)]
pub(super) struct Names<'a> {
    types: BTreeSet<&'a Ident>,
    private_traits: BTreeSet<&'a Ident>,
}

impl<'a> Names<'a> {
    /// Collects the names from all items of a crate.
    pub(super) fn of(items: impl Iterator<Item = &'a Item>) -> Self {
        let mut names = Self::default();
        for item in items {
            let Some((vis, name)) = head(item) else {
                continue;
            };
            match item {
                Item::Trait(_) if !is_public(vis) => names.private_traits.insert(name),
                _ if is_public(vis) => names.types.insert(name),
                _ => continue,
            };
        }
        names
    }

    /// Returns the public part of an item, and the name below which it is sorted.
    pub(super) fn public(&self, item: &Item) -> Option<(String, Item)> {
        let name = match item {
            Item::Impl(block) => {
                let owner = named(&block.self_ty).filter(|name| self.types.contains(name))?;
                let implemented = block.trait_.as_ref().and_then(|(path, _)| last(path));
                if implemented.is_some_and(|name| self.private_traits.contains(name)) {
                    return None;
                }
                owner.to_string()
            }
            Item::Use(item) if is_public(&item.vis) => String::new(),
            // The items that a macro makes are unknown here, so the macro and its invocations are shown in full.
            Item::Macro(item) if item.ident.is_none() || has_public(&item.mac) => "~".to_owned(),
            item => {
                let (_, name) = head(item).filter(|(vis, _)| is_public(vis))?;
                name.to_string()
            }
        };
        let mut item = item.clone();
        Strip.visit_item_mut(&mut item);
        match &item {
            Item::Impl(block) if block.trait_.is_none() && block.items.is_empty() => None,
            _ => Some((name, item)),
        }
    }
}

/// Removes everything that is not part of the public API.
struct Strip;

impl VisitMut for Strip {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        let known = ["cfg", "deprecated", "derive", "non_exhaustive"];
        attributes.retain(|attribute| known.iter().any(|name| attribute.path().is_ident(name)));
    }

    // Callers do not see whether a parameter is mutable inside.
    fn visit_receiver_mut(&mut self, receiver: &mut syn::Receiver) {
        if matches!(receiver.kind, syn::ReceiverKind::Value) {
            receiver.mutability = None;
        }
    }

    fn visit_pat_ident_mut(&mut self, parameter: &mut syn::PatIdent) {
        parameter.mutability = None;
    }

    fn visit_block_mut(&mut self, block: &mut Block) {
        block.stmts.clear();
    }

    fn visit_expr_mut(&mut self, value: &mut Expr) {
        *value = parse_quote!(_);
    }

    fn visit_macro_mut(&mut self, body: &mut syn::Macro) {
        body.tokens = without_documentation(std::mem::take(&mut body.tokens));
    }

    fn visit_item_struct_mut(&mut self, item: &mut syn::ItemStruct) {
        for field in item
            .fields
            .iter_mut()
            .filter(|field| !is_public(&field.vis))
        {
            field.vis = Visibility::Inherited;
            field.ty = parse_quote!(_);
            field.ident = field.ident.as_ref().map(|_| parse_quote!(_private));
        }
        if let Fields::Named(fields) = &mut item.fields {
            let mut names = BTreeSet::new();
            let first = std::mem::take(&mut fields.named).into_iter();
            fields.named = first
                .filter(|field| names.insert(field.ident.clone()))
                .collect();
        }
        visit_mut::visit_item_struct_mut(self, item);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        let is_inherent = block.trait_.is_none();
        block.items.retain(|item| match item {
            ImplItem::Fn(item) => is_inherent && is_public(&item.vis) && !is_hidden(&item.attrs),
            ImplItem::Const(item) => is_inherent && is_public(&item.vis) && !is_hidden(&item.attrs),
            ImplItem::Type(_) => true,
            _ => false,
        });
        visit_mut::visit_item_impl_mut(self, block);
    }
}

/// Removes the comments that macros pass on as attributes.
fn without_documentation(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.stream().to_string().starts_with("doc =") => {
                kept.pop();
            }
            TokenTree::Group(group) => {
                let inside = without_documentation(group.stream());
                kept.push(Group::new(group.delimiter(), inside).into());
            }
            token => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

/// Returns the visibility and the name of an item that declares a name.
fn head(item: &Item) -> Option<(&Visibility, &Ident)> {
    Some(match item {
        Item::Const(item) => (&item.vis, &item.ident),
        Item::Enum(item) => (&item.vis, &item.ident),
        Item::Fn(item) => (&item.vis, &item.sig.ident),
        Item::Mod(item) => (&item.vis, &item.ident),
        Item::Static(item) => (&item.vis, &item.ident),
        Item::Struct(item) => (&item.vis, &item.ident),
        Item::Trait(item) => (&item.vis, &item.ident),
        Item::Type(item) => (&item.vis, &item.ident),
        Item::Union(item) => (&item.vis, &item.ident),
        _ => return None,
    })
}

fn has_public(body: &syn::Macro) -> bool {
    let code = body.tokens.to_string().replace("pub (", "");
    code.contains("pub ")
}

/// Whether an item is `pub` without a restriction.
pub(super) fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Whether an item has `#[doc(hidden)]`.
pub(super) fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    })
}

/// Returns the name of a type, also behind references.
fn named(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(ty) => last(&ty.path),
        Type::Reference(ty) => named(&ty.elem),
        _ => None,
    }
}

fn last(path: &Path) -> Option<&Ident> {
    path.segments.last().map(|segment| &segment.ident)
}
