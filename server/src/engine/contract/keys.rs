//! Idempotency keys.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, IdempotencyKey, SocketId, UserId};
use tokio::task::JoinSet;

use super::trial::{ALL, KEPT, Trial, publication};
use super::{Outcome, Violation};
use crate::delivery::{Publication, Retention};

pub(super) async fn a_repetition_yields_the_first_result(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let first = trial.send(keyed(&channel, 1, "k")?, KEPT).await?;
    ensure!(!first.is_duplicate, "the first is taken for a repetition");
    trial.publish(&channel, 2).await?;
    for _ in 0..2 {
        let again = trial.send(keyed(&channel, 3, "k")?, KEPT).await?;
        ensure!(
            again.is_duplicate,
            "a repetition is taken for a new message"
        );
        ensure!(
            again.position == first.position,
            "{again:?} after {first:?}"
        );
    }
    let other = trial.send(keyed(&channel, 4, "other")?, KEPT).await?;
    ensure!(!other.is_duplicate, "another key is taken for a repetition");

    let seen = trial.settled(&channel).await?;
    let data: Vec<&str> = seen.iter().map(|d| d.data.as_str()).collect();
    ensure!(data == ["1", "2", "4"], "delivered {data:?}");
    let kept = trial.history(&channel, ALL).await?.entries.len();
    ensure!(kept == 3, "{kept} kept");
    Ok(())
}

pub(super) async fn a_repetition_is_recognised_on_live_only_channels(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    for is_duplicate in [false, true, true] {
        let sent = keyed(&channel, 1, "k")?;
        let published = trial.send(sent, Retention::NONE).await?;
        ensure!(published.is_duplicate == is_duplicate, "{published:?}");
        ensure!(published.position.is_none(), "{published:?}");
    }
    let seen = trial.settled(&channel).await?.len();
    ensure!(seen == 1, "{seen} messages with one key");
    Ok(())
}

pub(super) async fn a_key_belongs_to_its_sender(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let of_the_application = keyed(&channel, 1, "k")?;
    let (one, other) = (SocketId::from_bits(1), SocketId::from_bits(2));
    let anonymous = keyed(&channel, 2, "k")?.from_connection(one);
    let other_anonymous = keyed(&channel, 3, "k")?.from_connection(other);
    let of_a_user = keyed(&channel, 4, "k")?.from_user(UserId::new("ann")?);
    let elsewhere = of_a_user.clone().from_connection(other);
    let senders = [
        anonymous,
        other_anonymous,
        of_a_user.from_connection(one),
        of_the_application,
    ];
    for sent in senders {
        let published = trial.send(sent.clone(), KEPT).await?;
        ensure!(!published.is_duplicate, "somebody else's key counted");
        let again = trial.send(sent, KEPT).await?;
        ensure!(again.is_duplicate, "the sender's own key did not count");
    }
    let seen = trial.settled(&channel).await?.len();
    ensure!(seen == 4, "{seen} messages of four senders");
    let again = trial.send(elsewhere, KEPT).await?;
    ensure!(again.is_duplicate, "a user's key did not count elsewhere");
    Ok(())
}

pub(super) async fn a_key_belongs_to_its_channel(trial: &Trial<'_>) -> Outcome {
    let channels = [trial.channel().await?, trial.channel().await?];
    for channel in &channels {
        let published = trial.send(keyed(channel, 1, "k")?, KEPT).await?;
        ensure!(!published.is_duplicate, "{published:?}");
        let seen = trial.settled(channel).await?.len();
        ensure!(seen == 1, "{seen} messages");
    }
    Ok(())
}

pub(super) async fn of_concurrent_repetitions_one_is_published(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let mut publishers = JoinSet::new();
    for _ in 0..8 {
        let broker = Arc::clone(&trial.engine.broker);
        let sent = keyed(&channel, 1, "k")?;
        publishers.spawn(async move { broker.publish(sent, KEPT).await });
    }
    let mut published = Vec::new();
    while let Some(publisher) = publishers.join_next().await {
        published.push(publisher??);
    }
    let fresh = published.iter().filter(|one| !one.is_duplicate).count();
    ensure!(fresh == 1, "{fresh} of 8 were published");
    let same = published
        .iter()
        .all(|one| one.position == published[0].position);
    ensure!(same, "repetitions were told different positions");
    let seen = trial.settled(&channel).await?.len();
    ensure!(seen == 1, "{seen} messages with one key");
    Ok(())
}

pub(super) async fn a_key_is_forgotten_after_its_time(trial: &Trial<'_>) -> Outcome {
    let Some(ttl) = trial.features().key_ttl else {
        return Ok(());
    };
    let channel = trial.channel().await?;
    trial.send(keyed(&channel, 1, "k")?, KEPT).await?;
    trial.advance(ttl * 3 / 4).await;
    let early = trial.send(keyed(&channel, 2, "k")?, KEPT).await?;
    ensure!(early.is_duplicate, "forgotten before its time");
    trial.advance(ttl / 4 + Duration::from_millis(50)).await;
    let late = trial.send(keyed(&channel, 3, "k")?, KEPT).await?;
    ensure!(!late.is_duplicate, "a repetition does not prolong a key");
    Ok(())
}

fn keyed(channel: &ChannelName, data: u32, key: &str) -> Result<Publication, Violation> {
    let key = IdempotencyKey::new(key)?;
    Ok(publication(channel, data)?.with_key(key))
}
