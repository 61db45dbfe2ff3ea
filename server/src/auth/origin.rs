//! Which websites may connect: a defence against pages that borrow their visitor's cookies.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::Authorizer;
use crate::refusal_log::{RefusalLog, Shown};

/// Which origins may connect and ask the auth endpoint.
///
/// A browser names the page's origin (scheme, host and port) in every WebSocket handshake and every request to another
/// origin, and no script can change it. The default is [`Origins::same_host`]. Programs that are not browsers send no
/// `Origin` and no cookies, and pass.
///
/// The same judgement holds for both: a page that may open the WebSocket may also read the answers of the auth endpoint
/// (CORS), and no other page may.
///
/// ```
/// use fanfare_server::auth::Origins;
///
/// let origins = Origins::list(["https://app.example.com", "http://localhost:5173"])?;
/// assert!(Origins::list(["https://app.example.com/"]).is_err());
/// # Ok::<(), fanfare_server::auth::BadOrigin>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Origins(Allowed);

#[derive(Debug, Clone, Default)]
enum Allowed {
    #[default]
    SameHost,
    /// Serialized as browsers do it (RFC 6454, 6.2).
    List(Arc<[Box<str>]>),
    Any,
}

/// A text is not an origin as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an origin: write scheme, host and port as in https://app.example.com or http://localhost:5173, \
     with nothing behind and international names in punycode"
)]
pub struct BadOrigin {
    /// The text.
    pub text: String,
}

/// Why a request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OriginRefused {
    /// It carries cookies but does not say which page sent it.
    #[error("a request with cookies needs an Origin header")]
    Missing,
    /// Its origin is not on the list.
    #[error("this origin is not allowed")]
    NotListed,
    /// It carries cookies and comes from a page of another host.
    #[error(
        "this origin is not allowed: it differs from the host, and no list of origins is configured"
    )]
    OtherHost,
    /// Its origin is no origin, or there are several.
    #[error("the Origin header is not valid")]
    Malformed,
}

impl Origins {
    /// Allows exactly these origins; nothing is matched by part. A request without `Origin` passes if it carries no cookie.
    ///
    /// # Errors
    /// When a text is not an origin. Upper case and default ports are put right, anything else is refused.
    pub fn list<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, BadOrigin> {
        let list = origins.into_iter().map(|text| {
            let text = text.as_ref();
            let lower = text.to_ascii_lowercase();
            let origin = Origin::parse(&lower).ok_or_else(|| BadOrigin {
                text: text.to_owned(),
            })?;
            Ok(origin.serialize().into())
        });
        Ok(Self(Allowed::List(list.collect::<Result<_, _>>()?)))
    }

    /// Requests with cookies have to come from a page of the same host and port, judged by the `Host` header; the default.
    ///
    /// Without cookies nothing is checked. The schemes are not compared, because the server does not see whether a proxy
    /// in front of it speaks TLS. Behind a proxy that rewrites `Host`, `Sec-Fetch-Site` vouches for the page, where the browser
    /// sends it; a WebSocket of other browsers needs a [list](Origins::list).
    #[must_use]
    pub const fn same_host() -> Self {
        Self(Allowed::SameHost)
    }

    /// Allows every website. With cookies as credentials, any page can then act for whoever visits it.
    #[must_use]
    pub const fn any() -> Self {
        Self(Allowed::Any)
    }

    /// Judges a request by its headers. `reads_cookies`: whether what a browser adds by itself could say who the caller is.
    fn check(&self, headers: &HeaderMap, reads_cookies: bool) -> Result<(), OriginRefused> {
        let is_ambient = reads_cookies && has_ambient_credentials(headers);
        match &self.0 {
            Allowed::Any => Ok(()),
            Allowed::SameHost if !is_ambient || is_own_page(headers) => Ok(()),
            Allowed::SameHost => {
                let origin = sent_origin(headers)?.ok_or(OriginRefused::Missing)?;
                let origin = Origin::parse(origin).ok_or(OriginRefused::Malformed)?;
                let is_same = only_value(headers, &HOST)
                    .is_some_and(|host| origin.is_at(&host.to_ascii_lowercase()));
                is_same.then_some(()).ok_or(OriginRefused::OtherHost)
            }
            Allowed::List(list) => match sent_origin(headers)? {
                Some(origin) if list.iter().any(|listed| **listed == *origin) => Ok(()),
                Some(_) => Err(OriginRefused::NotListed),
                None if is_ambient && !is_own_page(headers) => Err(OriginRefused::Missing),
                None => Ok(()),
            },
        }
    }
}

/// The one judgement of origins, for handshakes, the auth endpoint and its preflight requests.
pub(crate) struct OriginGate {
    origins: Origins,
    authorizer: Arc<dyn Authorizer>,
    refusals: RefusalLog,
}

impl OriginGate {
    pub(crate) fn new(origins: Origins, authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            origins,
            authorizer,
            refusals: RefusalLog::new(),
        }
    }

    /// Admits a request, and answers the origin whose page may read the answer, where a page sent it.
    ///
    /// A preflight request carries no credentials, so it is admitted wherever a request without them is. What follows it is
    /// judged for itself.
    ///
    /// # Errors
    /// Why it may not go on; it is in the log by then, at a bounded rate.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, OriginRefused> {
        let reads_cookies = self.authorizer.reads_cookies();
        if let Err(refused) = self.origins.check(headers, reads_cookies) {
            let origin = headers.get(ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
            if let Some(unsaid) = self.refusals.turn((refused, origin)) {
                let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
                let (origin, host) = (Shown(origin), Shown(host));
                tracing::warn!(%origin, %host, unsaid, error = %refused, "origin refused");
            }
            return Err(refused);
        }
        let mut sent = headers.get_all(ORIGIN).iter();
        match (sent.next(), sent.next()) {
            (Some(origin), None) => Ok(Some(origin.clone())),
            _ => Ok(None),
        }
    }
}

impl fmt::Debug for OriginGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OriginGate").field(&self.origins).finish()
    }
}

/// Whether a browser may have added credentials by itself: cookies, or a login that it remembers (Basic, Negotiate and the
/// like). A bearer token is shown by a script alone, and a program that is no browser sends no `Origin` beside its login.
fn has_ambient_credentials(headers: &HeaderMap) -> bool {
    let is_remembered = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|&byte| byte == b' ').next();
        scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case(b"bearer"))
    };
    headers.contains_key(COOKIE)
        || (headers.contains_key(ORIGIN)
            && headers.get_all(AUTHORIZATION).iter().any(is_remembered))
}

/// Whether the browser says that a page of the requested origin itself sent this, or no page did. No script can say so.
fn is_own_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "same-origin" || site == "none")
}

/// The one `Origin` header, where there is one.
fn sent_origin(headers: &HeaderMap) -> Result<Option<&str>, OriginRefused> {
    if !headers.contains_key(ORIGIN) {
        return Ok(None);
    }
    only_value(headers, &ORIGIN)
        .map(Some)
        .ok_or(OriginRefused::Malformed)
}

fn only_value<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// An origin as browsers serialize it (RFC 6454, 6.2).
struct Origin(Url);

impl Origin {
    /// Parses an origin in lower case, also with the default port of its scheme; `None` for every other URL.
    fn parse(text: &str) -> Option<Self> {
        let origin = Self(Url::parse(text).ok()?);
        // The URL standard allows both, and no page has such an origin: a wildcard would match nothing.
        if origin.0.host_str()?.contains('*') || origin.0.port() == Some(0) {
            return None;
        }
        let serialized = origin.serialize();
        let default = origin.0.port_or_known_default();
        let is_origin = text == serialized
            || default.is_some_and(|port| text == format!("{serialized}:{port}"));
        is_origin.then_some(origin)
    }

    /// Whether a `Host` header in lower case names the same host and port.
    fn is_at(&self, host_header: &str) -> bool {
        let requested = Self::parse(&format!("{}://{host_header}", self.0.scheme()));
        requested.is_some_and(|requested| requested.serialize() == self.serialize())
    }

    /// Returns the origin without a default port.
    fn serialize(&self) -> String {
        // `Url::origin` is opaque for the schemes of applications, such as `app://localhost`.
        let (scheme, host) = (self.0.scheme(), self.0.host_str().unwrap_or_default());
        match self.0.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: [&str; 4] = [
        "https://app.example.com",
        "http://localhost:5173",
        "https://xn--bcher-kva.example",
        "http://[::1]:8000",
    ];

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|&(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (http::HeaderName::from_static(name), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[track_caller]
    fn check(origins: &Origins, pairs: &[(&'static str, &str)], expect: Result<(), OriginRefused>) {
        assert_eq!(origins.check(&headers(pairs), true), expect, "{pairs:?}");
    }

    #[test]
    fn only_an_exactly_listed_origin_passes_with_cookies() {
        let list = Origins::list(LISTED).unwrap();
        let passes = [
            "https://app.example.com",
            "http://localhost:5173",
            "https://xn--bcher-kva.example",
            "http://[::1]:8000",
        ];
        for origin in passes {
            check(&list, &[("origin", origin), ("cookie", "s=1")], Ok(()));
        }
        let refused = [
            "",
            "*",
            "null",
            "NULL",
            "http://app.example.com",
            "wss://app.example.com",
            "HTTPS://APP.EXAMPLE.COM",
            "https://App.example.com",
            "https://app.example.com.",
            "https://app.example.com/",
            "https://app.example.com:443",
            "https://app.example.com:8443",
            "https://app.example.com:",
            "https://app.example.com.evil.io",
            "https://evilapp.example.com",
            "https://evil.io/app.example.com",
            "https://evil.io#app.example.com",
            "https://evil.io?https://app.example.com",
            "https://app.example.com@evil.io",
            "https://user@app.example.com",
            "https://example.com",
            "https://sub.app.example.com",
            "https://app_example.com",
            "https://b\u{fc}cher.example",
            "https://app.example.com, https://evil.io",
            "https://app.example.com https://evil.io",
            "https://127.0.0.1",
            "http://localhost",
            "http://localhost:05173",
            "http://127.0.0.1:5173",
            "http://[::1]:8001",
            "file://",
            "chrome-extension://abcdef",
            "app.example.com",
        ];
        for origin in refused {
            let sent = headers(&[("origin", origin), ("cookie", "s=1")]);
            assert!(list.check(&sent, true).is_err(), "{origin:?}");
            let sent = headers(&[("origin", origin)]);
            assert!(
                list.check(&sent, true).is_err(),
                "{origin:?} without cookies"
            );
        }
        let twice = [
            ("origin", "https://app.example.com"),
            ("origin", "https://app.example.com"),
        ];
        check(&list, &twice, Err(OriginRefused::Malformed));
    }

    #[test]
    fn a_missing_origin_passes_a_list_only_without_cookies() {
        let list = Origins::list(LISTED).unwrap();
        check(&list, &[], Ok(()));
        check(&list, &[("cookie", "s=1")], Err(OriginRefused::Missing));
        assert!(list.check(&headers(&[("cookie", "s=1")]), false).is_ok());
    }

    #[test]
    fn cookies_need_the_same_host_by_default() {
        #[track_caller]
        fn with_cookies(origin: &str, host: &str, expect: Result<(), OriginRefused>) {
            let pairs = [("origin", origin), ("host", host), ("cookie", "s=1")];
            check(&Origins::default(), &pairs, expect);
        }
        let other = Err(OriginRefused::OtherHost);
        let malformed = Err(OriginRefused::Malformed);
        with_cookies("https://app.com", "app.com", Ok(()));
        with_cookies("https://app.com", "APP.com", Ok(()));
        with_cookies("https://app.com", "app.com:443", Ok(()));
        with_cookies("http://app.com", "app.com:80", Ok(()));
        with_cookies("http://localhost:8000", "localhost:8000", Ok(()));
        with_cookies("http://[::1]:8000", "[::1]:8000", Ok(()));
        with_cookies("http://localhost:5173", "localhost:8000", other);
        with_cookies("http://app.com", "app.com:443", other);
        with_cookies("https://app.com:8443", "app.com", other);
        with_cookies("https://app.com.evil.io", "app.com", other);
        with_cookies("https://evilapp.com", "app.com", other);
        with_cookies("https://app.com.", "app.com", other);
        with_cookies("http://localhost", "127.0.0.1", other);
        with_cookies("https://app.com", "app.com@evil.io", other);
        with_cookies("https://app.com", "app.com:x", other);
        with_cookies("https://app.com", "", other);
        with_cookies("null", "app.com", malformed);
        with_cookies("null", "null", malformed);
        with_cookies("", "app.com", malformed);
        with_cookies("https://", "app.com", malformed);
        with_cookies("https://app.com/", "app.com", malformed);
        with_cookies("https://app.com@evil.io", "evil.io", malformed);

        let host = ("host", "app.com");
        check(
            &Origins::default(),
            &[host, ("cookie", "s=1")],
            Err(OriginRefused::Missing),
        );
        check(
            &Origins::default(),
            &[("origin", "https://app.com"), ("cookie", "s=1")],
            other,
        );
        let two_hosts = [("origin", "https://app.com"), host, host, ("cookie", "s=1")];
        check(&Origins::default(), &two_hosts, other);
    }

    #[test]
    fn nothing_is_checked_by_default_without_cookies() {
        for origin in ["https://evil.io", "null", ""] {
            check(
                &Origins::default(),
                &[("origin", origin), ("host", "app.com")],
                Ok(()),
            );
        }
        let tracked = headers(&[
            ("origin", "https://a.com"),
            ("host", "b.com"),
            ("cookie", "ad=1"),
        ]);
        assert!(Origins::default().check(&tracked, false).is_ok());
    }

    #[test]
    fn any_checks_nothing() {
        check(
            &Origins::any(),
            &[("origin", "https://evil.io"), ("cookie", "s=1")],
            Ok(()),
        );
        check(&Origins::any(), &[("cookie", "s=1")], Ok(()));
    }

    #[test]
    fn a_list_is_put_into_the_form_that_browsers_send() {
        let list = [
            "HTTPS://App.Example.com:443",
            "http://a.b:8080",
            "app://localhost",
            "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai",
        ];
        let list = Origins::list(list).unwrap();
        check(&list, &[("origin", "app://localhost")], Ok(()));
        check(&list, &[("origin", "https://app.example.com")], Ok(()));
        check(&list, &[("origin", "http://a.b:8080")], Ok(()));
        for text in [
            "",
            "*",
            "null",
            "https://",
            "https://a.b/",
            "https://a.b/c",
            "https://*.a.b",
            "a.b",
            "https://a.b:0",
            "https://a.b:99999",
            "https://a b",
            "https://u@a.b",
            "://a.b",
            "https://b\u{fc}cher.example",
            "http://[::1",
            "http://[zz]",
            "1http://a.b",
            "http://127.1",
            "http://[0:0::1]",
            "https://a.b:080",
            "https://a.b\\c",
            "app://*",
            "file:///a",
            "data:text/html,a",
        ] {
            let error = Origins::list([text]).unwrap_err();
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn the_browser_vouches_for_a_page_of_this_very_origin() {
        let site = |site| ("sec-fetch-site", site);
        let cookie = ("cookie", "s=1");
        let moved = [
            ("host", "backend:8000"),
            ("origin", "https://app.com"),
            cookie,
        ];
        let same_host = Origins::default();
        check(&same_host, &moved, Err(OriginRefused::OtherHost));
        check(
            &same_host,
            &[&moved[..], &[site("same-origin")]].concat(),
            Ok(()),
        );
        for other in ["same-site", "cross-site", "", "Same-Origin"] {
            let pairs = [&moved[..], &[site(other)]].concat();
            check(&same_host, &pairs, Err(OriginRefused::OtherHost));
        }
        // A list is exact: a proxy in between may serve pages of its own.
        let list = Origins::list(LISTED).unwrap();
        let pairs = [&moved[..], &[site("same-origin")]].concat();
        check(&list, &pairs, Err(OriginRefused::NotListed));
        check(&list, &[cookie, site("same-origin")], Ok(()));
        check(
            &list,
            &[cookie, site("cross-site")],
            Err(OriginRefused::Missing),
        );
    }

    #[test]
    fn a_login_that_the_browser_remembers_counts_like_a_cookie() {
        let from = |authorization| {
            [
                ("host", "app.com"),
                ("origin", "https://evil.io"),
                ("authorization", authorization),
            ]
        };
        for remembered in ["Basic YTpi", "negotiate YII", "Digest username=\"a\"", ""] {
            let refused = Err(OriginRefused::OtherHost);
            check(&Origins::default(), &from(remembered), refused);
        }
        check(&Origins::default(), &from("Bearer abc"), Ok(()));
        check(&Origins::default(), &from("bearer abc"), Ok(()));
        // A program says its password on purpose.
        let program = [("host", "app.com"), ("authorization", "Basic YTpi")];
        check(&Origins::default(), &program, Ok(()));
    }

    #[test]
    fn who_is_admitted_may_read_the_answer_and_who_is_refused_is_in_the_log() {
        let (log, _guard) = crate::refusal_log::captured(tracing::Level::INFO);
        let gate = |origins| OriginGate::new(origins, Arc::new(crate::auth::PublicOnly));
        let list = gate(Origins::list(LISTED).unwrap());
        let listed = headers(&[("origin", LISTED[0])]);
        let evil = headers(&[("origin", "https://evil.io\u{e9}"), ("host", "app.com")]);
        let reader = |origin| Ok(Some(HeaderValue::from_static(origin)));
        assert_eq!(list.admit(&listed), reader(LISTED[0]));
        assert_eq!(list.admit(&HeaderMap::new()), Ok(None));
        assert_eq!(log.taken(), "");
        for _ in 0..100 {
            assert!(list.admit(&evil).is_err());
        }
        let said = log.taken();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("WARN"), "{said}");
        assert!(said.contains("host=app.com"), "{said}");
        assert!(said.contains("the Origin header is not valid"), "{said}");
        assert!(said.contains(r"origin=https://evil.io\xc3\xa9"), "{said}");
        let other = headers(&[("origin", "https://evil.io")]);
        assert_eq!(list.admit(&other), Err(OriginRefused::NotListed));
        let said = log.taken();
        assert!(said.contains("origin=https://evil.io "), "{said}");
        // Without cookies any page may connect, and so any page may read.
        for origins in [Origins::same_host(), Origins::any()] {
            assert_eq!(gate(origins).admit(&other), reader("https://evil.io"));
        }
        let twice = headers(&[("origin", LISTED[0]), ("origin", LISTED[0])]);
        assert_eq!(gate(Origins::any()).admit(&twice), Ok(None));
    }
}
