//! Asking the sentinels who the master is.

use std::time::Duration;

use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{ConnectionAddr, TlsMode};

use super::connections::{Server, connection_info};
use super::error::CommandError;
use super::options::RedisOptions;

/// The master as the first sentinel says that names one which calls itself master.
///
/// Nothing is kept between calls: they are rare, and a sentinel that was unreachable may be back.
pub(super) async fn master(
    options: &RedisOptions,
    sentinels: &[ConnectionAddr],
    name: &str,
) -> Result<Server, CommandError> {
    let infos: redis::RedisResult<Vec<_>> = sentinels
        .iter()
        .map(|address| connection_info(address.clone(), &options.sentinel_login, 0))
        .collect();
    let node = || {
        let address = ConnectionAddr::Tcp(String::new(), 0);
        let info = connection_info(address, &options.login, options.database)?;
        let node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(info.redis_settings().clone())
            .set_tcp_settings(info.tcp_settings().clone());
        Ok(if options.has_tls {
            node.set_tls_mode(TlsMode::Secure)
        } else {
            node
        })
    };
    let sentinels = Server::new(&sentinels[0]);
    let refused = |error: redis::RedisError| CommandError::while_opening(&sentinels, &error);
    let node = node().map_err(refused)?;
    let mut sentinel = infos.and_then(Sentinel::build).map_err(refused)?;
    let asking = sentinel.async_master_for(name, Some(&node));
    match tokio::time::timeout(LOOK_UP_DEADLINE, asking).await {
        Ok(Ok(client)) => Ok(Server::new(client.get_connection_info().addr())),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(CommandError::NotExecuted(format!(
            "no sentinel named a master within {LOOK_UP_DEADLINE:?}"
        ))),
    }
}

/// 3 s: twice what one silent sentinel, or one silent master, takes.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(3);
