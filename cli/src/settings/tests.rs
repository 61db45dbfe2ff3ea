use std::error::Error as _;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn options(arguments: &[&str]) -> Options {
    let program = ["fanfare"];
    Options::try_parse_from(program.iter().chain(arguments)).unwrap()
}

fn settings(arguments: &[&str], file: &str) -> Result<Settings, SettingsError> {
    Settings::merge(options(arguments), File::of(file))
}

#[test]
fn the_command_line_counts_before_the_file_and_the_file_before_the_defaults() {
    let file = r#"
        listen = "0.0.0.0:1"
        path = "/file"
        rules = ["file=publish"]
        drain_delay = "1s"
    "#;
    let said = [
        "--path",
        "/said",
        "--rule",
        "a=publish",
        "--rule",
        "b=publish",
    ];
    let settings = settings(&said, file).unwrap();
    assert_eq!(settings.path.as_deref(), Some("/said"));
    assert_eq!(settings.listen.port(), 1);
    let prefixes: Vec<&str> = settings
        .rules
        .iter()
        .map(|rule| rule.prefix.as_str())
        .collect();
    assert_eq!(prefixes, ["a", "b"], "a list replaces the file's");
    assert_eq!(settings.limits.drain_delay, Some(Duration::from_secs(1)));
    let usual = Limits::default();
    assert_eq!(settings.limits.drain_spread, usual.drain_spread);
}

#[test]
fn what_is_not_read_has_one_deadline_and_a_buffer() {
    let usual = settings(&[], "").unwrap();
    let half_a_minute = Duration::from_secs(30);
    assert_eq!(usual.limits.write_deadline, half_a_minute);
    assert_eq!(usual.accept_limits.write_deadline, half_a_minute);
    assert_eq!(usual.accept_limits.send_buffer_bytes, Some(256 << 10));
    let said = ["--send-buffer", "1MiB"];
    let settings = settings(&said, r#"write_deadline = "5s""#).unwrap();
    assert_eq!(settings.limits.write_deadline, Duration::from_secs(5));
    assert_eq!(
        settings.accept_limits.write_deadline,
        Duration::from_secs(5)
    );
    assert_eq!(settings.accept_limits.send_buffer_bytes, Some(1 << 20));
}

#[test]
fn what_clients_may_publish_and_read_is_said_in_sizes() {
    let said = ["--client-payload-max", "4KiB"];
    let file = r#"
        client_payload_max = "8KiB"
        client_publish_rate = "16KiB"
        client_publish_burst = "1MiB"
        user_read_rate = "1MiB"
        user_read_burst = "2MiB"
    "#;
    let limits = settings(&said, file).unwrap().limits;
    assert_eq!(limits.client_payload_bytes_max, 4 << 10);
    assert_eq!(limits.client_bytes_per_second, 16 << 10);
    assert_eq!(limits.client_bytes_burst, 1 << 20);
    assert_eq!(limits.peer_answer_bytes_per_second, 1 << 20);
    assert_eq!(limits.peer_answer_bytes_burst, 2 << 20);
    let most = settings(&["--client-payload-max", "1MiB"], "").unwrap();
    assert_eq!(most.limits.client_payload_bytes_max, 1 << 20);
}

#[test]
fn what_is_set_to_nothing_is_an_error_that_names_it() {
    let command = Options::command();
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        if matches!(name, "help" | "version") {
            continue;
        }
        let option = format!("--{}", argument.get_long().unwrap());
        let variable = argument.get_env().unwrap().to_str().unwrap();
        for nothing in ["", "   "] {
            let said = format!("{option}={nothing}");
            let program = ["fanfare", &said];
            let (sentence, is_ours) = match Options::try_parse_from(program) {
                // What is no text is not taken by the command line itself.
                Err(error) => (error.to_string(), false),
                Ok(options) => match Settings::of(options) {
                    Err(error) => (error.to_string(), true),
                    Ok(_) => panic!("{said:?} was taken"),
                },
            };
            assert!(sentence.contains(&option), "{said:?}: {sentence}");
            if is_ours {
                assert!(sentence.contains(variable), "{said:?}: {sentence}");
            }
        }
    }
}

#[test]
fn what_the_file_sets_to_nothing_is_an_error_that_names_it() {
    let texts = [
        "path",
        "redis_url",
        "redis_prefix",
        "jwt_secret",
        "jwt_key",
        "jwt_issuer",
        "log",
    ];
    let lists = ["secrets", "jwt_audience", "origins", "rules"];
    let texts = texts.iter().map(|name| (*name, r#""""#, r#""  ""#));
    let lists = lists.iter().map(|name| (*name, "[]", r#"[" "]"#));
    for (name, nothing, blank) in texts.chain(lists) {
        for value in [nothing, blank] {
            let Err(error) = settings(&[], &format!("{name} = {value}")) else {
                panic!("{name} = {value} was taken")
            };
            let expected = format!(
                "{name:?} in the configuration file is set and empty: give it a value, or leave it out"
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn a_list_with_a_gap_is_not_shortened() {
    let gap = format!("{SECRET},");
    assert!(settings(&["--secret", &gap], "").is_err());
    let rules = ["--rule", "\n  a=publish  b=publish\n\tc=publish\n"];
    assert_eq!(settings(&rules, "").unwrap().rules.len(), 3);
}

#[test]
fn a_drain_has_a_rate_above_none() {
    assert_eq!(
        settings(&[], "drain_per_second = 9")
            .unwrap()
            .limits
            .drain_per_second,
        9
    );
    let program = ["fanfare", "--drain-per-second", "0"];
    assert!(Options::try_parse_from(program).is_err());
}

#[test]
fn anonymous_connections_are_the_default_only_without_keys() {
    assert!(settings(&[], "").unwrap().allows_anonymous);
    let with_key = ["--jwt-secret", SECRET];
    assert!(!settings(&with_key, "").unwrap().allows_anonymous);
    let both = ["--jwt-secret", SECRET, "--allow-anonymous"];
    assert!(settings(&both, "").unwrap().allows_anonymous);
}

#[test]
fn every_mistake_has_one_sentence() {
    #[track_caller]
    fn check(arguments: &[&str], sentence: &str) {
        let Err(error) = settings(arguments, "") else {
            panic!("{arguments:?} was taken")
        };
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        assert_eq!(text, sentence);
    }
    check(
        &["--client-payload-max", "2MiB"],
        "a client's payload has at most 1048576 bytes, --client-payload-max says 2097152",
    );
    check(
        &["--allow-anonymous=false"],
        "nobody could connect: give a JWT secret or key, or allow anonymous connections",
    );
    check(
        &["--jwt-secret", "short"],
        "the JWT secret cannot be used: an HS256 secret needs at least 32 bytes, this one has 5",
    );
    check(
        &["--jwt-issuer", "me"],
        "an issuer of tokens is given, but neither a JWT secret nor a JWT key",
    );
    check(
        &["--redis-prefix", "a:"],
        "a prefix for Redis is given, but no Redis URL",
    );
    check(
        &["--rule", "a=publish", "--rule", "ab=publish"],
        "the rule for \"ab\" never counts, because the one for \"a\" before it fits first: change their order",
    );
    check(
        &["--rule", "a"],
        "the rule \"a\" must look like PREFIX=history:100,ttl:5m,publish",
    );
    check(
        &["--jwt-key", "/no/such/file"],
        "the file /no/such/file cannot be read: No such file or directory (os error 2)",
    );
}

#[test]
fn a_key_file_says_by_itself_what_it_is_for() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/src/auth/jwt/keys");
    for name in ["rsa.pub.pem", "ec.pub.pem", "ed.pub.pem"] {
        let path = format!("{keys}/{name}");
        assert!(settings(&["--jwt-key", &path], "").is_ok(), "{name}");
    }
    for name in ["weak-rsa.pub.pem", "rsa.pem"] {
        let path = format!("{keys}/{name}");
        let refused = settings(&["--jwt-key", &path], "").err();
        assert!(
            matches!(refused, Some(SettingsError::JwtKey { .. })),
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_open_channel_takes_every_user_and_nobody_else() {
    use fanfare_server::auth::{Authorizer as _, Caller, Identity};
    use fanfare_server::protocol::{SocketId, UserId};

    let rules = [
        "--rule",
        "presence-lobby=open",
        "--rule",
        "presence-=publish",
    ];
    let policy = settings(&rules, "").unwrap().authorizer;
    let may = async |user: Option<&str>, channel: &str| {
        let identity = user.map(|user| Identity::new(UserId::new(user).unwrap()));
        let caller = Caller::new(SocketId::from_bits(1), identity);
        let channel = ChannelName::new(channel).unwrap();
        policy.subscribe(&caller, &channel).await.is_ok()
    };
    assert!(may(None, "orders").await);
    assert!(may(Some("ann"), "presence-lobby.1").await);
    assert!(!may(None, "presence-lobby.1").await);
    assert!(!may(Some("ann"), "presence-other").await);
    assert!(!may(Some("ann"), "private-a").await);
}

#[test]
fn help_shows_no_secret_and_every_option_has_a_variable() {
    let command = Options::command();
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        if matches!(name, "help" | "version") {
            continue;
        }
        let variable = argument.get_env();
        assert!(variable.is_some(), "{name} has no variable");
        if name.contains("secret") || name.contains("url") {
            assert!(argument.is_hide_env_values_set(), "{name}");
        }
        assert!(argument.get_default_values().is_empty(), "{name}");
    }
    command.debug_assert();
}
