//! When members are announced.

use std::time::Duration;

use fanfare_protocol::{ChannelName, Position};

use super::trial::{ALL, MemberEvent, Trial, connection, follow, member, member_events};
use super::{Outcome, Violation};
use crate::delivery::Departure;

pub(super) async fn the_first_connection_adds_and_the_last_removes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let mut expected = Vec::new();
    for _ in 0..3 {
        let (phone, laptop) = (connection(), connection());
        trial.join(&channel, phone, member("ann", 1)?).await?;
        expected.push(MemberEvent::came("ann", 1));
        announced(trial, &channel, &expected).await?;
        trial.join(&channel, laptop, member("ann", 1)?).await?;
        announced(trial, &channel, &expected).await?;
        trial.leave(&channel, phone, Departure::Goodbye).await?;
        announced(trial, &channel, &expected).await?;
        present(trial, &channel, &["ann"]).await?;
        trial.leave(&channel, laptop, Departure::Goodbye).await?;
        expected.push(MemberEvent::left("ann", Departure::Goodbye));
        announced(trial, &channel, &expected).await?;
        present(trial, &channel, &[]).await?;
    }
    Ok(())
}

pub(super) async fn goodbye_and_removal_are_immediate(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let mut expected = Vec::new();
    for departure in [Departure::Goodbye, Departure::Removed] {
        let phone = connection();
        trial.join(&channel, phone, member("ann", 1)?).await?;
        trial.leave(&channel, phone, departure).await?;
        expected.push(MemberEvent::came("ann", 1));
        expected.push(MemberEvent::left("ann", departure));
        announced(trial, &channel, &expected).await?;
        present(trial, &channel, &[]).await?;
    }
    Ok(())
}

/// Nobody asks meanwhile: the engine comes by itself.
pub(super) async fn a_lost_connection_counts_until_its_grace_is_over(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let phone = connection();
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.leave(&channel, phone, Departure::Lost).await?;
    trial.advance(grace / 2).await;
    announced(trial, &channel, &[MemberEvent::came("ann", 1)]).await?;
    present(trial, &channel, &["ann"]).await?;
    trial.advance(grace / 2 + SLACK).await;
    let seen = trial
        .seen_when(&channel, "the leave of a lost connection", |seen| {
            member_events(seen).is_ok_and(|events| events.len() > 1)
        })
        .await?;
    let left = MemberEvent::left("ann", Departure::Lost);
    ensure!(
        member_events(&seen)?[1] == left,
        "{:?}",
        member_events(&seen)?
    );
    present(trial, &channel, &[]).await
}

pub(super) async fn a_loss_reported_twice_counts_from_the_first_time(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let phone = connection();
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.leave(&channel, phone, Departure::Lost).await?;
    trial.advance(grace / 2).await;
    trial.leave(&channel, phone, Departure::Lost).await?;
    trial.advance(grace / 2 + SLACK).await;
    present(trial, &channel, &[]).await?;
    let left = MemberEvent::left("ann", Departure::Lost);
    announced(trial, &channel, &[MemberEvent::came("ann", 1), left]).await
}

pub(super) async fn back_within_the_grace_period_is_silent(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let (before, after) = (connection(), connection());
    let expected = [MemberEvent::came("ann", 1)];
    trial.join(&channel, before, member("ann", 1)?).await?;
    // Over another connection, as after a reconnect.
    trial.leave(&channel, before, Departure::Lost).await?;
    trial.advance(grace / 2).await;
    trial.join(&channel, after, member("ann", 1)?).await?;
    trial.advance(grace * 2).await;
    present(trial, &channel, &["ann"]).await?;
    announced(trial, &channel, &expected).await?;
    // Over the same one, as after a lost lease.
    trial.leave(&channel, after, Departure::Lost).await?;
    trial.join(&channel, after, member("ann", 1)?).await?;
    trial.advance(grace * 2).await;
    present(trial, &channel, &["ann"]).await?;
    announced(trial, &channel, &expected).await
}

pub(super) async fn every_lost_connection_has_its_own_grace(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let (phone, laptop) = (connection(), connection());
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.join(&channel, laptop, member("ann", 1)?).await?;
    trial.leave(&channel, phone, Departure::Lost).await?;
    trial.advance(grace / 2).await;
    trial.leave(&channel, laptop, Departure::Lost).await?;
    trial.advance(grace / 2 + SLACK).await;
    present(trial, &channel, &["ann"]).await?;
    announced(trial, &channel, &[MemberEvent::came("ann", 1)]).await?;
    trial.advance(grace / 2).await;
    present(trial, &channel, &[]).await?;
    let left = MemberEvent::left("ann", Departure::Lost);
    announced(trial, &channel, &[MemberEvent::came("ann", 1), left]).await
}

pub(super) async fn a_goodbye_ends_the_grace_period(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let phone = connection();
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.leave(&channel, phone, Departure::Lost).await?;
    trial.leave(&channel, phone, Departure::Goodbye).await?;
    present(trial, &channel, &[]).await?;
    let left = MemberEvent::left("ann", Departure::Goodbye);
    announced(trial, &channel, &[MemberEvent::came("ann", 1), left]).await
}

pub(super) async fn member_events_are_messages_of_the_channel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let start = trial.history(&channel, ALL).await?.top;
    let phone = connection();
    let info = r#"{"name":"Ann \"A\"","n":1.50}"#;
    trial.publish(&channel, 1).await?;
    trial.join(&channel, phone, member("a\"n|n", info)?).await?;
    trial.publish(&channel, 2).await?;
    trial.leave(&channel, phone, Departure::Goodbye).await?;
    trial.publish(&channel, 3).await?;

    let seen = trial.seen_count(&channel, 5).await?;
    follow(start, &seen)?;
    let told: Vec<(&str, &str)> = seen
        .iter()
        .map(|delivery| (delivery.event.as_str(), delivery.data.as_str()))
        .collect();
    let added = format!(r#"{{"id":"a\"n|n","info":{info}}}"#);
    let removed = r#"{"id":"a\"n|n","reason":"left"}"#;
    ensure!(told[1] == ("member_added", &added), "{:?}", told[1]);
    ensure!(told[3] == ("member_removed", removed), "{:?}", told[3]);
    let kept = trial.history(&channel, ALL).await?.entries;
    let positions: Vec<Option<Position>> = kept.iter().map(|entry| entry.position).collect();
    let delivered: Vec<Option<Position>> = seen.iter().map(|entry| entry.position).collect();
    ensure!(
        positions == delivered,
        "{positions:?} kept of {delivered:?}"
    );
    Ok(())
}

/// Exactly these were announced, in this order, and nothing more is on its way.
pub(super) async fn announced(
    trial: &Trial<'_>,
    channel: &ChannelName,
    expected: &[MemberEvent],
) -> Outcome {
    let events = member_events(&trial.settled(channel).await?)?;
    ensure!(
        events == expected,
        "announced {events:?} instead of {expected:?}"
    );
    Ok(())
}

/// Exactly these users are members.
pub(super) async fn present(
    trial: &Trial<'_>,
    channel: &ChannelName,
    expected: &[&str],
) -> Outcome {
    let members = trial.members(channel).await?;
    let mut users: Vec<&str> = members.members.iter().map(|one| one.id.as_str()).collect();
    users.sort_unstable();
    ensure!(
        users == expected,
        "{users:?} are here instead of {expected:?}"
    );
    if members.count != expected.len() as u64 {
        return Err(Violation::new(format!("{} are counted", members.count)));
    }
    Ok(())
}

/// 50 ms: engines count in milliseconds, and the store's clock may be another machine's.
pub(super) const SLACK: Duration = Duration::from_millis(50);
