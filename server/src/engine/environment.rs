//! The engine that the environment asks for.

use std::ffi::OsStr;

use super::Engine;
use super::redis::{RedisOptions, RedisUrlError};

impl Engine {
    /// Redis where the environment variable `REDIS_URL` says which ([`RedisOptions`] has the forms), memory where it is absent.
    /// One that is set and empty is an error: who sets it wants Redis.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn from_env() -> Result<Self, RedisUrlError> {
        Ok(match options(std::env::var_os("REDIS_URL").as_deref())? {
            Some(options) => Self::redis(options),
            None => Self::memory(),
        })
    }
}

fn options(url: Option<&OsStr>) -> Result<Option<RedisOptions>, RedisUrlError> {
    let Some(url) = url else {
        return Ok(None);
    };
    let url = url.to_str().ok_or(RedisUrlError::Encoding)?;
    if url.trim().is_empty() {
        return Err(RedisUrlError::Empty);
    }
    url.parse().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_variable_that_is_absent_means_memory() {
        assert!(matches!(options(None), Ok(None)));
        for nothing in ["", "  "] {
            let error = options(Some(OsStr::new(nothing))).unwrap_err();
            assert_eq!(error, RedisUrlError::Empty);
        }
        let url = OsStr::new("redis://127.0.0.1:6390/?prefix=shop:");
        let found = options(Some(url)).unwrap().unwrap();
        assert_eq!(found.prefix, "shop:");
        let error = options(Some(OsStr::new("localhost"))).unwrap_err();
        assert_eq!(error, RedisUrlError::Scheme);
    }
}
