//! Who is a member, and that it agrees with what was announced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fanfare_protocol::Position;
use tokio::task::JoinSet;

use super::presence::{SLACK, announced, present};
use super::trial::{KEPT, MemberEvent, Trial, What, connection, follow, member, member_events};
use super::{Outcome, Violation};
use crate::delivery::{Delivery, Departure, Members};

pub(super) async fn joining_twice_is_one_membership(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let phone = connection();
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.leave(&channel, phone, Departure::Goodbye).await?;
    present(trial, &channel, &[]).await?;
    let left = MemberEvent::left("ann", Departure::Goodbye);
    announced(trial, &channel, &[MemberEvent::came("ann", 1), left]).await
}

pub(super) async fn leaving_without_having_joined_does_nothing(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let phone = connection();
    for departure in [Departure::Goodbye, Departure::Removed, Departure::Lost] {
        trial.leave(&channel, connection(), departure).await?;
    }
    trial.join(&channel, phone, member("ann", 1)?).await?;
    for departure in [Departure::Goodbye, Departure::Removed, Departure::Lost] {
        trial.leave(&channel, connection(), departure).await?;
    }
    announced(trial, &channel, &[MemberEvent::came("ann", 1)]).await?;
    trial.leave(&channel, phone, Departure::Goodbye).await?;
    trial.leave(&channel, phone, Departure::Goodbye).await?;
    let left = MemberEvent::left("ann", Departure::Goodbye);
    announced(trial, &channel, &[MemberEvent::came("ann", 1), left]).await
}

pub(super) async fn a_refresh_answers_what_is_unknown(trial: &Trial<'_>) -> Outcome {
    let presence = &trial.engine.presence;
    let (here, elsewhere) = (trial.channel().await?, trial.channel().await?);
    let (known, gone, never) = (connection(), connection(), connection());
    trial.join(&here, known, member("ann", 1)?).await?;
    trial.join(&here, gone, member("bob", 1)?).await?;
    trial.leave(&here, gone, Departure::Goodbye).await?;
    let held = [
        (here.clone(), known),
        (here.clone(), gone),
        (elsewhere.clone(), known),
        (here.clone(), never),
    ];
    let unknown: BTreeSet<_> = presence.refresh(&held).await?.into_iter().collect();
    let expected: BTreeSet<_> = held[1..].iter().cloned().collect();
    ensure!(unknown == expected, "{unknown:?} instead of {expected:?}");
    ensure!(presence.refresh(&[]).await?.is_empty(), "out of nothing");
    present(trial, &here, &["ann"]).await
}

pub(super) async fn a_refresh_does_not_undo_a_loss(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let phone = connection();
    trial.join(&channel, phone, member("ann", 1)?).await?;
    trial.leave(&channel, phone, Departure::Lost).await?;
    // Under way when the socket was lost.
    let held = [(channel.clone(), phone)];
    trial.engine.presence.refresh(&held).await?;
    trial.advance(trial.features().presence_grace + SLACK).await;
    present(trial, &channel, &[]).await?;
    let left = MemberEvent::left("ann", Departure::Lost);
    announced(trial, &channel, &[MemberEvent::came("ann", 1), left]).await
}

pub(super) async fn a_snapshot_is_the_sum_of_the_events_before_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let mut users = JoinSet::new();
    for user in 0..4 {
        let presence = Arc::clone(&trial.engine.presence);
        let channel = channel.clone();
        users.spawn(async move {
            let member = member(&format!("user-{user}"), user)?;
            for _ in 0..15 {
                let phone = connection();
                presence.join(&channel, phone, member.clone(), KEPT).await?;
                tokio::task::yield_now().await;
                presence.leave(&channel, phone, Departure::Goodbye).await?;
                tokio::task::yield_now().await;
            }
            let stays = presence.join(&channel, connection(), member, KEPT);
            Ok::<_, Violation>(stays.await?)
        });
    }
    let mut snapshots = Vec::new();
    while !users.is_empty() {
        snapshots.push(trial.members(&channel).await?);
        tokio::task::yield_now().await;
        while let Some(user) = users.try_join_next() {
            user??;
        }
    }
    let last = trial.members(&channel).await?;
    ensure!(last.count == 4, "{} stayed", last.count);
    let seen = trial.seen_position(&channel, last.position).await?;
    snapshots.push(last);
    follow(Position::start(snapshots[0].position.epoch), &seen)?;
    for snapshot in &snapshots {
        agrees(snapshot, &seen)?;
    }
    Ok(())
}

pub(super) async fn an_empty_channel_has_a_position_too(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let nobody = trial.members(&channel).await?;
    ensure!(nobody.count == 0 && nobody.members.is_empty(), "{nobody:?}");
    trial
        .join(&channel, connection(), member("ann", 1)?)
        .await?;
    let seen = trial.seen_count(&channel, 1).await?;
    let position = follow(nobody.position, &seen)?;
    let ann = trial.members(&channel).await?;
    ensure!(
        ann.position == position,
        "{:?} after {position:?}",
        ann.position
    );
    Ok(())
}

pub(super) async fn clearing_a_history_keeps_the_members(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let phone = connection();
    trial.join(&channel, phone, member("ann", 1)?).await?;
    let before = trial.members(&channel).await?.position;
    trial.engine.broker.clear_history(&channel).await?;
    present(trial, &channel, &["ann"]).await?;
    let after = trial.members(&channel).await?.position;
    ensure!(after.epoch != before.epoch, "the old epoch goes on");
    trial.leave(&channel, phone, Departure::Goodbye).await?;
    let seen = trial.seen_count(&channel, 2).await?;
    follow(after, &seen[1..])?;
    Ok(())
}

/// A snapshot lists exactly those whom the events up to its position leave present, each with the info told last.
pub(super) fn agrees(snapshot: &Members, seen: &[Delivery]) -> Outcome {
    let before = seen.iter().take_while(|delivery| {
        let position = delivery.position;
        position.is_some_and(|position| position.offset <= snapshot.position.offset)
    });
    let before: Vec<Delivery> = before.cloned().collect();
    let mut folded = BTreeMap::new();
    for MemberEvent { user, what } in member_events(&before)? {
        let is_right = match &what {
            What::Came(info) => folded.insert(user.clone(), info.clone()).is_none(),
            What::Shown(info) => {
                let before = folded.insert(user.clone(), info.clone());
                before.is_some_and(|before| before != *info)
            }
            What::Left(_) => folded.remove(&user).is_some(),
        };
        ensure!(
            is_right,
            "{user} was told to have {what:?}, which is no news"
        );
    }
    let listed: BTreeMap<String, String> = snapshot
        .members
        .iter()
        .map(|member| {
            let info = member.info.as_str().to_owned();
            (member.id.as_str().to_owned(), info)
        })
        .collect();
    ensure!(
        listed == folded && snapshot.count == folded.len() as u64,
        "at {:?} the events leave {folded:?}, the snapshot counts {} and lists {listed:?}",
        snapshot.position,
        snapshot.count
    );
    Ok(())
}
