//! The server's own accept loop, as the network meets it (T13).

use std::time::Duration;

use fanfare_server::{AcceptLimits, Server};
use fanfare_tests::server::TestServer;
use fanfare_tests::socket::{Door, Socket};
use fanfare_tests::{eventually, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn start(change: impl FnOnce(&mut AcceptLimits)) -> TestServer {
    let mut limits = AcceptLimits::default();
    change(&mut limits);
    TestServer::start(Server::builder().accept_limits(limits)).await
}

#[tokio::test]
async fn connections_that_never_become_requests_are_closed_while_others_are_served() {
    let defaults = AcceptLimits::default();
    assert_eq!(defaults.first_byte_deadline, Duration::from_secs(10));
    assert_eq!(defaults.head_deadline, Duration::from_secs(5));
    let server = start(|limits| {
        limits.first_byte_deadline = Duration::from_millis(200);
        limits.head_deadline = Duration::from_millis(200);
    })
    .await;
    let mut guest = Socket::connect(server.address).await;
    let mut dawdlers = Vec::new();
    for number in 0..60 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Nothing at all, the beginning of a request, a request whose headers never end.
        let begun: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /ws HT",
            _ => b"GET /ws HTTP/1.1\r\nhost: x\r\nx-a: b\r\n",
        };
        stream.write_all(begun).await.unwrap();
        dawdlers.push(stream);
    }
    for mut stream in dawdlers {
        let mut answer = Vec::new();
        let read = within("the end of a dawdler", stream.read_to_end(&mut answer));
        // Closed with an answer, without one, or cut: but closed.
        let _ = read.await;
    }
    guest.is_quiet().await;
}

#[tokio::test]
async fn a_server_that_is_full_says_so_and_takes_the_next_when_one_has_gone() {
    let server = start(|limits| limits.connections_max = 2).await;
    let first = Socket::connect(server.address).await;
    let mut second = Socket::connect(server.address).await;
    let refused = Door::at(server.address).open().await.unwrap_err();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    second.is_quiet().await;
    first.close().await;
    let mut third = None;
    eventually("room for another one", async || {
        third = Door::at(server.address).open().await.ok();
        third.is_some()
    })
    .await;
    third.unwrap().greeted().await;
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let server = start(|limits| {
        limits.connections_per_address_max = Some(2);
        limits.exempts_private_addresses = false;
    })
    .await;
    let _first = Socket::connect(server.address).await;
    let _second = Socket::connect(server.address).await;
    let refused = Door::at(server.address).open().await.unwrap_err();
    assert_eq!(refused.status(), 503);
}
