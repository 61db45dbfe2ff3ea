//! Identities from what a web application already knows: its session cookie, or what its layers found out about a request.

use std::fmt;

use async_trait::async_trait;
use cookie::Cookie;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::COOKIE;
use http::request::Parts;

use super::{Authorizer, Credentials, Denied, Identity};

type Lookup = Box<dyn Fn(String) -> BoxFuture<'static, Found> + Send + Sync>;
type Inspect = Box<dyn Fn(&Parts) -> BoxFuture<'static, Found> + Send + Sync>;
type Found = Result<Option<Identity>, Denied>;

/// Says who a connection belongs to by its session cookie and a lookup of the application's.
///
/// The lookup gets the cookie's value as it was sent and answers with the session's user, with `None` for a session that is
/// unknown, has ended or has no user, or with [`Denied::Unavailable`] when the store does not answer.
///
/// ```
/// use fanfare_server::protocol::UserId;
/// use fanfare_server::auth::{CookieAuthorizer, Identity};
///
/// # async fn user_of(_: &str) -> Option<UserId> { None }
/// let authorizer = CookieAuthorizer::new("session", |value| async move {
///     Ok(user_of(&value).await.map(Identity::new))
/// });
/// # let _ = authorizer;
/// ```
pub struct CookieAuthorizer {
    name: String,
    lookup: Lookup,
}

impl CookieAuthorizer {
    /// Reads the cookie of this name.
    pub fn new<F, R>(name: impl Into<String>, lookup: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<Identity>, Denied>> + Send + 'static,
    {
        Self {
            name: name.into(),
            lookup: Box::new(move |value| lookup(value).boxed()),
        }
    }
}

#[async_trait]
impl Authorizer for CookieAuthorizer {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let request = credentials.request.ok_or(Denied::NoCredentials)?;
        let values = cookie_values(&request.headers, &self.name);
        let mut denied = Denied::NoCredentials;
        for value in values {
            match (self.lookup)(value).await? {
                Some(identity) => return Ok(identity),
                None => denied = Denied::refused("the session is unknown or has ended"),
            }
        }
        Err(denied)
    }
}

impl fmt::Debug for CookieAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieAuthorizer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Says who a connection belongs to by the request itself: its headers, and the extensions that layers put there.
///
/// Frameworks that resolve the session before a handler runs leave it in the extensions; the closure takes out what it needs
/// and returns a future that does not borrow the request. `None` means that nobody is signed in.
///
/// ```
/// use fanfare_server::protocol::UserId;
/// use fanfare_server::auth::{Identity, RequestAuthorizer};
///
/// #[derive(Clone)]
/// struct CurrentUser(UserId);
///
/// let authorizer = RequestAuthorizer::new(|request| {
///     let user = request.extensions.get::<CurrentUser>().cloned();
///     async move { Ok(user.map(|CurrentUser(id)| Identity::new(id))) }
/// });
/// # let _ = authorizer;
/// ```
pub struct RequestAuthorizer {
    inspect: Inspect,
}

impl RequestAuthorizer {
    /// Asks this closure about every request.
    pub fn new<F, R>(inspect: F) -> Self
    where
        F: Fn(&Parts) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<Identity>, Denied>> + Send + 'static,
    {
        Self {
            inspect: Box::new(move |request| inspect(request).boxed()),
        }
    }
}

#[async_trait]
impl Authorizer for RequestAuthorizer {
    async fn connect(&self, credentials: &Credentials<'_>) -> Result<Identity, Denied> {
        let request = credentials.request.ok_or(Denied::NoCredentials)?;
        let found = (self.inspect)(request).await?;
        found.ok_or(Denied::NoCredentials)
    }
}

impl fmt::Debug for RequestAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestAuthorizer").finish_non_exhaustive()
    }
}

/// The values that were sent under a name, in the order of the header.
///
/// A browser sends several when they were set for different paths or domains; only their order says which is meant.
fn cookie_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let sent = headers
        .get_all(COOKIE)
        .iter()
        // Other cookies are written by scripts of third parties, in any encoding: each one is read for itself.
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok())
        .filter_map(|pair| Cookie::parse(pair).ok())
        .filter(|cookie| cookie.name() == name && !cookie.value().is_empty());
    let mut values = Vec::new();
    for cookie in sent {
        if values.len() < SAME_NAME_MAX && !values.iter().any(|known| known == cookie.value()) {
            values.push(cookie.value().to_owned());
        }
    }
    values
}

/// 3: host, parent domain and one path; a request cannot make the store answer more often.
const SAME_NAME_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use fanfare_protocol::UserId;

    use super::*;

    /// Cookie headers, the answer, and what the lookup was asked.
    type Row<'a> = (&'a [&'a str], Result<&'a str, Denied>, &'a [&'a str]);

    fn request<T: AsRef<[u8]>>(cookies: &[T]) -> Parts {
        let mut builder = http::Request::builder();
        for cookie in cookies {
            builder = builder.header(COOKIE, cookie.as_ref());
        }
        builder.body(()).unwrap().into_parts().0
    }

    async fn connect(authorizer: &impl Authorizer, request: &Parts) -> Result<String, Denied> {
        let credentials = Credentials::new(Some(request), None, None);
        let identity = authorizer.connect(&credentials).await?;
        Ok(identity.user.as_str().to_owned())
    }

    #[tokio::test]
    async fn the_lookup_decides_about_the_cookie() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let authorizer = CookieAuthorizer::new("sid", move |value: String| {
            log.lock().unwrap().push(value.clone());
            async move {
                match value.as_str() {
                    "good" => Ok(Some(Identity::new(UserId::new("ann").unwrap()))),
                    "down" => Err(Denied::unavailable("the session store is down")),
                    _ => Ok(None),
                }
            }
        });
        let refused = Err(Denied::refused("the session is unknown or has ended"));
        let rows: [Row<'_>; 10] = [
            (&["sid=good"], Ok("ann"), &["good"]),
            (&["a=1; sid=good; b=2"], Ok("ann"), &["good"]),
            (&["a=1", "sid=good"], Ok("ann"), &["good"]),
            (&["sid=old; sid=good"], Ok("ann"), &["old", "good"]),
            (&["sid=x; sid=x"], refused.clone(), &["x"]),
            (
                &["sid=1; sid=2; sid=3; sid=good"],
                refused.clone(),
                &["1", "2", "3"],
            ),
            (
                &["sid=down"],
                Err(Denied::unavailable("the session store is down")),
                &["down"],
            ),
            (
                &["SID=good; xsid=good; sid="],
                Err(Denied::NoCredentials),
                &[],
            ),
            (&["nonsense;;; =; sid"], Err(Denied::NoCredentials), &[]),
            (&[], Err(Denied::NoCredentials), &[]),
        ];
        for (cookies, expect, lookups) in rows {
            let answer = connect(&authorizer, &request(cookies)).await;
            assert_eq!(answer, expect.map(str::to_owned), "{cookies:?}");
            assert_eq!(*asked.lock().unwrap(), lookups, "{cookies:?}");
            asked.lock().unwrap().clear();
        }
        let alone = authorizer
            .connect(&Credentials::new(None, None, None))
            .await;
        assert_eq!(alone, Err(Denied::NoCredentials));
    }

    #[tokio::test]
    async fn cookies_of_others_in_any_encoding_hide_nothing() {
        let authorizer = CookieAuthorizer::new("sid", |value: String| async move {
            Ok((value == "good").then(|| Identity::new(UserId::new("ann").unwrap())))
        });
        let rows: [&[&[u8]]; 5] = [
            &["visitor=Jos\u{e9}; sid=good".as_bytes()],
            &["sid=good; visitor=\u{540d}\u{524d}".as_bytes()],
            &[b"visitor=Jos\xe9; sid=good"],
            &[b"Jos\xe9=\xff\xfe;sid=good;\xe9"],
            &[b"\xe9", b"sid=\xe9", b"sid=good"],
        ];
        for cookies in rows {
            let answer = connect(&authorizer, &request(cookies)).await;
            assert_eq!(answer.as_deref(), Ok("ann"), "{cookies:?}");
        }
    }

    #[tokio::test]
    async fn layers_can_say_who_it_is() {
        #[derive(Clone)]
        struct CurrentUser(&'static str);

        let authorizer = RequestAuthorizer::new(|request| {
            let user = request.extensions.get::<CurrentUser>().cloned();
            async move { Ok(user.map(|CurrentUser(id)| Identity::new(UserId::new(id).unwrap()))) }
        });
        let mut request = request::<&str>(&[]);
        assert_eq!(
            connect(&authorizer, &request).await,
            Err(Denied::NoCredentials)
        );
        request.extensions.insert(CurrentUser("bob"));
        assert_eq!(connect(&authorizer, &request).await.unwrap(), "bob");
        assert!(authorizer.reads_cookies());
    }

    #[test]
    fn debug_shows_names_only() {
        let authorizer = CookieAuthorizer::new("sid", |_| async { Ok(None) });
        assert_eq!(
            format!("{authorizer:?}"),
            "CookieAuthorizer { name: \"sid\", .. }"
        );
    }
}
