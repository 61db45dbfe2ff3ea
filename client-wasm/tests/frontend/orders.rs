//! The example.

use fanfare_client_wasm::frontend::{ChannelState, FanfareClient};
use wasm_bindgen_test::wasm_bindgen_test;
use wasm_orders::OrdersPage;

use crate::server::{eventually, fresh, publish, url};

#[wasm_bindgen_test]
async fn orders_as_they_come_in() {
    let document = web_sys::window().unwrap().document().unwrap();
    let (list, status) = (
        document.create_element("ol").unwrap(),
        document.create_element("p").unwrap(),
    );
    let client = FanfareClient::builder(&url()).build();
    let name = fresh("orders.");
    let page = OrdersPage::open(&client, &name, &list, &status).unwrap();
    client.connect();
    eventually(|| page.orders.state() == ChannelState::Subscribed).await;
    assert_eq!(status.text_content().as_deref(), Some("live"));
    let order = r#"{"id":7,"customer":"Ann <b>","total":12.5}"#;
    publish(&name, "order.created", order).await;
    eventually(|| list.child_element_count() == 1).await;
    let row = list.first_element_child().unwrap();
    assert_eq!(row.text_content().as_deref(), Some("#7 Ann <b>: 12.50"));
    publish(&name, "order.paid", r#"{"id":7}"#).await;
    eventually(|| row.class_name() == "paid").await;
}
