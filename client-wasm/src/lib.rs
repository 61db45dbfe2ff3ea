//! The Fanfare client in a browser: the machine of `fanfare-client` with a WebSocket, one timer and the page around it.
//!
//! Two faces, one for each kind of page:
//!
//! - feature `module` (on by default): `Machine`, the class that the npm package `@fanfare/client` wraps. Its counterpart is a
//!   `Host` object, see the TypeScript declarations of this module.
//! - feature `frontend`: a client for pages that are themselves written in Rust (Leptos, Yew, Dioxus). Such a page takes this
//!   crate with `default-features = false, features = ["frontend"]`.
//!
//! Modules in reading order: `drain` (the loop around the machine), `host` (who is told), `websocket`, `timer`, `lifecycle`,
//! `auth` (what the machine asks for), `read` (what it is told).
//!
//! **No JavaScript runs while the machine is borrowed**: whatever a callback calls, it may call.

mod auth;
mod bridge;
mod clock;
mod drain;
mod host;
mod lifecycle;
mod names;
mod read;
mod text;
mod timer;
mod websocket;

#[cfg(feature = "frontend")]
pub mod frontend;
#[cfg(feature = "module")]
mod machine;

#[cfg(feature = "module")]
pub use machine::{HistoryPosition, Machine, MachineHost, MachineOptions, SubscriptionOptions};

#[cfg(all(
    feature = "module",
    target_family = "wasm",
    not(target_feature = "atomics")
))]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();
