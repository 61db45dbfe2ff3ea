//! Starts the page of `index.html`.
//!
//! ```text
//! cargo build -p wasm-orders --release --target wasm32-unknown-unknown
//! wasm-bindgen target/wasm32-unknown-unknown/release/wasm-orders.wasm --target web --out-dir examples/wasm-orders/pkg
//! ```
//!
//! and any web server in `examples/wasm-orders`. The address of the Fanfare server stands in the page.

use fanfare_client_wasm::frontend::FanfareClient;
use wasm_orders::OrdersPage;

fn main() {
    let Some(document) = web_sys::window().and_then(|window| window.document()) else {
        return;
    };
    let element = |id: &str| document.get_element_by_id(id);
    let (Some(list), Some(status)) = (element("orders"), element("status")) else {
        return;
    };
    let Some(url) = status.get_attribute("data-url") else {
        return;
    };
    let client = FanfareClient::builder(&url).build();
    match OrdersPage::open(&client, "orders", &list, &status) {
        // The page lives as long as its window.
        Ok(page) => std::mem::forget(page),
        Err(error) => status.set_text_content(Some(&error.to_string())),
    }
    client.connect();
}
