//! Prints what happens on channels, over any number of reconnects.
//!
//! ```text
//! cargo run -p fanfare-client --features native --example tail -- ws://127.0.0.1:8000/ws announcements
//! ```

use fanfare_client::native::{NativeClient, NativeOptions};
use fanfare_client::{Event, SubscribeOptions};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the first argument is an address")?;
    let client = NativeClient::connect(&url, NativeOptions::default())?;
    let mut channels = JoinSet::new();
    for channel in arguments {
        let options = SubscribeOptions::default();
        let mut subscription = client.subscribe(channel.parse()?, options).await?;
        channels.spawn(async move {
            while let Some(event) = subscription.recv().await {
                print(&channel, &event);
            }
        });
    }
    while channels.join_next().await.is_some() {}
    client.close().await;
    Ok(())
}

fn print<P: AsRef<str>>(channel: &str, event: &Event<P>) {
    match event {
        Event::Message(message) => {
            println!("{channel} {} {}", message.event, message.data.as_ref());
        }
        Event::Channel(status) => match &status.error {
            Some(error) => println!("{channel} is {:?}: {error}", status.state),
            None => println!("{channel} is {:?}", status.state),
        },
        Event::Joined { member, .. } => println!("{channel} + {}", member.id),
        Event::Updated { member, .. } => println!("{channel} ~ {}", member.id),
        Event::Left { id, .. } => println!("{channel} - {id}"),
        Event::Gap(gap) => println!("{channel} lost messages: {:?}", gap.reason),
        Event::Reset(_) => println!("{channel} starts anew"),
        _ => {}
    }
}
