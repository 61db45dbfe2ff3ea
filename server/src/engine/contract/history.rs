//! What is kept, and that reading it composes with what is delivered.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Position, Tag};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::trial::{ALL, KEPT, Trial, follow, publication};
use super::{Outcome, Violation};
use crate::delivery::{Delivery, History, HistoryRange, Retention};

pub(super) async fn the_position_before_the_first_message_holds(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let before = trial.history(&channel, ALL).await?;
    ensure!(before.entries.is_empty(), "an unused channel has messages");
    ensure!(
        before.top == Position::start(before.top.epoch),
        "an unused channel stands at {:?}",
        before.top
    );
    let again = trial.history(&channel, ALL).await?;
    ensure!(
        again.top == before.top,
        "{:?}, then {:?}",
        before.top,
        again.top
    );
    trial.publish(&channel, 1).await?;
    follow(before.top, &trial.seen_count(&channel, 1).await?)?;
    Ok(())
}

pub(super) async fn ranges_are_read_oldest_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    for number in 1..=5 {
        trial.publish(&channel, number).await?;
    }
    let after = |offset, limit| HistoryRange::After { offset, limit };
    let last = |limit| HistoryRange::Last { limit };
    let rows: &[(HistoryRange, &[u64])] = &[
        (ALL, &[1, 2, 3, 4, 5]),
        (after(3, 100), &[4, 5]),
        (after(1, 2), &[2, 3]),
        (after(0, 0), &[]),
        (after(5, 100), &[]),
        (after(99, 100), &[]),
        (after(u64::MAX >> 11, 100), &[]),
        (last(2), &[4, 5]),
        (last(5), &[1, 2, 3, 4, 5]),
        (last(100), &[1, 2, 3, 4, 5]),
        (last(0), &[]),
    ];
    for (range, expected) in rows {
        let history = trial.history(&channel, *range).await?;
        let offsets = offsets(&history);
        ensure!(offsets == *expected, "{range:?} reads {offsets:?}");
        ensure!(history.top.offset == 5, "{range:?} says {:?}", history.top);
        if let Some(first) = history.entries.first() {
            let data: u64 = first.data.decode()?;
            ensure!(data == offsets[0], "another message at {}", offsets[0]);
        }
    }
    Ok(())
}

pub(super) async fn no_more_than_the_size_is_kept(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    for (number, size) in [
        (1, 3),
        (2, 3),
        (3, 3),
        (4, 3),
        (5, 3),
        (6, 2),
        (7, 0),
        (8, 3),
    ] {
        let retention = Retention::new(size, KEPT.ttl);
        trial
            .send(publication(&channel, number)?, retention)
            .await?;
        let offsets = offsets(&trial.history(&channel, ALL).await?);
        let count = match number {
            8 => 1,
            7 => 0,
            6 => 2,
            _ => number.min(3),
        };
        let expected: Vec<u64> = (number - count + 1..=number).collect();
        ensure!(
            offsets == expected,
            "{offsets:?} kept of {number} with size {size}"
        );
    }
    Ok(())
}

pub(super) async fn messages_go_after_their_time_and_the_position_stays(
    trial: &Trial<'_>,
) -> Outcome {
    let channel = trial.channel().await?;
    let ttl = trial.features().history_ttl;
    let retention = Retention::new(10, ttl);
    for number in 1..=3 {
        trial
            .send(publication(&channel, number)?, retention)
            .await?;
    }
    trial.advance(ttl / 2).await;
    let during = trial.history(&channel, ALL).await?;
    ensure!(during.entries.len() == 3, "{} kept", during.entries.len());
    trial.advance(ttl / 2 + Duration::from_millis(50)).await;
    let after = trial.history(&channel, ALL).await?;
    ensure!(after.entries.is_empty(), "{} outlived", after.entries.len());
    ensure!(
        after.top == during.top,
        "{:?} became {:?}",
        during.top,
        after.top
    );

    trial.advance(ttl * 5).await;
    trial.send(publication(&channel, 4)?, retention).await?;
    let seen = trial.seen_count(&channel, 4).await?;
    follow(after.top, &seen[3..])?;
    Ok(())
}

pub(super) async fn a_message_is_in_the_history_once_it_was_delivered(
    trial: &Trial<'_>,
) -> Outcome {
    let channel = trial.channel().await?;
    for number in 1..=20 {
        trial.publish(&channel, number).await?;
        let seen = trial.seen_count(&channel, number).await?;
        let history = trial
            .history(&channel, HistoryRange::Last { limit: 1 })
            .await?;
        let newest = history.entries.last();
        let is_there = newest.is_some_and(|newest| is_same(newest, &seen[number - 1]));
        ensure!(is_there, "message {number} was delivered and is not kept");
        ensure!(
            Some(history.top) == seen[number - 1].position,
            "message {number} was delivered, the channel stands at {:?}",
            history.top
        );
    }
    Ok(())
}

/// The promise that recovery is built on: what is delivered after a read was begun continues what was read.
pub(super) async fn joining_first_and_reading_second_leaves_no_hole(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel().await?;
    let (reads, messages) = (20, 200);
    // Every read meets a handful of publications on their way.
    let turns = Arc::new(Semaphore::new(0));
    let mut publishers = JoinSet::new();
    for number in 0..messages {
        let broker = Arc::clone(&trial.engine.broker);
        let turns = Arc::clone(&turns);
        let sent = publication(&channel, number)?;
        publishers.spawn(async move {
            turns.acquire().await?.forget();
            Ok::<_, Violation>(broker.publish(sent, KEPT).await?)
        });
    }
    let mut histories = Vec::new();
    for _ in 0..reads {
        turns.add_permits(messages / reads);
        tokio::task::yield_now().await;
        let joined = trial.seen(&channel).len();
        histories.push((joined, trial.history(&channel, ALL).await?));
    }
    while let Some(publisher) = publishers.join_next().await {
        publisher??;
    }
    let seen = trial.seen_count(&channel, messages).await?;
    for (joined, history) in histories {
        follow(Position::start(history.top.epoch), &history.entries)?;
        let read = history.entries.len();
        ensure!(
            read as u64 == history.top.offset,
            "{read} messages read of {:?}",
            history.top
        );
        for (entry, delivery) in history.entries.iter().zip(&seen) {
            ensure!(
                is_same(entry, delivery),
                "{entry:?} was delivered as {delivery:?}"
            );
        }
        ensure!(
            read >= joined,
            "{joined} messages had been delivered and {read} were read: a hole"
        );
    }
    Ok(())
}

pub(super) async fn clearing_a_history_starts_a_new_epoch(trial: &Trial<'_>) -> Outcome {
    let broker = Arc::clone(&trial.engine.broker);
    let channel = trial.channel().await?;
    broker.clear_history(&channel).await?;
    let before = trial.publish(&channel, 1).await?;
    trial.publish(&channel, 2).await?;
    broker.clear_history(&channel).await?;
    let empty = trial.history(&channel, ALL).await?;
    ensure!(empty.entries.is_empty(), "{} kept", empty.entries.len());
    ensure!(empty.top.epoch != before.epoch, "the old epoch goes on");
    trial.publish(&channel, 3).await?;
    let seen = trial.seen_count(&channel, 3).await?;
    follow(empty.top, &seen[2..])?;
    ensure!(seen[2].previous == Some(Tag(0)), "{:?}", seen[2].previous);
    let kept = trial.history(&channel, ALL).await?.entries.len();
    ensure!(kept == 1, "{kept} kept");
    leaves_others_alone(trial, &channel).await
}

/// Another channel is not touched when one is cleared.
async fn leaves_others_alone(trial: &Trial<'_>, forgotten: &ChannelName) -> Outcome {
    let other = trial.channel().await?;
    let position = trial.publish(&other, 1).await?;
    trial.engine.broker.clear_history(forgotten).await?;
    let top = trial.history(&other, ALL).await?.top;
    ensure!(
        top == position,
        "another channel went from {position:?} to {top:?}"
    );
    Ok(())
}

fn offsets(history: &History) -> Vec<u64> {
    let positions = history.entries.iter().filter_map(|entry| entry.position);
    positions.map(|position| position.offset).collect()
}

fn is_same(a: &Delivery, b: &Delivery) -> bool {
    a.position == b.position && a.previous == b.previous && a.data == b.data
}
