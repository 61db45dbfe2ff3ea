//! The numbers that cross the border, by name: `table.rs`, which TypeScript has as `npm/src/table.ts`.

/// Makes an enum of each list of names: one that is `taken` is made of a number, one that is `put` becomes one.
macro_rules! border {
    ($(
        $(#[doc = $about:literal])*
        $direction:ident enum $enum:ident {
            $($(#[doc = $doc:literal])* $name:ident $(= $words:tt)?,)*
        }
    )*) => {
        $(
            $(#[doc = $about])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[repr(u32)]
            pub(super) enum $enum {
                $($(#[doc = $doc])* $name,)*
            }

            border! { $direction $enum { $($name)* } }
        )*
    };
    (taken $enum:ident { $($name:ident)* }) => {
        impl $enum {
            /// What a number stands for, where it stands for something.
            pub(super) const fn of(number: u32) -> Option<Self> {
                $(
                    if number == Self::$name as u32 {
                        return Some(Self::$name);
                    }
                )*
                None
            }
        }
    };
    (put $enum:ident { $($name:ident)* }) => {
        impl $enum {
            pub(super) fn put(self) {
                super::numbers::put_number(self as u32);
            }
        }
    };
}

include!("table.rs");
