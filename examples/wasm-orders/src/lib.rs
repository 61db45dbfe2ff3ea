//! A page in Rust that shows orders as they come in.
//!
//! No framework, so that what is Fanfare's is easy to see. In a component of Leptos, Yew or Dioxus the same [`OrdersPage`] would
//! be kept in its state: the subscription lives for as long as the component does.

use fanfare_client_wasm::frontend::{
    ConnectionState, Error, FanfareClient, Listener, Subscription,
};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;
use web_sys::Element;

/// The payload of `order.created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderCreated {
    /// The order's number.
    pub id: u32,
    /// Who ordered.
    pub customer: String,
    /// What it costs.
    pub total: f64,
}

/// The payload of `order.paid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPaid {
    /// The order's number.
    pub id: u32,
}

/// A list of orders that is kept up to date for as long as this lives.
#[derive(Debug)]
pub struct OrdersPage {
    /// Dropping it leaves the channel.
    pub orders: Subscription,
    _state: Listener,
    _errors: Listener,
}

impl OrdersPage {
    /// Shows the orders of a channel in `list`, and the state of the connection in `status`.
    ///
    /// # Errors
    /// When the channel's name is none.
    pub fn open(
        client: &FanfareClient,
        channel: &str,
        list: &Element,
        status: &Element,
    ) -> Result<Self, Error> {
        let orders = client.subscribe(channel)?;
        let created = list.clone();
        let paid = list.clone();
        let reloaded = list.clone();
        orders
            .on("order.created", move |order: OrderCreated, _| {
                show(&created, &order);
            })
            .on("order.paid", move |order: OrderPaid, _| {
                if let Ok(Some(row)) = paid.query_selector(&format!("[data-order='{}']", order.id))
                {
                    let _ = row.set_attribute("class", "paid");
                }
            })
            // A page with a backend would now ask it for the orders as they are.
            .on_gap(move |_| reloaded.set_inner_html(""));
        let status = status.clone();
        Ok(Self {
            orders,
            _state: client.on_state(move |connection| {
                status.set_text_content(Some(words(connection.state)));
            }),
            _errors: client.on_error(|error| {
                web_sys::console::warn_1(&JsValue::from_str(&error.to_string()));
            }),
        })
    }
}

fn show(list: &Element, order: &OrderCreated) {
    let Some(document) = list.owner_document() else {
        return;
    };
    if let Ok(row) = document.create_element("li") {
        let _ = row.set_attribute("data-order", &order.id.to_string());
        let text = format!("#{} {}: {:.2}", order.id, order.customer, order.total);
        row.set_text_content(Some(&text));
        let _ = list.append_child(&row);
    }
}

const fn words(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Connected => "live",
        ConnectionState::Connecting | ConnectionState::Reconnecting => "connecting",
        ConnectionState::Offline => "offline",
        _ => "not connected",
    }
}
