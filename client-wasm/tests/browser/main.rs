//! The binding in a real browser, against a real server where the other side matters and against sockets that go nowhere
//! where the timing does.

#![cfg(target_family = "wasm")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, though not marked with `#[test]`"
)]

mod auth;
mod channels;
mod connection;
mod machine;
mod page;
mod reentry;
mod sockets;
mod witness;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);
