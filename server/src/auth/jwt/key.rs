//! The keys that verify tokens.

use std::fmt;

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};

use super::claims::Head;

/// A key that verifies tokens, bound to the one algorithm it is for.
pub struct JwtKey {
    algorithm: Algorithm,
    /// The algorithm's name in RFC 7518, 3.1 or RFC 8037.
    name: &'static str,
    key: DecodingKey,
    id: Option<String>,
    pub(super) issuer: Option<String>,
}

/// A text cannot serve as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtKeyError {
    /// A shared secret is too short.
    #[error("an HS256 secret needs at least {bytes_min} bytes, this one has {bytes}")]
    WeakSecret {
        /// The length it has; 0 when it is blank.
        bytes: usize,
        /// The length it needs.
        bytes_min: usize,
    },
    /// A PEM file was given as a shared secret: whoever knows the public key could sign.
    #[error("this is a PEM file, not a shared secret: use rs256_pem, es256_pem or eddsa_pem")]
    PemAsSecret,
    /// An RSA key is too short.
    #[error("an RSA key needs at least {bits_min} bits, this one has {bits}")]
    WeakRsa {
        /// The length it has.
        bits: usize,
        /// The length it needs.
        bits_min: usize,
    },
    /// The text is not a public key of this kind.
    #[error("the text is not a public key in PEM form for {algorithm}")]
    NotAKey {
        /// What the key should be for.
        algorithm: &'static str,
    },
}

impl JwtKey {
    /// A secret of at least 32 bytes that signer and verifier share, for HS256.
    ///
    /// # Errors
    /// When the secret is shorter, or is a PEM file.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        let secret = secret.as_ref();
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(JwtKeyError::PemAsSecret);
        }
        // Blanks are what is left of a variable that was not filled in.
        let bytes = match secret.trim_ascii().is_empty() {
            true => 0,
            false => secret.len(),
        };
        if bytes < SECRET_BYTES_MIN {
            return Err(JwtKeyError::WeakSecret {
                bytes,
                bytes_min: SECRET_BYTES_MIN,
            });
        }
        Ok(Self::new(
            Algorithm::HS256,
            "HS256",
            DecodingKey::from_secret(secret),
        ))
    }

    /// An RSA public key of at least 2048 bits in PEM form, for RS256.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn rs256_pem(pem: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        const NOT_A_KEY: JwtKeyError = JwtKeyError::NotAKey { algorithm: "RS256" };
        let key = DecodingKey::from_rsa_pem(pem.as_ref()).map_err(|_| NOT_A_KEY)?;
        let der = key.try_get_as_bytes().map_err(|_| NOT_A_KEY)?;
        let read = DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_public_key;
        let (modulus, _) = read(der).map_err(|_| NOT_A_KEY)?;
        let bits = modulus.len() * 8;
        if bits < RSA_BITS_MIN {
            return Err(JwtKeyError::WeakRsa {
                bits,
                bits_min: RSA_BITS_MIN,
            });
        }
        Self::new(Algorithm::RS256, "RS256", key).usable()
    }

    /// A P-256 public key in PEM form, for ES256.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn es256_pem(pem: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        let key = DecodingKey::from_ec_pem(pem.as_ref())
            .map_err(|_| JwtKeyError::NotAKey { algorithm: "ES256" })?;
        Self::new(Algorithm::ES256, "ES256", key).usable()
    }

    /// An Ed25519 public key in PEM form, for EdDSA.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn eddsa_pem(pem: impl AsRef<[u8]>) -> Result<Self, JwtKeyError> {
        const NOT_A_KEY: JwtKeyError = JwtKeyError::NotAKey { algorithm: "EdDSA" };
        let key = DecodingKey::from_ed_pem(pem.as_ref()).map_err(|_| NOT_A_KEY)?;
        if key.try_get_as_bytes().map(<[u8]>::len) != Ok(32) {
            return Err(NOT_A_KEY);
        }
        Self::new(Algorithm::EdDSA, "EdDSA", key).usable()
    }

    /// Gives the key an id: it then verifies only tokens that name it as `kid`. A key without one verifies any token of its
    /// algorithm.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Binds the key to an issuer: it then verifies only tokens with this `iss`.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    const fn new(algorithm: Algorithm, name: &'static str, key: DecodingKey) -> Self {
        Self {
            algorithm,
            name,
            key,
            id: None,
            issuer: None,
        }
    }

    fn usable(self) -> Result<Self, JwtKeyError> {
        match (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key) {
            Ok(_) => Ok(self),
            Err(_) => Err(JwtKeyError::NotAKey {
                algorithm: self.name,
            }),
        }
    }

    /// Whether the key could have signed a token with this header.
    pub(super) fn is_for(&self, head: &Head) -> bool {
        let is_named = match &self.id {
            Some(id) => head.kid.as_ref() == Some(id),
            None => true,
        };
        is_named && self.has_algorithm(head)
    }

    /// Whether the key is for the algorithm that this header names.
    pub(super) fn has_algorithm(&self, head: &Head) -> bool {
        head.alg == self.name
    }

    /// Whether the key has signed this text.
    ///
    /// It asks the crypto provider by name: a process may hold several, and then has no default.
    pub(super) fn has_signed(&self, signed: &str, signature: &Vec<u8>) -> bool {
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key)
            .is_ok_and(|verifier| verifier.verify(signed.as_bytes(), signature).is_ok())
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("algorithm", &self.name)
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The algorithm of a token in our own words: what a token says there may be any text.
pub(super) fn known_algorithm(name: &str) -> &'static str {
    let mut known = ALGORITHMS.iter().copied();
    let found = known.find(|known| known.eq_ignore_ascii_case(name));
    found.unwrap_or("an unknown algorithm")
}

/// The names of RFC 7518, 3.1 and RFC 8037.
const ALGORITHMS: [&str; 14] = [
    "none", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
];
/// 32: RFC 7518, 3.2 requires a key as long as the digest.
const SECRET_BYTES_MIN: usize = 32;
/// 2048: RFC 7518, 3.3.
const RSA_BITS_MIN: usize = 2_048;
