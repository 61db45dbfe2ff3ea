use std::error::Error as _;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::options::{Command, Options};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn parse(arguments: &[&str]) -> Result<ServeOptions, clap::Error> {
    let program = ["fanfare", "serve"];
    let options = Options::try_parse_from(program.iter().chain(arguments))?;
    let Command::Serve(options) = options.command else {
        panic!("{arguments:?} are not those of serve")
    };
    Ok(*options)
}

fn settings(arguments: &[&str], file: &str) -> Result<Settings, SettingsError> {
    Settings::merge(
        parse(arguments).unwrap_or_else(|error| panic!("{error}")),
        File::of(file),
    )
}

/// The arguments of `fanfare serve` besides those of every program.
fn arguments() -> Vec<clap::Arg> {
    let mut command = Options::command();
    command.build();
    let serve = command.find_subcommand("serve").unwrap();
    let arguments = serve.get_arguments();
    let arguments =
        arguments.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"));
    arguments.cloned().collect()
}

#[test]
fn the_command_line_overrides_the_file_and_the_file_the_defaults() {
    let file = r#"
        listen = "0.0.0.0:1"
        path = "/file"
        rules = ["file=publish"]
        drain_delay = "1s"
    "#;
    let given = [
        "--path",
        "/given",
        "--rule",
        "a=publish",
        "--rule",
        "b=publish",
    ];
    let settings = settings(&given, file).unwrap();
    assert_eq!(settings.path.as_deref(), Some("/given"));
    assert_eq!(settings.listen.port(), 1);
    let prefixes: Vec<&str> = settings
        .rules
        .iter()
        .map(|rule| rule.prefix.as_str())
        .collect();
    assert_eq!(prefixes, ["a", "b"], "a list replaces the file's");
    assert_eq!(settings.limits.drain_delay, Some(Duration::from_secs(1)));
    assert_eq!(settings.limits.drain_spread, Limits::default().drain_spread);
}

#[test]
fn the_write_deadline_and_the_send_buffer_reach_both_limits() {
    let default = settings(&[], "").unwrap();
    let half_a_minute = Duration::from_secs(30);
    assert_eq!(default.limits.write_deadline, half_a_minute);
    assert_eq!(default.accept_limits.write_deadline, half_a_minute);
    assert_eq!(default.accept_limits.send_buffer_bytes, Some(256 << 10));
    let given = ["--send-buffer", "1MiB"];
    let settings = settings(&given, r#"write_deadline = "5s""#).unwrap();
    assert_eq!(settings.limits.write_deadline, Duration::from_secs(5));
    assert_eq!(
        settings.accept_limits.write_deadline,
        Duration::from_secs(5)
    );
    assert_eq!(settings.accept_limits.send_buffer_bytes, Some(1 << 20));
}

#[test]
fn limits_of_clients_are_sizes() {
    let given = ["--client-payload-max", "4KiB"];
    let file = r#"
        client_payload_max = "8KiB"
        client_publish_rate = "16KiB"
        client_publish_burst = "1MiB"
        user_read_rate = "1MiB"
        user_read_burst = "2MiB"
    "#;
    let limits = settings(&given, file).unwrap().limits;
    assert_eq!(limits.client_payload_bytes_max, 4 << 10);
    assert_eq!(limits.client_bytes_per_second, 16 << 10);
    assert_eq!(limits.client_bytes_burst, 1 << 20);
    assert_eq!(limits.peer_answer_bytes_per_second, 1 << 20);
    assert_eq!(limits.peer_answer_bytes_burst, 2 << 20);
    let most = settings(&["--client-payload-max", "1MiB"], "").unwrap();
    assert_eq!(most.limits.client_payload_bytes_max, 1 << 20);
}

#[test]
fn an_empty_setting_is_an_error_that_names_it() {
    for argument in arguments() {
        let option = format!("--{}", argument.get_long().unwrap());
        let variable = argument.get_env().unwrap().to_str().unwrap();
        for empty in ["", "   "] {
            let given = format!("{option}={empty}");
            let (sentence, is_ours) = match parse(&[&given]) {
                // Values that are not text are refused by the command line itself.
                Err(error) => (error.to_string(), false),
                Ok(options) => match Settings::resolve(options) {
                    Err(error) => (error.to_string(), true),
                    Ok(_) => panic!("{given:?} was accepted"),
                },
            };
            assert!(sentence.contains(&option), "{given:?}: {sentence}");
            if is_ours {
                assert!(sentence.contains(variable), "{given:?}: {sentence}");
            }
        }
    }
}

#[test]
fn an_empty_entry_of_the_file_is_an_error_that_names_it() {
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
    for (name, empty, blank) in texts.chain(lists) {
        for value in [empty, blank] {
            let Err(error) = settings(&[], &format!("{name} = {value}")) else {
                panic!("{name} = {value} was accepted")
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
fn the_rate_of_a_drain_is_above_zero() {
    assert_eq!(
        settings(&[], "drain_per_second = 9")
            .unwrap()
            .limits
            .drain_per_second,
        9
    );
    assert!(parse(&["--drain-per-second", "0"]).is_err());
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
fn every_error_is_one_sentence() {
    #[track_caller]
    fn check(arguments: &[&str], sentence: &str) {
        let Err(error) = settings(arguments, "") else {
            panic!("{arguments:?} was accepted")
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
        "--client-payload-max is 2097152 bytes, the limit is 1048576: give a smaller one",
    );
    check(
        &["--allow-anonymous=false"],
        "no client could connect: give --jwt-secret or --jwt-key, or allow anonymous connections",
    );
    check(
        &["--jwt-secret", "short"],
        "the JWT secret cannot be used: an HS256 secret needs at least 32 bytes, this one has 5",
    );
    check(
        &["--jwt-issuer", "me"],
        "--jwt-issuer is given without a key for tokens: give --jwt-secret or --jwt-key as well",
    );
    check(
        &["--redis-prefix", "a:"],
        "--redis-prefix is given without a Redis: give --redis-url or REDIS_URL as well, or leave it out",
    );
    check(
        &["--rule", "a=publish", "--rule", "ab=publish"],
        "the rule for \"ab\" never applies, because the rule for \"a\" before it matches first: change their order",
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
fn a_key_file_names_its_algorithm() {
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
async fn an_open_channel_accepts_every_user_and_only_users() {
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
fn help_shows_no_secret_and_every_option_has_a_variable_and_a_group() {
    for argument in arguments() {
        let name = argument.get_id().as_str();
        assert!(argument.get_env().is_some(), "{name} has no variable");
        if name.contains("secret") || name.contains("url") {
            assert!(argument.is_hide_env_values_set(), "{name}");
        }
        assert!(argument.get_default_values().is_empty(), "{name}");
        let has_group = argument.get_help_heading().is_some();
        assert_eq!(has_group, name != "config", "{name}");
    }
    Options::command().debug_assert();
}

#[test]
fn the_defaults_in_the_help_are_those_of_the_server() {
    let effective = |arguments: &[&str]| {
        let settings = settings(arguments, "").unwrap();
        let Settings {
            listen,
            log_format,
            log,
            limits,
            accept_limits,
            ..
        } = settings;
        format!("{listen} {log_format:?} {log} {limits:?} {accept_limits:?}")
    };
    let mut checked = 0;
    for argument in arguments() {
        let help = argument.get_help().unwrap().to_string();
        let Some((_, default)) = help.split_once("[default: ") else {
            continue;
        };
        let default = default.trim_end_matches(']');
        // A default of several words depends on other settings.
        if default.contains(' ') || matches!(default, "any" | "/ws" | "fanfare:") {
            continue;
        }
        let option = format!("--{}", argument.get_long().unwrap());
        assert_eq!(effective(&[&option, default]), effective(&[]), "{option}");
        checked += 1;
    }
    assert_eq!(checked, 12, "options with a default that stands alone");
}

#[test]
fn the_examples_of_the_help_are_valid() {
    let mut command = Options::command();
    let mut texts = vec![command.get_after_help().unwrap().to_string()];
    let serve = command.find_subcommand_mut("serve").unwrap();
    texts.push(serve.get_after_long_help().unwrap().to_string());
    let token = command.find_subcommand("token").unwrap();
    texts.push(token.get_after_help().unwrap().to_string());
    let mut checked = 0;
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((variables, arguments)) = line.split_once("fanfare ") else {
            continue;
        };
        if !line.starts_with("  ") || line.starts_with("   ") || variables.contains('"') {
            continue;
        }
        let words = arguments.split(' ').map(|word| word.trim_matches('\''));
        let parsed = Options::try_parse_from(std::iter::once("fanfare").chain(words));
        assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        checked += 1;
    }
    assert_eq!(checked, 10, "examples");
    let long = texts[1].split_once("A configuration file:").unwrap().1;
    let file: String = long
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .flat_map(|line| [line, "\n"])
        .collect();
    let settings = Settings::merge(
        parse(&[]).unwrap_or_else(|error| panic!("{error}")),
        File::of(&file),
    );
    assert_eq!(
        settings
            .unwrap_or_else(|error| panic!("{error}"))
            .rules
            .len(),
        2
    );
}
