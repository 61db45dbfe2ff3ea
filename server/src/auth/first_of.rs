//! Two ways to say who one is, tried in order.

use std::fmt;

use async_trait::async_trait;
use fanfare_protocol::{ChannelName, EventName};

use super::{Authorizer, Caller, Credentials, Denied, Grant, Identity};

/// Tries one authorizer and then another; see [`first_of`].
pub struct FirstOf {
    first: Box<dyn Authorizer>,
    second: Box<dyn Authorizer>,
}

/// Asks `first` who a connection belongs to, and `second` if that did not say.
///
/// A connection is refused when both refuse, or one does and the other was shown nothing; it is anonymous when both were shown
/// nothing. If neither accepts and one of them did not answer, the same request may succeed later.
///
/// About channels both are asked and have to agree, so neither can be bypassed by showing credentials for the other. Put rules
/// that hold for both on top, with a [`Policy`](super::Policy).
///
/// ```
/// use fanfare_server::auth::{CookieAuthorizer, JwtAuthorizer, JwtKey, first_of};
///
/// let jwt = JwtAuthorizer::new(JwtKey::hs256("a secret of at least thirty-two bytes")?);
/// let session = CookieAuthorizer::new("session", |_value| async { Ok(None) });
/// let authorizer = first_of(jwt, session);
/// # let _ = authorizer;
/// # Ok::<(), fanfare_server::auth::JwtKeyError>(())
/// ```
pub fn first_of(first: impl Authorizer + 'static, second: impl Authorizer + 'static) -> FirstOf {
    FirstOf {
        first: Box::new(first),
        second: Box::new(second),
    }
}

#[async_trait]
impl Authorizer for FirstOf {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let first = match self.first.connect(credentials).await {
            Ok(identity) => return Ok(identity),
            Err(denied) => denied,
        };
        match self.second.connect(credentials).await {
            Ok(identity) => Ok(identity),
            Err(second) => Err(joint(first, second)),
        }
    }

    async fn subscribe(&self, caller: &Caller, channel: &ChannelName) -> Result<Grant, Denied> {
        let first = self.first.subscribe(caller, channel).await?;
        let second = self.second.subscribe(caller, channel).await?;
        let ends = first.expires_at.into_iter().chain(second.expires_at);
        Ok(Grant {
            expires_at: ends.min(),
            info: first.info.or(second.info),
        })
    }

    async fn publish(
        &self,
        caller: &Caller,
        channel: &ChannelName,
        event: &EventName,
    ) -> Result<(), Denied> {
        self.first.publish(caller, channel, event).await?;
        self.second.publish(caller, channel, event).await
    }

    fn reads_cookies(&self) -> bool {
        self.first.reads_cookies() || self.second.reads_cookies()
    }
}

impl fmt::Debug for FirstOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstOf").finish_non_exhaustive()
    }
}

/// The answer when neither accepted: the one that leaves most hope, and of two refusals the first.
fn joint(first: Denied, second: Denied) -> Denied {
    match (first, second) {
        (unavailable @ Denied::Unavailable { .. }, _) => unavailable,
        (_, unavailable @ Denied::Unavailable { .. }) => unavailable,
        (refused @ Denied::Refused { .. }, _) => refused,
        (Denied::NoCredentials, second) => second,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use fanfare_protocol::{RawJson, SocketId, UserId};

    use super::*;

    struct Fixed {
        connect: Result<&'static str, Denied>,
        subscribe: Result<Grant, Denied>,
        publish: Result<(), Denied>,
        reads_cookies: bool,
    }

    fn says(connect: Result<&'static str, Denied>) -> Fixed {
        Fixed {
            connect,
            subscribe: Ok(Grant::default()),
            publish: Ok(()),
            reads_cookies: false,
        }
    }

    fn grants(subscribe: Result<Grant, Denied>) -> Fixed {
        Fixed {
            subscribe,
            ..says(Err(Denied::NoCredentials))
        }
    }

    #[async_trait]
    impl Authorizer for Fixed {
        async fn connect(&self, _: &Credentials<'_>) -> Result<Identity, Denied> {
            let user = self.connect.clone()?;
            Ok(Identity::new(UserId::new(user).unwrap()))
        }

        async fn subscribe(&self, _: &Caller, _: &ChannelName) -> Result<Grant, Denied> {
            self.subscribe.clone()
        }

        async fn publish(&self, _: &Caller, _: &ChannelName, _: &EventName) -> Result<(), Denied> {
            self.publish.clone()
        }

        fn reads_cookies(&self) -> bool {
            self.reads_cookies
        }
    }

    #[tokio::test]
    async fn the_first_that_accepts_decides_who_it_is() {
        let none = || Err(Denied::NoCredentials);
        let no = |reason: &str| Err(Denied::refused(reason));
        let down = |detail: &str| Err(Denied::unavailable(detail));
        let rows = [
            (Ok("ann"), Ok("bob"), Ok("ann")),
            (Ok("ann"), no("b"), Ok("ann")),
            (no("a"), Ok("bob"), Ok("bob")),
            (none(), Ok("bob"), Ok("bob")),
            (down("a"), Ok("bob"), Ok("bob")),
            (none(), none(), none()),
            (no("a"), none(), no("a")),
            (none(), no("b"), no("b")),
            (no("a"), no("b"), no("a")),
            (down("a"), no("b"), down("a")),
            (no("a"), down("b"), down("b")),
            (down("a"), down("b"), down("a")),
        ];
        for (first, second, expect) in rows {
            let both = first_of(says(first.clone()), says(second.clone()));
            let answer = both.connect(&Credentials::new(None, None, None)).await;
            let user = answer.as_ref().map(|identity| identity.user.as_str());
            assert_eq!(user, expect.as_ref().copied(), "{first:?} {second:?}");
        }
    }

    #[tokio::test]
    async fn about_channels_both_have_to_agree() {
        let caller = Caller::new(SocketId::from_bits(1), None);
        let channel = ChannelName::new("private-a").unwrap();
        let event = EventName::new("typing").unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let no = || Err(Denied::refused("no"));
        let info = Grant::default().with_info(RawJson::trusted("1"));

        for (first, second) in [(no(), Ok(())), (Ok(()), no()), (no(), no())] {
            let as_grant = |answer: &Result<(), Denied>| answer.clone().map(|()| Grant::default());
            let both = first_of(grants(as_grant(&first)), grants(as_grant(&second)));
            assert!(both.subscribe(&caller, &channel).await.is_err());
            let with_publish = |publish: Result<(), Denied>| Fixed {
                publish,
                ..says(Ok("ann"))
            };
            let both = first_of(with_publish(first), with_publish(second));
            assert!(both.publish(&caller, &channel, &event).await.is_err());
        }

        let both = first_of(
            grants(Ok(Grant::default().expiring_at(at(9)))),
            grants(Ok(info.clone().expiring_at(at(5)))),
        );
        let grant = both.subscribe(&caller, &channel).await;
        assert_eq!(grant, Ok(info.expiring_at(at(5))));
        assert_eq!(both.publish(&caller, &channel, &event).await, Ok(()));
    }

    #[test]
    fn cookies_count_when_either_reads_them() {
        let reads = |reads_cookies| Fixed {
            reads_cookies,
            ..says(Ok("ann"))
        };
        assert!(!first_of(reads(false), reads(false)).reads_cookies());
        assert!(first_of(reads(true), reads(false)).reads_cookies());
        assert!(first_of(reads(false), reads(true)).reads_cookies());
    }
}
