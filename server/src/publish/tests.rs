use fanfare_protocol::{ChannelName, EventName, RawJson};

use super::*;
use crate::rules::ChannelRule;

async fn publisher() -> Publisher {
    let kept = ChannelRule::default().with_history(10, Duration::from_secs(60));
    let rules = ChannelRules::new().with("kept", kept);
    let publisher = Publisher::connect(Engine::memory()).await.unwrap();
    publisher.with_rules(rules)
}

#[tokio::test]
async fn it_publishes_by_the_rules_it_is_given() {
    let events = publisher().await;
    let published = events.broadcast("kept", "e", &1).await.unwrap();
    assert_eq!(published.position.unwrap().offset, 1);
    let published = events.broadcast("other", "e", &1).await.unwrap();
    assert_eq!(published.position, None);
    assert_eq!(events.connection_count().await.unwrap(), 0);
    assert!(events.channels().await.unwrap().is_empty());
    events.close().await.unwrap();
}

#[tokio::test]
async fn what_the_engine_cannot_confirm_is_refused_before_anything_is_published() {
    let events = publisher().await;
    let timeout = Duration::from_secs(1);
    let careful = events.clone().with_level(PublishLevel::Fsynced { timeout });
    let error = careful.broadcast("kept", "e", &1).await.unwrap_err();
    let is_refused = matches!(
        &error,
        PublishError::Engine {
            error: EngineError::Unsupported { .. },
            ..
        }
    );
    assert!(is_refused, "{error:?}");
    let level = PublishLevel::Replicated {
        replicas: 1,
        timeout,
    };
    let publication = Publication::new(
        ChannelName::new("kept").unwrap(),
        EventName::new("e").unwrap(),
        RawJson::null(),
    );
    assert!(events.publish(publication.with_level(level)).await.is_err());
    let published = events.broadcast("kept", "e", &1).await.unwrap();
    assert_eq!(published.position.unwrap().offset, 1, "the first one");
}

#[tokio::test]
async fn closing_ends_the_engine_and_later_calls_say_so() {
    let events = publisher().await;
    let other = events.clone();
    events.close().await.unwrap();
    let error = other.broadcast("kept", "e", &1).await.unwrap_err();
    assert!(matches!(error, PublishError::Engine { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_under_way_and_not_for_ever() {
    let events = publisher().await;
    let call = events.calls.token();
    let closing = tokio::spawn(events.clone().close());
    tokio::task::yield_now().await;
    assert!(!closing.is_finished());
    drop(call);
    closing.await.unwrap().unwrap();

    let events = publisher().await;
    let _endless = events.calls.token();
    let error = events.clone().close().await.unwrap_err();
    assert!(matches!(error, ClusterError::Unfinished { calls: 1 }));
}
