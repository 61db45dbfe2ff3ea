//! An application's own rules for channels, on top of any way to say who a caller is.

use std::fmt;

use async_trait::async_trait;
use fanfare_protocol::{ChannelName, EventName};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Authorizer, Caller, Credentials, Denied, Grant, Identity};

type Subscribe =
    Box<dyn Fn(Caller, ChannelName) -> BoxFuture<'static, Result<Grant, Denied>> + Send + Sync>;
type Publish = Box<
    dyn Fn(Caller, ChannelName, EventName) -> BoxFuture<'static, Result<(), Denied>> + Send + Sync,
>;

/// Closures that decide about channels, in place of what another authorizer says about them.
///
/// ```
/// use fanfare_server::protocol::ChannelKind;
/// use fanfare_server::auth::{Denied, Grant, Policy, PublicOnly};
///
/// let policy = Policy::over(PublicOnly).with_subscribe(|caller, channel| async move {
///     match channel.kind() {
///         ChannelKind::Public => Ok(Grant::default()),
///         // private-user.<id> is for that user alone.
///         _ if channel.without_prefix() == format!("user.{}", caller.user()?) => Ok(Grant::default()),
///         _ => Err(Denied::refused("access denied")),
///     }
/// });
/// # let _ = policy;
/// ```
pub struct Policy {
    base: Box<dyn Authorizer>,
    subscribe: Option<Subscribe>,
    publish: Option<Publish>,
}

impl Policy {
    /// Leaves everything to an authorizer, until a closure replaces it.
    pub fn over(base: impl Authorizer + 'static) -> Self {
        Self {
            base: Box::new(base),
            subscribe: None,
            publish: None,
        }
    }

    /// Decides who may subscribe; asked for every kind of channel.
    #[must_use]
    pub fn with_subscribe<F, R>(mut self, decide: F) -> Self
    where
        F: Fn(Caller, ChannelName) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Grant, Denied>> + Send + 'static,
    {
        self.subscribe = Some(Box::new(move |caller, channel| {
            decide(caller, channel).boxed()
        }));
        self
    }

    /// Decides who may publish client events, where the channel's rule allows them at all.
    #[must_use]
    pub fn with_publish<F, R>(mut self, decide: F) -> Self
    where
        F: Fn(Caller, ChannelName, EventName) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Denied>> + Send + 'static,
    {
        self.publish = Some(Box::new(move |caller, channel, event| {
            decide(caller, channel, event).boxed()
        }));
        self
    }
}

#[async_trait]
impl Authorizer for Policy {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        self.base.connect(credentials).await
    }

    async fn subscribe(&self, caller: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        match &self.subscribe {
            Some(decide) => decide(caller.clone(), channel.clone()).await,
            None => self.base.subscribe(caller, channel).await,
        }
    }

    async fn publish(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        event: &EventName,
    ) -> Result<(), Denied> {
        match &self.publish {
            Some(decide) => decide(caller.clone(), channel.clone(), event.clone()).await,
            None => self.base.publish(caller, channel, event).await,
        }
    }

    fn reads_cookies(&self) -> bool {
        self.base.reads_cookies()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("subscribe", &self.subscribe.is_some())
            .field("publish", &self.publish.is_some())
            .finish_non_exhaustive()
    }
}

/// Knows nobody: every connection is anonymous, public channels are open and other channels need a channel token.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublicOnly;

#[async_trait]
impl Authorizer for PublicOnly {
    async fn connect(&self, _: &Credentials<'_>) -> Result<Identity, Denied> {
        Err(Denied::NoCredentials)
    }

    fn reads_cookies(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use fanfare_protocol::{ChannelKind, SocketId, UserId};

    use super::*;

    fn caller(user: Option<&str>) -> Caller {
        let identity = user.map(|user| Identity::new(UserId::new(user).unwrap()));
        Caller::new(SocketId::from_bits(1), identity)
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[tokio::test]
    async fn public_channels_are_open_to_a_nobody_and_others_are_not() {
        let token = super::super::Token::new("anything");
        let credentials = Credentials::new(None, Some(&token), None);
        assert_eq!(
            PublicOnly.connect(&credentials).await,
            Err(Denied::NoCredentials)
        );
        let may = async |name| {
            PublicOnly
                .subscribe(&caller(None), &channel(name))
                .await
                .is_ok()
        };
        assert!(may("orders").await);
        assert!(!may("private-orders").await);
        assert!(!may("presence-orders").await);
        assert!(!may("user:ann").await);
        assert!(!PublicOnly.reads_cookies());
    }

    #[tokio::test]
    async fn closures_take_the_place_of_the_base() {
        let policy = Policy::over(PublicOnly).with_subscribe(|caller, channel| async move {
            match channel.kind() {
                ChannelKind::Public => Err(Denied::refused("closed")),
                _ if channel.without_prefix() == format!("user.{}", caller.user()?) => {
                    Ok(Grant::default())
                }
                _ => Err(Denied::refused("access denied")),
            }
        });
        let rows = [
            (None, "orders", Err(Denied::refused("closed"))),
            (None, "private-user.ann", Err(Denied::NoCredentials)),
            (Some("ann"), "private-user.ann", Ok(Grant::default())),
            (
                Some("ann"),
                "private-user.ann.",
                Err(Denied::refused("access denied")),
            ),
            (
                Some("ann"),
                "private-user.bob",
                Err(Denied::refused("access denied")),
            ),
        ];
        for (user, name, expect) in rows {
            let answer = policy.subscribe(&caller(user), &channel(name)).await;
            assert_eq!(answer, expect, "{user:?} {name}");
        }
        let event = EventName::new("typing").unwrap();
        let publish = policy
            .publish(&caller(None), &channel("orders"), &event)
            .await;
        assert_eq!(publish, Ok(()));

        let policy = policy.with_publish(|caller, _, event| async move {
            caller.user()?;
            match event.as_str() {
                "typing" => Ok(()),
                _ => Err(Denied::refused("only typing")),
            }
        });
        let may = async |user, event| {
            let event = EventName::new(event).unwrap();
            policy
                .publish(&caller(user), &channel("orders"), &event)
                .await
        };
        assert_eq!(may(Some("ann"), "typing").await, Ok(()));
        assert_eq!(
            may(Some("ann"), "shout").await,
            Err(Denied::refused("only typing"))
        );
        assert_eq!(may(None, "typing").await, Err(Denied::NoCredentials));
    }
}
