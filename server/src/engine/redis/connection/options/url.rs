//! The URL that says how Redis is reached.

use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use redis::ConnectionAddr;
use url::Url;

use super::{KeyPrefixError, Login, RedisOptions, Target, address, check_prefix, host_and_port};

/// Why a text is not the URL of a Redis. None of these repeats the text: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It is set, and to nothing.
    #[error("the Redis URL (REDIS_URL) is set and empty: give it a value, or leave it out")]
    Empty,
    /// It does not begin with a known scheme.
    #[error(
        "a Redis URL begins with redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster:// or redis+unix://"
    )]
    Scheme,
    /// A host is missing or is not one.
    #[error("host {number} of the Redis URL must look like name:6379 or [::1]:6379")]
    Host {
        /// Which one, counted from 1.
        number: usize,
    },
    /// More than one host where only one can be.
    #[error("a redis:// URL has one host; for several write redis+sentinel:// or redis+cluster://")]
    SeveralHosts,
    /// Sentinel without the master's name.
    #[error(
        "a redis+sentinel:// URL ends with the name of the master: redis+sentinel://host/mymaster"
    )]
    Master,
    /// The database is not a number, or a cluster is to have one.
    #[error("the database in the Redis URL must be a number, and a cluster has only database 0")]
    Database,
    /// A `%` is not followed by two hexadecimal digits of UTF-8 text.
    #[error("the Redis URL has a % that does not stand for a character")]
    Encoding,
    /// An option that does not exist.
    #[error("the Redis URL has an unknown option {option:?}")]
    Option {
        /// Its name.
        option: String,
    },
    /// The prefix cannot be one.
    #[error("the Redis URL's prefix cannot be used")]
    Prefix(#[source] KeyPrefixError),
}

impl FromStr for RedisOptions {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (url, hosts) = parse(text)?;
        let scheme = url.scheme();
        let (word, kind) = scheme.split_once(['+', '-']).unwrap_or((scheme, ""));
        let has_tls = match word {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" if kind.is_empty() => return unix(&url, hosts),
            _ => return Err(RedisUrlError::Scheme),
        };
        let path = url.path().trim_start_matches('/');
        let addresses = |port| addresses(hosts, port, has_tls);
        let (target, database) = match kind {
            "" => {
                let mut addresses = addresses(REDIS_PORT)?.into_iter();
                match (addresses.next(), addresses.next()) {
                    (Some(address), None) => (Target::Single(address), path),
                    _ => return Err(RedisUrlError::SeveralHosts),
                }
            }
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(RedisUrlError::Master);
                }
                let sentinels = addresses(SENTINEL_PORT)?;
                let master = decoded(master)?;
                (Target::Sentinel { sentinels, master }, database)
            }
            "cluster" if matches!(path, "" | "0") => (Target::Cluster(addresses(REDIS_PORT)?), ""),
            "cluster" => return Err(RedisUrlError::Database),
            "unix" if !has_tls => return unix(&url, hosts),
            _ => return Err(RedisUrlError::Scheme),
        };
        let mut options = Self::new(target);
        options.login = login(&url)?;
        options.has_tls = has_tls;
        options.database = self::database(database)?;
        options.apply(&url)?;
        Ok(options)
    }
}

impl RedisOptions {
    fn apply(&mut self, url: &Url) -> Result<(), RedisUrlError> {
        let is_sentinel = matches!(self.target, Target::Sentinel { .. });
        let is_unix = matches!(self.target, Target::Single(ConnectionAddr::Unix(_)));
        // `Url::query_pairs` would read the `+` of a password as a space.
        let options = url.query().unwrap_or_default().split('&');
        for option in options.filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value)?;
            match name {
                "prefix" => {
                    check_prefix(&value).map_err(RedisUrlError::Prefix)?;
                    self.prefix = value;
                }
                "db" if is_unix => self.database = database(&value)?,
                "sentinel_username" if is_sentinel => self.sentinel_login.username = Some(value),
                "sentinel_password" if is_sentinel => self.sentinel_login.password = Some(value),
                _ => {
                    return Err(RedisUrlError::Option {
                        option: name.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Parses a URL with any number of hosts, and returns the hosts apart from the rest.
///
/// The library knows URLs with one host, so it gets a placeholder in place of the list.
fn parse(text: &str) -> Result<(Url, &str), RedisUrlError> {
    let start = text.find("://").ok_or(RedisUrlError::Scheme)? + 3;
    let length = text[start..].find(['/', '?']);
    let end = length.map_or(text.len(), |length| start + length);
    let authority = &text[start..end];
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let single = format!(
        "{}{PLACEHOLDER}{}",
        &text[..end - hosts.len()],
        &text[end..]
    );
    // A Redis URL has no fragment: the character belongs to a password.
    let url = Url::parse(&single.replace('#', "%23")).map_err(|_| RedisUrlError::Scheme)?;
    Ok((url, hosts))
}

fn unix(url: &Url, hosts: &str) -> Result<RedisOptions, RedisUrlError> {
    let has_authority = !hosts.is_empty() || url.authority() != PLACEHOLDER;
    if has_authority || url.path().is_empty() {
        return Err(RedisUrlError::Host { number: 1 });
    }
    let address = ConnectionAddr::Unix(PathBuf::from(decoded(url.path())?));
    let mut options = RedisOptions::new(Target::Single(address));
    options.apply(url)?;
    Ok(options)
}

fn login(url: &Url) -> Result<Login, RedisUrlError> {
    let username = Some(url.username()).filter(|username| !username.is_empty());
    Ok(Login {
        username: username.map(decoded).transpose()?,
        password: url.password().map(decoded).transpose()?,
    })
}

fn addresses(hosts: &str, port: u16, has_tls: bool) -> Result<Vec<ConnectionAddr>, RedisUrlError> {
    let hosts = hosts.split(',').enumerate();
    let addresses = hosts.map(|(index, host)| {
        let error = RedisUrlError::Host { number: index + 1 };
        let (host, port) = host_and_port(host, port).ok_or(error)?;
        Ok(address(host.to_owned(), port, has_tls))
    });
    addresses.collect()
}

fn database(text: &str) -> Result<i64, RedisUrlError> {
    let text = text.trim_end_matches('/');
    if text.is_empty() {
        return Ok(0);
    }
    let number: u32 = text.parse().map_err(|_| RedisUrlError::Database)?;
    Ok(i64::from(number))
}

/// Decodes a part of the URL. The library passes over a `%` that stands for no character; here it is a mistyped password.
fn decoded(text: &str) -> Result<String, RedisUrlError> {
    let is_encoded = |(at, _): (usize, &str)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.match_indices('%').all(is_encoded) {
        return Err(RedisUrlError::Encoding);
    }
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| RedisUrlError::Encoding)
}

const PLACEHOLDER: &str = "hosts";
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(url: &str) -> RedisOptions {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[track_caller]
    fn refused(url: &str, expected: &RedisUrlError) {
        let error = url.parse::<RedisOptions>().unwrap_err();
        assert_eq!(&error, expected, "{url}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    fn tcp(host: &str, port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp(host.to_owned(), port)
    }

    #[test]
    fn one_server() {
        let options = read("redis://localhost");
        assert_eq!(options.target, Target::Single(tcp("localhost", 6379)));
        assert_eq!(options.prefix, "fanfare:");
        let options = read("valkey://:p%40ss@[::1]:7000/3?prefix=shop:");
        assert_eq!(options.target, Target::Single(tcp("::1", 7000)));
        assert_eq!(options.login.username, None);
        assert_eq!(options.login.password.as_deref(), Some("p@ss"));
        assert_eq!((options.database, options.prefix.as_str()), (3, "shop:"));
        let options = read("rediss://ann:a:b@redis.example.org");
        assert!(options.has_tls);
        assert_eq!(options.login.username.as_deref(), Some("ann"));
        assert_eq!(options.login.password.as_deref(), Some("a:b"));
    }

    #[test]
    fn a_password_may_hold_what_a_url_does_not_reserve() {
        #[track_caller]
        fn check(written: &str, password: &str) {
            let options = read(&format!("redis://app:{written}@localhost"));
            assert_eq!(options.login.password.as_deref(), Some(password));
        }
        check("a+b", "a+b");
        check("a#b", "a#b");
        check("a@b", "a@b");
        check("a%2Fb%3Fc%25", "a/b?c%");
        check("a\"b|c^d", "a\"b|c^d");
        check("p\u{e4}ss", "p\u{e4}ss");
        let options = read("redis+sentinel://h/m?sentinel_password=a+b%26c#d");
        let password = options.sentinel_login.password;
        assert_eq!(password.as_deref(), Some("a+b&c#d"));
    }

    #[test]
    fn sentinel_in_both_spellings() {
        for url in [
            "redis+sentinel://app:pw@a,b:5000/mymaster/2?sentinel_password=x",
            "redis-sentinel://app:pw@a,b:5000/mymaster/2?sentinel_password=x",
        ] {
            let options = read(url);
            let expected = Target::Sentinel {
                sentinels: vec![tcp("a", 26379), tcp("b", 5000)],
                master: "mymaster".to_owned(),
            };
            assert_eq!(options.target, expected);
            assert_eq!(options.database, 2);
            assert_eq!(options.sentinel_login.password.as_deref(), Some("x"));
        }
    }

    #[test]
    fn cluster_and_unix_socket() {
        let options = read("rediss-cluster://a:1,b:2");
        assert!(matches!(&options.target, Target::Cluster(seeds) if seeds.len() == 2));
        assert!(options.has_tls);
        for url in [
            "unix:///run/redis.sock?db=1",
            "redis+unix:///run/redis.sock?db=1",
        ] {
            let options = read(url);
            let path = ConnectionAddr::Unix("/run/redis.sock".into());
            assert_eq!(
                (options.target, options.database),
                (Target::Single(path), 1)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let option = |option: &str| RedisUrlError::Option {
            option: option.to_owned(),
        };
        refused("localhost:6379", &RedisUrlError::Scheme);
        refused("http://x:secret@h", &RedisUrlError::Scheme);
        refused("rediss+unix://x:secret@h", &RedisUrlError::Scheme);
        for url in [
            "unix://h/run/redis.sock",
            "unix://:secret@/run/redis.sock",
            "unix://?db=1",
        ] {
            refused(url, &RedisUrlError::Host { number: 1 });
        }
        refused(
            "redis://x:secret@h:port",
            &RedisUrlError::Host { number: 1 },
        );
        refused(
            "redis+cluster://x:secret@a,,b",
            &RedisUrlError::Host { number: 2 },
        );
        refused("redis://x:secret@a,b", &RedisUrlError::SeveralHosts);
        refused("redis+sentinel://x:secret@a", &RedisUrlError::Master);
        refused("redis://x:secret@a/one", &RedisUrlError::Database);
        refused("redis+cluster://x:secret@a/1", &RedisUrlError::Database);
        refused("redis://x:%secret@a", &RedisUrlError::Encoding);
        refused("redis://x:secret@a?db=1", &option("db"));
        refused(
            "redis://x:secret@a?sentinel_password=secret",
            &option("sentinel_password"),
        );
        refused(
            "redis://x:secret@a?prefix=%7B",
            &RedisUrlError::Prefix(KeyPrefixError::Brace),
        );
        let shown = format!("{:?}", read("redis://x:secret@a"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
