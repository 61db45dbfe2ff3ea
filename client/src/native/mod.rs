//! The machine with a socket and a clock: a tokio client for Rust programs.
//!
//! [`NativeClient::connect`] starts one task that owns the machine, the socket and the timer. The client is a cheap handle to
//! it, every [`Subscription`] a bounded queue that it fills. Positions, retries, tokens and gaps are the machine's business and
//! work here exactly as in a browser.
//!
//! ```no_run
//! use fanfare_client::native::{NativeClient, NativeOptions};
//! use fanfare_client::{Event, SubscribeOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = NativeClient::connect("ws://127.0.0.1:8000/ws", NativeOptions::default())?;
//! let mut orders = client
//!     .subscribe("orders".parse()?, SubscribeOptions::default())
//!     .await?;
//! while let Some(event) = orders.recv().await {
//!     match event {
//!         Event::Message(message) => println!("{}: {}", message.event, message.data.as_str()),
//!         Event::Gap(gap) => println!("messages were lost: {:?}", gap.reason),
//!         _ => {}
//!     }
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! `wss://` addresses need one of the TLS features of the crate `tokio-tungstenite`, switched on in the program's own
//! `Cargo.toml`.

mod driver;
mod handle;
mod listeners;
mod options;
mod payload;
mod queue;
mod socket;

pub use handle::{ConnectError, NativeClient, Subscription};
pub use options::{ChannelAuthRequest, NativeOptions};
