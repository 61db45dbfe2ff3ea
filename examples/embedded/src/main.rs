//! An axum application that was there before, and the four lines that make it tell browsers what happens.
//!
//! `cargo run -p embedded`, then `curl -d '{"item":"tea","count":2}' -H 'content-type: application/json'
//! http://127.0.0.1:8002/orders` while a page is subscribed to `orders`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use fanfare_server::{Handle, Server};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = Server::builder().build().await?; // 1: everything has a default
    let app = application(&events);
    let listener = TcpListener::bind("127.0.0.1:8002").await?;
    println!("listening on {}", listener.local_addr()?);
    let end = async move {
        let _ = tokio::signal::ctrl_c().await;
        events.handle().shutdown().await; // 2: browsers are told when to come back
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(end)
        .await?;
    Ok(())
}

fn application(events: &Server) -> Router {
    let shop = Shop {
        last_order: Arc::default(),
        events: events.handle(),
    };
    Router::new()
        .route("/orders", post(order))
        .with_state(shop)
        .merge(events.router()) // 3: /ws and /ws/auth
}

#[derive(Clone)]
struct Shop {
    last_order: Arc<AtomicU64>,
    events: Handle,
}

#[derive(Deserialize)]
struct Wish {
    item: String,
    count: u32,
}

#[derive(Serialize)]
struct Order {
    id: u64,
    item: String,
    count: u32,
}

async fn order(
    State(shop): State<Shop>,
    Json(wish): Json<Wish>,
) -> Result<(StatusCode, Json<Order>), StatusCode> {
    let order = Order {
        id: shop.last_order.fetch_add(1, Ordering::Relaxed) + 1,
        item: wish.item,
        count: wish.count,
    };
    let told = shop.events.broadcast("orders", "order.created", &order); // 4: whoever is subscribed knows
    told.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok((StatusCode::CREATED, Json(order)))
}

#[cfg(test)]
mod tests {
    use fanfare_tests::http::post;
    use fanfare_tests::server::TestServer;
    use fanfare_tests::socket::Socket;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_order_reaches_whoever_follows_orders() {
        let server = TestServer::start_in_axum(Server::builder(), application).await;
        let mut page = Socket::connect(server.address).await;
        page.subscribe("orders").await;
        let wish = json!({ "item": "tea", "count": 2 });
        let order = json!({ "id": 1, "item": "tea", "count": 2 });

        let answer = post(server.address, "/orders", &[], &wish).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json(), order);
        let event = page.expect(json!({ "event": "order.created" })).await;
        assert_eq!(event["channel"], "orders");
        assert_eq!(event["data"], order);

        let nonsense = post(server.address, "/orders", &[], &json!({ "item": 7 })).await;
        assert_eq!(nonsense.status, 422);
        page.is_quiet().await;
    }
}
