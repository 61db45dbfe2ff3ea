//! Running rows one after the other.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};

use super::access;
use super::listener::ListenerConfig;
use super::load::Load;
use super::namespace;
use super::options::ChaosOptions;
use super::planted;
use super::report::{self, Outcome};
use super::rows::{ROWS, Row};
use super::stage::{Stage, StageConfig};
use super::store::StoreKind;
use crate::checker::{self, History, Observation, Outcome as Became, resources};
use crate::proxy::RedisProxy;

/// Runs the rows that the options name and prints what came out. Answers whether everything is well.
///
/// # Errors
/// When a row does not exist, or the report cannot be written.
pub async fn run(options: &ChaosOptions) -> Result<bool, String> {
    for name in &options.rows {
        if !ROWS.iter().any(|row| row.name == name) {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            return Err(format!(
                "there is no row {name}; there are {}",
                known.join(", ")
            ));
        }
    }
    let can_split = namespace::is_possible();
    let partitions = match &can_split {
        Ok(()) => "Partitions are made with network namespaces and blackhole routes.".to_owned(),
        Err(why) => format!("No partitions on this machine: {why}."),
    };
    eprintln!("{partitions}");
    let is_meant = |row: &&Row| {
        let is_named = options.rows.iter().any(|name| name == row.name);
        is_named || (options.rows.is_empty() && (row.is_short || !options.short))
    };
    let can_split = &can_split;
    let playing = ROWS.iter().filter(is_meant).map(|row| async move {
        let why_not = can_split.as_ref().err();
        let why_not =
            why_not.filter(|_| matches!(row.store, StoreKind::Split | StoreKind::CarefulSplit));
        let outcome = match why_not {
            Some(why) => left_out(row, why),
            None => run_row(row, options).await,
        };
        eprint!("{}", report::text(std::slice::from_ref(&outcome)));
        outcome
    });
    let outcomes: Vec<Outcome> = futures_util::stream::iter(playing)
        .buffered(options.jobs())
        .collect()
        .await;
    println!("\n{}", report::text(&outcomes));
    print!("{}", report::failures(&outcomes));
    if let Some(path) = &options.report {
        let text = report::markdown(&outcomes, &options.command(), &partitions);
        std::fs::write(path, text).map_err(|error| format!("the report: {error}"))?;
    }
    let passed = outcomes.iter().filter(|outcome| outcome.is_good()).count();
    let ignored = outcomes.iter().filter(|one| one.left_out.is_some()).count();
    let failed = outcomes.len() - passed - ignored;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out"
    );
    Ok(failed == 0)
}

fn load_of(options: &ChaosOptions) -> Load {
    match options.short {
        true => Load::short(),
        false => Load::whole(),
    }
}

fn left_out(row: &Row, why: &str) -> Outcome {
    Outcome {
        row: row.name.to_owned(),
        fault: row.fault.to_owned(),
        load: String::new(),
        tally: String::new(),
        violations: Vec::new(),
        objections: Vec::new(),
        left_out: Some(why.to_owned()),
    }
}

/// Runs one row from an empty stage to the last look.
async fn run_row(row: &Row, options: &ChaosOptions) -> Outcome {
    let load = load_of(options);
    eprintln!("{:<5} {}", row.name, row.fault);
    let mut outcome = Outcome {
        row: row.name.to_owned(),
        fault: row.fault.to_owned(),
        load: load.to_string(),
        tally: String::new(),
        violations: Vec::new(),
        objections: Vec::new(),
        left_out: None,
    };
    let trouble = Duration::from_secs(options.seconds());
    let config = StageConfig {
        row: row.name,
        store: row.store,
        load,
        seed: options.seed,
        trouble,
        server: options.server(),
        is_planted: row.is_planted,
    };
    let patience = trouble * 3 + PATIENCE;
    let playing = AssertUnwindSafe(play(row, config, options, &mut outcome)).catch_unwind();
    match tokio::time::timeout(patience, playing).await {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_else(|| "a panic".to_owned());
            outcome.objections.push(text);
        }
        Err(_) => outcome
            .objections
            .push(format!("not done within {patience:?}")),
    }
    outcome
}

async fn play(row: &Row, config: StageConfig, options: &ChaosOptions, outcome: &mut Outcome) {
    let mut stage = Stage::set(config).await;
    stage.publish();
    add_guests(&mut stage).await;
    stage.work(FIRST_WORDS).await;
    outcome.objections = (row.play)(&mut stage).await;
    let on_the_way = stage.store.proxies().iter().map(RedisProxy::all_done);
    let on_the_way: u64 = on_the_way.sum();
    let kept = match row.is_planted {
        true => Some(planted::plant(&mut stage).await),
        false => None,
    };
    stage.rest().await;
    // Before everybody goes home: whoever is not back by now is not back.
    let history = stage.recorder.history();
    let patience = if row.is_planted {
        Duration::from_secs(3)
    } else {
        GIVEN_BACK_MAX
    };
    let (before, after) = stage.close(patience).await;
    drop(kept);
    outcome.tally = tally(&history, on_the_way);
    let mut violations = checker::check_all(&history);
    violations.extend(resources::check(&before, &after));
    if row.is_planted {
        let missing = planted::not_found(&violations);
        let others = planted::not_planted(&violations);
        outcome.objections.extend(missing);
        outcome.violations = others.into_iter().cloned().collect();
    } else {
        outcome.objections.extend((row.look)(&history));
        outcome.violations = violations;
    }
    if let Some(folder) = options.logs.as_ref().filter(|_| !outcome.is_good()) {
        let _ = std::fs::create_dir_all(folder);
        for (number, node) in stage.nodes.iter().enumerate() {
            node.keep_log(&folder.join(format!("{}-node-{number}.log", row.name)));
        }
        let _ = std::fs::write(
            folder.join(format!("{}-history.txt", row.name)),
            describe(&history),
        );
        let list: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
        let list = list.join("\n");
        let _ = std::fs::write(folder.join(format!("{}-violations.txt", row.name)), list);
    }
}

/// Clients whose permission ends while they listen: one by time, one by order.
async fn add_guests(stage: &mut Stage) {
    let (channels, _) = stage.config.load.channels_of(0);
    for (name, token) in [
        (
            "guest",
            Some(access::token_about_to_end("guest", GUEST_SECONDS)),
        ),
        ("evicted", None),
    ] {
        let config = ListenerConfig {
            name: name.to_owned(),
            url: stage.url(),
            channels: channels.clone(),
            room: None,
            token,
            plant: None,
        };
        stage.recorder.ends(name);
        stage.add_listener(config).await;
    }
    for channel in &channels {
        // Tokens end with a whole second.
        let lives = Duration::from_secs(GUEST_SECONDS + 1);
        stage.recorder.permitted("guest", channel, lives);
    }
    stage.work(Duration::from_millis(500)).await;
    let Some(handle) = stage.handles.first() else {
        return;
    };
    let Ok(user) = "evicted".parse() else { return };
    if handle.disconnect_user(&user).await.is_ok() {
        for channel in &channels {
            stage.recorder.permitted("evicted", channel, Duration::ZERO);
        }
    }
}

/// What happened, in a few words; `on_the_way` is how many of the faults proxies have made.
fn tally(history: &History, on_the_way: u64) -> String {
    let faults = u64::try_from(history.faults.len()).unwrap_or(u64::MAX);
    let faults = faults.saturating_add(on_the_way);
    let publishes = history.publishes.len();
    let accepted = history.publishes.iter();
    let accepted = accepted
        .filter(|one| matches!(one.outcome, Became::Accepted { .. }))
        .count();
    let (mut messages, mut gaps, mut resets, mut resumed, mut rejoined) = (0, 0, 0, 0, 0_usize);
    for log in history.logs.values() {
        let mut joined = 0_usize;
        for observed in log {
            match observed.what {
                Observation::Message { .. } => messages += 1,
                Observation::Gap { .. } => gaps += 1,
                Observation::Reset { .. } => resets += 1,
                Observation::Resumed => resumed += 1,
                Observation::Joined { .. } => joined += 1,
                Observation::Skipped { .. } | Observation::Left => {}
            }
        }
        rejoined += joined.saturating_sub(1);
    }
    format!(
        "{accepted} of {publishes} publishes accepted, {messages} messages seen, {faults} faults, {resumed} resumed, {rejoined} joined anew, {gaps} gaps, {resets} resets"
    )
}

/// Everything that was seen on channels with a violation, for whoever has to find out why.
fn describe(history: &History) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for fault in &history.faults {
        let _ = writeln!(
            text,
            "fault {:?} .. {:?}: {}",
            fault.from, fault.until, fault.name
        );
    }
    for publish in &history.publishes {
        let called = history.time(publish.called);
        let _ = writeln!(
            text,
            "publish {called:?} {} {} {:?}",
            publish.channel, publish.payload, publish.outcome
        );
    }
    for ((client, channel), log) in &history.logs {
        for observed in log {
            let at = history.time(observed.at);
            let _ = writeln!(
                text,
                "{client} {channel} {at:?} #{} {:?}",
                observed.at, observed.what
            );
        }
    }
    for ((client, channel), sights) in &history.sights {
        for sight in sights {
            let _ = writeln!(text, "{client} {channel} {:?} {:?}", sight.at, sight.what);
        }
    }
    for stay in &history.stays {
        let _ = writeln!(
            text,
            "stay {} {} {:?} {:?}",
            stay.user, stay.channel, stay.from, stay.until
        );
    }
    text
}

/// 2 s: every channel has a history when the trouble begins.
const FIRST_WORDS: Duration = Duration::from_secs(2);
/// 150 s: setting up and coming to rest.
const PATIENCE: Duration = Duration::from_secs(150);
/// 40 s: connections that nobody uses are given up by then.
const GIVEN_BACK_MAX: Duration = Duration::from_secs(40);
/// 6 s: how long a guest may stay.
const GUEST_SECONDS: u64 = 6;
