//! Appending and fanning out.

use std::sync::Arc;

use fanfare_protocol::{ChannelName, Epoch, Position, SocketId, Tag, UserId};
use tokio::task::JoinSet;

use super::trial::{ALL, KEPT, Trial, follow, publication, unused_channel};
use super::{Outcome, Violation};
use crate::delivery::{Delivery, Retention};
use crate::engine::EngineError;

const PUBLISHERS: usize = 8;
const MESSAGES: usize = 25;

pub(super) async fn order_holds_under_concurrent_publishers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let mut published = publish_at_once(trial, &channel, KEPT).await?;
    let seen = trial.seen_count(&channel, PUBLISHERS * MESSAGES).await?;
    let epoch = first_epoch(&seen)?;
    follow(Position::start(epoch), &seen)?;
    check_publishers(&seen)?;

    published.sort_by_key(|(_, position)| position.map(|position| position.offset));
    let delivered: Vec<(String, Option<Position>)> = seen
        .iter()
        .map(|delivery| (delivery.data.as_str().to_owned(), delivery.position))
        .collect();
    ensure!(
        published == delivered,
        "publishers were told other positions than subscribers"
    );
    Ok(())
}

pub(super) async fn live_only_order_holds_per_publisher(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    publish_at_once(trial, &channel, Retention::NONE).await?;
    let seen = trial.settled(&channel).await?;
    ensure!(
        seen.len() == PUBLISHERS * MESSAGES,
        "{} messages arrived of {}",
        seen.len(),
        PUBLISHERS * MESSAGES
    );
    check_publishers(&seen)
}

pub(super) async fn live_only_messages_have_no_position(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    for number in 0..3 {
        let published = trial
            .send(publication(&channel, number)?, Retention::NONE)
            .await?;
        ensure!(
            published.position.is_none() && !published.is_duplicate,
            "{published:?}"
        );
    }
    for delivery in trial.seen_count(&channel, 3).await? {
        ensure!(
            delivery.position.is_none() && delivery.previous.is_none(),
            "{delivery:?}"
        );
    }
    Ok(())
}

pub(super) async fn what_was_published_arrives_unchanged(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let data = r#"{"text":"a \"quote\", ü, \u0000 and \n","n":[1,2.50,null]}"#;
    let mut sent = publication(&channel, data)?
        .except(SocketId::from_bits(7))
        .from_user(UserId::new("auth0|5f7c")?);
    sent.event_id = Some(Arc::from("event-1"));
    for retention in [KEPT, Retention::NONE] {
        trial.send(sent.clone(), retention).await?;
    }
    let mut seen = trial.seen_count(&channel, 2).await?;
    let read = trial.history(&channel, ALL).await?;
    ensure!(read.entries.len() == 1, "{} kept", read.entries.len());
    seen.extend(read.entries);
    for delivery in seen {
        let is_same = delivery.channel == sent.channel
            && delivery.event == sent.event
            && delivery.data == sent.data
            && delivery.except == sent.except
            && delivery.user == sent.user
            && delivery.event_id == sent.event_id;
        ensure!(is_same, "{sent:?} arrived as {delivery:?}");
    }
    Ok(())
}

pub(super) async fn channels_do_not_mix(trial: &Trial<'_>) -> Outcome {
    let channels = [trial.channel().await?, trial.channel().await?];
    for number in 0..20 {
        let index = usize::from(number % 3 == 0);
        trial
            .publish(&channels[index], format!("\"{index}:{number}\""))
            .await?;
    }
    for (index, channel) in channels.iter().enumerate() {
        let seen = trial.settled(channel).await?;
        follow(Position::start(first_epoch(&seen)?), &seen)?;
        let prefix = format!("\"{index}:");
        let is_own = |delivery: &Delivery| delivery.data.as_str().starts_with(&prefix);
        ensure!(
            seen.iter().all(is_own),
            "a message of another channel arrived"
        );
        let count = if index == 0 { 13 } else { 7 };
        ensure!(seen.len() == count, "{} of {count}", seen.len());
    }
    Ok(())
}

pub(super) async fn deliveries_flow_while_a_channel_is_wanted(trial: &Trial<'_>) -> Outcome {
    let broker = &trial.engine.broker;
    let channel = unused_channel()?;
    broker.set_interest(&channel, KEPT, false);
    for round in 0..3 {
        broker.set_interest(&channel, KEPT, true);
        broker.set_interest(&channel, KEPT, true);
        broker.interested(&channel).await?;
        let sent = trial.publish(&channel, round).await?;
        trial.seen_position(&channel, sent).await?;
        broker.set_interest(&channel, KEPT, false);
        broker.set_interest(&channel, KEPT, false);
    }
    Ok(())
}

pub(super) async fn a_closed_engine_delivers_nothing(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    trial.publish(&channel, 1).await?;
    trial.seen_count(&channel, 1).await?;
    trial.engine.broker.close().await;
    trial.engine.broker.close().await;
    let refused = trial
        .engine
        .broker
        .publish(publication(&channel, 2)?, KEPT)
        .await;
    ensure!(
        matches!(refused, Err(EngineError::Unavailable { .. })),
        "a publish after close: {refused:?}"
    );
    let seen = trial.seen(&channel).len();
    ensure!(seen == 1, "{seen} messages arrived, one before close");
    Ok(())
}

/// Has many publishers send at once; answers what each message was told about its position.
async fn publish_at_once(
    trial: &Trial<'_>,
    channel: &ChannelName,
    retention: Retention,
) -> Result<Vec<(String, Option<Position>)>, Violation> {
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let broker = Arc::clone(&trial.engine.broker);
        let channel = channel.clone();
        publishers.spawn(async move {
            let mut published = Vec::new();
            for number in 0..MESSAGES {
                let data = format!("[{publisher},{number}]");
                let sent = publication(&channel, &data)?;
                let answer = broker.publish(sent, retention).await?;
                published.push((data, answer.position));
                tokio::task::yield_now().await;
            }
            Ok::<_, Violation>(published)
        });
    }
    let mut published = Vec::new();
    while let Some(publisher) = publishers.join_next().await {
        published.extend(publisher??);
    }
    Ok(published)
}

/// Every publisher's messages are there once, in the order it sent them.
fn check_publishers(seen: &[Delivery]) -> Outcome {
    let mut next = [0; PUBLISHERS];
    for delivery in seen {
        let [publisher, number]: [usize; 2] = delivery.data.decode()?;
        ensure!(
            number == next[publisher],
            "publisher {publisher}'s message {number} came instead of {}",
            next[publisher]
        );
        next[publisher] += 1;
    }
    ensure!(
        next == [MESSAGES; PUBLISHERS],
        "messages are missing: {next:?}"
    );
    Ok(())
}

fn first_epoch(seen: &[Delivery]) -> Result<Epoch, Violation> {
    let first = seen.first().and_then(|delivery| delivery.position);
    let Some(first) = first else {
        return Err(Violation::new("the first message has no position"));
    };
    ensure!(first.tag != Tag(0), "tag 0 is taken by the first position");
    Ok(first.epoch)
}
