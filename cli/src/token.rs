//! `fanfare token`: makes channel tokens and connection tokens, for scripts and for trials.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the comments are the help, which clap prints as it is"
)]

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use fanfare_server::auth::{
    ChannelTokens, INFO_BYTES_MAX, JwtKey, JwtKeyError, Lasts, TokenClaims, WeakSecret,
};
use fanfare_server::protocol::{ChannelName, RawJson, SocketId, UserId};
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::duration;
use crate::options::KeyOptions;
use crate::settings::Secrets;

/// Makes a token and writes it to standard output.
///
/// With --channel the token is a channel token: the fields `auth` and `channel_data` of a `subscribe` as JSON, signed with the
/// first --secret. A client must use it within 60 s. Without --channel the token is a JSON Web Token (HS256) with which a
/// connection authenticates as --user, signed with --jwt-secret.
///
/// Give the secrets that the servers have, by the same variables or configuration file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenOptions {
    #[command(flatten)]
    claims: ClaimOptions,
    #[command(flatten)]
    keys: KeyOptions,
}

/// The contents of a token.
#[derive(Args)]
struct ClaimOptions {
    /// Channel of the token
    #[arg(long, value_name = "NAME", requires = "socket_id")]
    channel: Option<ChannelName>,

    /// Connection of the token: `socket_id` of its `connected` message
    #[arg(long, value_name = "ID", requires = "channel")]
    socket_id: Option<SocketId>,

    /// User of the token; presence channels and connections need one
    #[arg(long, value_name = "ID")]
    user: Option<UserId>,

    /// Info that other members of a presence channel see, as JSON
    #[arg(long, value_name = "JSON", requires = "user", value_parser = info_text)]
    info: Option<RawJson>,

    /// Lifetime of the token [default: that of its connection, 15m for a connection token]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    lasts: Option<Duration>,

    /// Makes the channel token in the form of Pusher Channels
    ///
    /// The form is fanfare:<HMAC-SHA256 of socket_id:channel[:channel_data]>.
    #[arg(long, requires = "channel", conflicts_with = "lasts")]
    signature: bool,
}

const EXAMPLES: &str = "\
Examples:
  fanfare token --user 7 --lasts 1h
      A connection token for user 7
  fanfare token --channel private-orders --socket-id 0f1e2d3c4b5a69788796a5b4c3d2e1f0
      A channel token for one connection
  fanfare token --channel presence-room --socket-id 0f1e2d3c4b5a69788796a5b4c3d2e1f0 --user 7
      A channel token for a member";

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// No secret signs channel tokens.
    #[error("a channel token needs the secret of the servers: give --secret or FANFARE_SECRET")]
    NoSecret,
    /// No shared secret signs JSON Web Tokens.
    #[error(
        "a connection token needs the shared secret: give --jwt-secret or FANFARE_JWT_SECRET (for a public key, sign tokens \
         where the private key is)"
    )]
    NoJwtSecret,
    /// No user is given.
    #[error("{what} needs a user: give --user")]
    NoUser {
        /// The token or channel that needs one.
        what: &'static str,
    },
    /// The secret is not valid.
    #[error("the secret cannot be used")]
    Secret(#[from] WeakSecret),
    /// The shared secret is not valid.
    #[error("the JWT secret cannot be used")]
    JwtSecret(#[from] JwtKeyError),
    /// The token cannot be signed.
    #[error("the connection token cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Makes a token and writes it to standard output.
///
/// # Errors
/// When a key or an option is missing or not valid.
pub(crate) fn run(options: TokenOptions) -> Result<(), Box<dyn Error>> {
    let secrets = Secrets::resolve(options.keys)?;
    let token = make(&options.claims, &secrets)?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

fn make(options: &ClaimOptions, secrets: &Secrets) -> Result<String, TokenError> {
    let now = SystemTime::now();
    match (&options.channel, options.socket_id) {
        (Some(channel), Some(socket)) => channel_token(options, secrets, (socket, channel), now),
        _ => connection_token(options, secrets, now),
    }
}

/// The fields of `subscribe` that authorize it, as the auth endpoint returns them.
#[derive(Serialize)]
struct Permission {
    auth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_data: Option<String>,
}

fn channel_token(
    options: &ClaimOptions,
    secrets: &Secrets,
    (socket, channel): (SocketId, &ChannelName),
    now: SystemTime,
) -> Result<String, TokenError> {
    let secret = secrets.channels.first().ok_or(TokenError::NoSecret)?;
    let tokens = ChannelTokens::new(secret)?;
    let is_presence = channel.as_str().starts_with("presence-");
    if is_presence && options.user.is_none() {
        let what = "a presence channel";
        return Err(TokenError::NoUser { what });
    }
    // A signature names its user only in the member data.
    let names_member = is_presence || options.info.is_some() || options.signature;
    let user = options.user.as_ref();
    let channel_data = user
        .filter(|_| names_member)
        .map(|user| json!({ "id": user.as_str(), "info": info(options) }).to_string());
    let claims = TokenClaims::new(socket, channel)
        .with_user(user)
        .with_channel_data(channel_data.as_deref());
    let auth = if options.signature {
        tokens.sign_plain(&claims).ok_or(TokenError::NoSecret)?
    } else {
        let until = options.lasts.map(|lasts| now + lasts);
        tokens.sign(&claims, Lasts::default().with_until(until), now)
    };
    Ok(json_of(&Permission { auth, channel_data }))
}

/// Makes a JSON Web Token that a server with the same settings accepts.
fn connection_token(
    options: &ClaimOptions,
    secrets: &Secrets,
    now: SystemTime,
) -> Result<String, TokenError> {
    let secret = secrets.jwt.as_ref().ok_or(TokenError::NoJwtSecret)?;
    JwtKey::hs256(secret)?;
    let what = "a connection token";
    let user = options.user.as_ref().ok_or(TokenError::NoUser { what })?;
    let lasts = options.lasts.unwrap_or(CONNECTION_LASTS);
    let expires = (now + lasts).duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(user.as_str()));
    claims.insert("exp".to_owned(), json!(expires.as_secs()));
    if options.info.is_some() {
        claims.insert("info".to_owned(), info(options));
    }
    if let Some(issuer) = &secrets.jwt_issuer {
        claims.insert("iss".to_owned(), json!(issuer));
    }
    if let Some(audience) = secrets.jwt_audiences.first() {
        claims.insert("aud".to_owned(), json!(audience));
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

fn info(options: &ClaimOptions) -> Value {
    let info = options.info.as_ref();
    info.and_then(|info| info.decode().ok())
        .unwrap_or_else(|| json!({}))
}

/// Parses the info of a member, of which a server refuses more than the limit.
fn info_text(text: &str) -> Result<RawJson, String> {
    match text.len() {
        0..=INFO_BYTES_MAX => RawJson::parse(text).map_err(|error| error.to_string()),
        bytes => Err(format!(
            "the info has {bytes} bytes, the limit is {INFO_BYTES_MAX}: give less"
        )),
    }
}

fn json_of(value: &impl Serialize) -> String {
    // Strings and JSON values always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

/// 15 minutes: long enough for a trial.
const CONNECTION_LASTS: Duration = Duration::from_secs(15 * 60);
