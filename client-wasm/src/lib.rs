//! The Fanfare client in a browser: the machine of `fanfare-client` with a WebSocket, one timer and the page around it.
//!
//! Two faces, one for each kind of page:
//!
//! - feature `module` (on by default): `Machine`, the class that the npm package `@fanfare/client` drives. TypeScript is its
//!   host: it owns frames, names and text, the socket, the timer, the page's events and the questions about tokens. With
//!   `standalone` in place of `module` the crate is that class and nothing else, without the standard library.
//! - feature `frontend`: a client for pages that are themselves written in Rust (Leptos, Yew, Dioxus). Such a page takes this
//!   crate with `default-features = false, features = ["frontend"]`.
//!
//! Modules in reading order: `machine` for the one; for the other `drain` (the loop around the machine), `host` (who is told),
//! `websocket`, `timer`, `lifecycle`, `auth` and `endpoint` (what the machine asks for), `read` (what it is told), `frontend` (the API).
//!
//! **No JavaScript runs while the machine is borrowed**: whatever a callback calls, it may call.

#![cfg_attr(feature = "standalone", no_std)]

extern crate alloc;

#[cfg(feature = "frontend")]
mod auth;
#[cfg(feature = "frontend")]
mod bridge;
#[cfg(feature = "frontend")]
mod clock;
#[cfg(feature = "frontend")]
mod drain;
#[cfg(feature = "frontend")]
mod endpoint;
#[cfg(feature = "frontend")]
pub mod frontend;
#[cfg(feature = "frontend")]
mod host;
#[cfg(feature = "frontend")]
mod lifecycle;
#[cfg(feature = "module")]
mod machine;
#[cfg(feature = "frontend")]
mod names;
#[cfg(feature = "frontend")]
mod read;
#[cfg(feature = "frontend")]
mod text;
#[cfg(feature = "frontend")]
mod timer;
#[cfg(feature = "frontend")]
mod websocket;

#[cfg(feature = "module")]
pub use machine::Machine;

#[cfg(all(
    feature = "standalone",
    target_family = "wasm",
    not(target_feature = "atomics")
))]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Traps without a message: formatting one would be most of the module, and no one would read it. The instance ends here, and the
/// package starts another one.
#[cfg(all(feature = "standalone", target_family = "wasm"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
