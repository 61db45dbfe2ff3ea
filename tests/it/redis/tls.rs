//! A Redis that is reached through TLS, as `rediss://` says, checked against an authority of one's own.

use std::fs;
use std::path::{Path, PathBuf};

use fanfare_tests::node::{Node, program};
use fanfare_tests::process::Folder;
use fanfare_tests::redis::{Redis, RedisConfig};
use fanfare_tests::socket::Socket;
use fanfare_tests::within;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::process::Command;

/// The setting of the port where Redis speaks TLS.
const TLS_PORT: &str = "tls-port";

/// A Redis that speaks TLS beside what the test itself speaks with it.
struct Encrypted {
    redis: Redis,
    url: String,
    authority: PathBuf,
    _folder: Folder,
}

impl Encrypted {
    async fn start() -> Self {
        let folder = Folder::new("tls").unwrap();
        let file = |name: &str| folder.path().join(name);
        write_certificates(folder.path());
        let config = RedisConfig::default()
            .other_port(TLS_PORT)
            .line(format!("tls-cert-file {}", file("server.pem").display()))
            .line(format!("tls-key-file {}", file("server.key").display()))
            .line(format!(
                "tls-ca-cert-file {}",
                file("authority.pem").display()
            ))
            .line("tls-auth-clients no");
        let redis = Redis::start_with(config).await;
        let port = redis.other_port(TLS_PORT).unwrap();
        Self {
            redis,
            url: format!("rediss://127.0.0.1:{port}/"),
            authority: file("authority.pem"),
            _folder: folder,
        }
    }
}

/// An authority, and a certificate for this machine that it has signed.
fn write_certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    fs::write(folder.join("server.pem"), server.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn messages_and_commands_go_through_tls() {
    let encrypted = Encrypted::start().await;
    let authority = encrypted.authority.to_str().unwrap();
    let variables = [
        ("REDIS_URL", encrypted.url.as_str()),
        ("SSL_CERT_FILE", authority),
    ];
    let arguments = ["--rule", "=publish,history:10"];
    let here = Node::start(&arguments, &variables).await;
    let there = Node::start(&arguments, &variables).await;
    let mut sender = Socket::connect(here.address()).await;
    let mut receiver = Socket::connect(there.address()).await;
    receiver.subscribe("orders").await;
    sender.subscribe("orders").await;
    sender
        .send(json!({ "type": "publish", "id": 1, "channel": "orders", "event": "e", "data": 7 }))
        .await;
    receiver
        .expect(json!({ "type": "event", "channel": "orders", "data": 7 }))
        .await;
    // Whoever is connected is a node, and they speak TLS: the test's own connections are gone.
    let clients = encrypted.redis.command(&["CLIENT", "LIST"]).await.text();
    let port = encrypted.url.rsplit_once(':').unwrap().1;
    let port = port.trim_end_matches('/');
    let encrypted_clients = clients
        .lines()
        .filter(|line| line.contains(&format!(":{port} ")));
    assert!(encrypted_clients.count() >= 4, "{clients}");
}

#[tokio::test]
async fn an_authority_nobody_knows_ends_the_start_with_one_sentence() {
    let encrypted = Encrypted::start().await;
    let mut command = Command::new(program());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "error"])
        .env("REDIS_URL", &encrypted.url)
        .env_remove("SSL_CERT_FILE");
    let ended = within("the end", command.output()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("certificate"), "{said}");
}
