//! Which info of a user is shown, and that the channel is told.

use std::sync::Arc;

use fanfare_protocol::{ChannelName, Position, RawJson};
use tokio::task::JoinSet;

use super::presence::{SLACK, announced, present};
use super::presence_state::agrees;
use super::trial::{KEPT, MemberEvent, Trial, connection, follow, member};
use super::{Outcome, Violation};
use crate::delivery::Departure;

pub(super) async fn who_joined_last_is_shown(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let (phone, laptop) = (connection(), connection());
    for (connection, info) in [(phone, 1), (laptop, 2), (phone, 3)] {
        let ann = member("ann", info)?;
        trial.join(&channel, connection, ann).await?;
        shown(trial, &channel, info).await?;
    }
    let told = [
        MemberEvent::came("ann", 1),
        MemberEvent::shown("ann", 2),
        MemberEvent::shown("ann", 3),
    ];
    announced(trial, &channel, &told).await
}

pub(super) async fn an_equal_info_is_not_told(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let (phone, laptop) = (connection(), connection());
    let info = r#"{"name": "Ann"}"#;
    for connection in [phone, laptop, phone] {
        trial
            .join(&channel, connection, member("ann", info)?)
            .await?;
        trial.update(&channel, connection, info).await?;
    }
    trial.leave(&channel, laptop, Departure::Lost).await?;
    trial.join(&channel, laptop, member("ann", info)?).await?;
    trial.leave(&channel, laptop, Departure::Goodbye).await?;
    announced(trial, &channel, &[MemberEvent::came("ann", info)]).await
}

/// A call that is repeated because its answer was lost brings nothing back that another connection has replaced meanwhile.
pub(super) async fn a_repeated_call_shows_nothing_again(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let (phone, laptop) = (connection(), connection());
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.update(&channel, phone, 2).await?;
    trial.join(&channel, laptop, member("ann", 3)?).await?;
    trial.join(&channel, phone, member("ann", 2)?).await?;
    let is_here = trial.update(&channel, phone, 2).await?;
    ensure!(is_here, "a repeated update finds nobody");
    shown(trial, &channel, 3).await?;
    let told = [
        MemberEvent::came("ann", 1),
        MemberEvent::shown("ann", 2),
        MemberEvent::shown("ann", 3),
    ];
    announced(trial, &channel, &told).await
}

pub(super) async fn who_comes_back_is_shown(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let (phone, laptop, tablet) = (connection(), connection(), connection());
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.join(&channel, laptop, member("ann", 2)?).await?;
    // Over the same connection, with what it had before.
    trial.leave(&channel, phone, Departure::Lost).await?;
    shown(trial, &channel, 2).await?;
    trial.join(&channel, phone, member("ann", 1)?).await?;
    shown(trial, &channel, 1).await?;
    // Over another one, with something else.
    trial.leave(&channel, phone, Departure::Lost).await?;
    trial.advance(grace / 2).await;
    trial.join(&channel, tablet, member("ann", 3)?).await?;
    trial.advance(grace / 2 + SLACK).await;
    shown(trial, &channel, 3).await?;
    let told = [
        MemberEvent::came("ann", 1),
        MemberEvent::shown("ann", 2),
        MemberEvent::shown("ann", 1),
        MemberEvent::shown("ann", 3),
    ];
    announced(trial, &channel, &told).await
}

pub(super) async fn when_the_shown_one_goes_the_one_before_is_shown(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let mut told = vec![MemberEvent::came("ann", 1)];
    let connections: Vec<_> = (0..5).map(|_| connection()).collect();
    for (connection, info) in connections.iter().zip(1..) {
        trial
            .join(&channel, *connection, member("ann", info)?)
            .await?;
        told.extend((info > 1).then(|| MemberEvent::shown("ann", info)));
    }
    // Not shown, and so nothing that anybody sees.
    trial
        .leave(&channel, connections[3], Departure::Goodbye)
        .await?;
    shown(trial, &channel, 5).await?;
    trial.update(&channel, connections[0], 6).await?;
    told.push(MemberEvent::shown("ann", 6));
    for (connection, departure, info) in [
        (0, Departure::Removed, 5),
        (4, Departure::Goodbye, 3),
        (2, Departure::Lost, 2),
    ] {
        trial
            .leave(&channel, connections[connection], departure)
            .await?;
        if departure == Departure::Lost {
            shown(trial, &channel, 3).await?;
            trial.advance(grace + SLACK).await;
        }
        shown(trial, &channel, info).await?;
        told.push(MemberEvent::shown("ann", info));
    }
    trial
        .leave(&channel, connections[1], Departure::Goodbye)
        .await?;
    present(trial, &channel, &[]).await?;
    told.push(MemberEvent::left("ann", Departure::Goodbye));
    announced(trial, &channel, &told).await
}

pub(super) async fn an_update_is_told_like_a_message(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let (phone, laptop) = (connection(), connection());
    let start = trial.members(&channel).await?.position;
    let info = r#"{"name":"Ann \"A\"","n":1.50}"#;
    trial.join(&channel, phone, member("a\"n|n", 1)?).await?;
    trial.join(&channel, laptop, member("a\"n|n", 1)?).await?;
    let is_here = trial.update(&channel, phone, info).await?;
    ensure!(is_here, "the connection is not found");
    let seen = trial.seen_count(&channel, 2).await?;
    let position = follow(start, &seen)?;
    let (event, data) = (seen[1].event.as_str(), seen[1].data.as_str());
    let updated = format!(r#"{{"id":"a\"n|n","info":{info}}}"#);
    ensure!(
        event == "member_updated" && data == updated,
        "{event} says {data}"
    );
    let kept = trial.history(&channel, super::trial::ALL).await?;
    let kept: Vec<Option<Position>> = kept.entries.iter().map(|one| one.position).collect();
    ensure!(
        kept == [seen[0].position, Some(position)],
        "{kept:?} is kept"
    );
    Ok(())
}

pub(super) async fn an_update_brings_nobody_here(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let grace = trial.features().presence_grace;
    let (phone, laptop, never) = (connection(), connection(), connection());
    ensure!(
        !trial.update(&channel, never, 2).await?,
        "found in no channel"
    );
    present(trial, &channel, &[]).await?;
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.join(&channel, laptop, member("ann", 1)?).await?;
    trial.leave(&channel, laptop, Departure::Goodbye).await?;
    for connection in [never, laptop] {
        let is_here = trial.update(&channel, connection, 2).await?;
        ensure!(!is_here, "found, and not here");
    }
    // A lost one still counts, and goes when its time is up all the same.
    trial.leave(&channel, phone, Departure::Lost).await?;
    ensure!(trial.update(&channel, phone, 3).await?, "lost, and gone");
    shown(trial, &channel, 3).await?;
    trial.advance(grace + SLACK).await;
    present(trial, &channel, &[]).await?;
    let told = [
        MemberEvent::came("ann", 1),
        MemberEvent::shown("ann", 3),
        MemberEvent::left("ann", Departure::Lost),
    ];
    announced(trial, &channel, &told).await
}

pub(super) async fn a_snapshot_shows_what_was_told_before_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let mut connections = JoinSet::new();
    for number in 0..6 {
        let presence = Arc::clone(&trial.engine.presence);
        let channel = channel.clone();
        connections.spawn(async move {
            let user = format!("user-{}", number % 2);
            for round in 0..8 {
                let phone = connection();
                let member = member(&user, number * 100 + round)?;
                presence.join(&channel, phone, member, KEPT).await?;
                tokio::task::yield_now().await;
                let info = RawJson::trusted((number * 100 + 50 + round / 2).to_string());
                presence.update(&channel, phone, info, KEPT).await?;
                tokio::task::yield_now().await;
                presence.leave(&channel, phone, Departure::Goodbye).await?;
            }
            Ok::<_, Violation>(())
        });
    }
    let mut snapshots = Vec::new();
    while !connections.is_empty() {
        snapshots.push(trial.members(&channel).await?);
        tokio::task::yield_now().await;
        while let Some(ended) = connections.try_join_next() {
            ended??;
        }
    }
    let last = trial.members(&channel).await?;
    let seen = trial.seen_position(&channel, last.position).await?;
    snapshots.push(last);
    for snapshot in &snapshots {
        agrees(snapshot, &seen)?;
    }
    Ok(())
}

/// Ann is the only member, and shown with this info.
async fn shown(trial: &Trial<'_>, channel: &ChannelName, info: u32) -> Outcome {
    let members = trial.members(channel).await?.members;
    let [ann] = members.as_slice() else {
        return Err(Violation::new(format!("{members:?} are here")));
    };
    let is_shown = ann.info.as_str();
    ensure!(
        is_shown == info.to_string(),
        "the info {is_shown} is shown instead of {info}"
    );
    Ok(())
}
