//! Who may import whom.

use super::rust::{NamedPath, Rust};
use super::{SourceFile, Violation};

/// What the files of one place must not name.
struct Rule {
    /// Paths of the files, by prefix.
    place: &'static [&'static str],
    /// Paths that are let off, by prefix.
    except: &'static [&'static str],
    /// Paths of modules and crates, by prefix.
    forbidden: &'static [&'static str],
    why: &'static str,
}

/// The arrows that must not be drawn.
const RULES: &[Rule] = &[
    Rule {
        place: &["protocol/src/"],
        except: &[],
        forbidden: &["axum", "js_sys", "std", "tokio", "wasm_bindgen", "web_sys"],
        why: "the wire types do no I/O and know no clock, and a browser loads them without std: `core` and `alloc` have the rest",
    },
    Rule {
        place: &["client/src/"],
        except: &["client/src/native"],
        forbidden: &[
            "js_sys",
            "std",
            "tokio",
            "tokio_tungstenite",
            "wasm_bindgen",
            "web_sys",
        ],
        why: "the client machine does no I/O and is told the time, and a browser loads it without std: `core` and `alloc` have the rest",
    },
    Rule {
        place: &["client-wasm/src/"],
        except: &[],
        forbidden: &[
            "js_sys::JSON::parse",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
        ],
        why: "it runs in a page: no clock of std's, and text stays on the JavaScript side",
    },
    Rule {
        place: &["server/src/hub/", "server/src/hub.rs"],
        except: &[],
        forbidden: &[
            "axum",
            "crate::admin",
            "crate::api",
            "crate::builder",
            "crate::engine",
            "crate::events",
            "crate::publish",
            "crate::pusher",
            "crate::session",
            "crate::sessions",
            "crate::socketio",
            "crate::transport",
        ],
        why: "the hub knows who is here, and nothing of engines, sessions or HTTP",
    },
    Rule {
        place: &[
            "server/src/session/mod.rs",
            "server/src/session/subscription",
            "server/src/session/recovery",
            "server/src/session/io.rs",
        ],
        except: &[],
        forbidden: &[
            "axum",
            "crate::builder",
            "crate::engine",
            "crate::transport",
            "redis",
            "tokio",
        ],
        why: "the session machine does no I/O; its driver does",
    },
    Rule {
        place: &["server/src/session/"],
        except: &[],
        forbidden: &[
            "crate::admin",
            "crate::api",
            "crate::builder",
            "crate::pusher",
            "crate::socketio",
            "crate::transport",
        ],
        why: "transports know sessions, not the other way round",
    },
    Rule {
        place: &["server/src/engine/"],
        except: &[],
        forbidden: &[
            "axum",
            "crate::admin",
            "crate::api",
            "crate::builder",
            "crate::hub",
            "crate::publish",
            "crate::pusher",
            "crate::session",
            "crate::sessions",
            "crate::socketio",
            "crate::transport",
        ],
        why: "deliveries leave an engine through the callback it was given",
    },
    Rule {
        place: &["server/src/events/"],
        except: &[],
        forbidden: &[
            "crate::builder",
            "crate::hub",
            "crate::session",
            "crate::sessions",
            "crate::transport",
        ],
        why: "the event bus and the hub meet in its bridge alone, through the publisher",
    },
    Rule {
        place: &["server/src/api/", "server/src/pusher/", "server/src/admin/"],
        except: &[],
        forbidden: &["crate::builder", "crate::hub"],
        why: "the edges go through the publisher and the list of sessions",
    },
    Rule {
        place: &["server/src/"],
        except: &[
            "server/src/builder",
            "server/src/engine/",
            "server/src/lib.rs",
        ],
        forbidden: &["crate::engine::memory", "crate::engine::redis"],
        why: "the builder alone names a concrete engine",
    },
    Rule {
        place: &["server/src/"],
        except: &[],
        forbidden: &["clap", "fanfare", "toml", "tracing_subscriber"],
        why: "the library leaves command lines, files and log output to programs such as `cli`",
    },
    Rule {
        place: &["cli/src/"],
        except: &[],
        forbidden: &[
            "axum",
            "fanfare_client",
            "fanfare_protocol",
            "redis",
            "tungstenite",
        ],
        why: "the program is an application of the server's public API, like any other",
    },
    Rule {
        place: &["server/src/"],
        except: &["server/src/engine/redis"],
        forbidden: &["redis"],
        why: "the redis crate is a detail of one engine",
    },
    Rule {
        place: &["server/src/"],
        except: &["server/src/socketio"],
        forbidden: &["socketioxide"],
        why: "the socketioxide crate is a detail of one gateway",
    },
];

/// Folders of one module, from the bottom up. A file may name its own folder and those of lower rows.
struct Layers {
    /// The path of the module's folder.
    place: &'static str,
    /// The path of the module.
    module: &'static str,
    /// Folders of one row do not name each other.
    rows: &'static [&'static [&'static str]],
}

/// The modules whose folders are layers.
const LAYERS: &[Layers] = &[Layers {
    place: "server/src/engine/redis/",
    module: "crate::engine::redis",
    rows: &[
        &["connection"],
        &["channel"],
        &["presence", "nodes"],
        &["feed"],
    ],
}];

impl Layers {
    /// Whether a file of a folder must not name a path, and why.
    fn violation(&self, path: &str, segments: &[String]) -> Option<String> {
        let (folder, _) = path.strip_prefix(self.place)?.split_once('/')?;
        let row = |name: &str| self.rows.iter().position(|row| row.contains(&name));
        let own_row = row(folder)?;
        let mut named = segments.iter();
        let is_inside = |part: &str| named.next().is_some_and(|name| name == part);
        if !self.module.split("::").all(is_inside) {
            return None;
        }
        let target = named.next()?;
        if target == folder || row(target).is_some_and(|row| row < own_row) {
            return None;
        }
        let below: Vec<&str> = self.rows[..own_row].concat();
        let below = match below.as_slice() {
            [] => "nothing beside it".to_owned(),
            below => format!("`{}` alone", below.join("`, `")),
        };
        Some(format!(
            "must not name `{}::{target}`: `{folder}` knows {below}",
            self.module
        ))
    }
}

/// Finds every path that its place must not name; tests may name what they like.
pub(super) fn forbidden(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["rs"])) {
        match Source::read(file) {
            Ok(source) => sources.push(source),
            Err(error) => {
                let line = error.span().start().line;
                let rule = format!("cannot be read as Rust: {error}");
                violations.push(Violation::new(&file.path, line, rule));
            }
        }
    }
    let test_modules: Vec<&String> = sources
        .iter()
        .flat_map(|source| &source.test_modules)
        .collect();
    for source in &sources {
        let path = &source.file.path;
        let is_test = source.file.is_test()
            || test_modules
                .iter()
                .any(|module| path.starts_with(module.as_str()));
        if is_test {
            continue;
        }
        for rule in RULES.iter().filter(|rule| rule.applies_to(path)) {
            let found = source
                .paths
                .iter()
                .filter_map(|named| Some((named, rule.matching(&named.segments)?)));
            violations.extend(found.map(|(named, forbidden)| {
                Violation::new(
                    path,
                    named.line,
                    format!("must not name `{forbidden}`: {}", rule.why),
                )
            }));
        }
        for layers in LAYERS {
            let found = source.paths.iter().filter_map(|named| {
                let rule = layers.violation(path, &named.segments)?;
                Some(Violation::new(path, named.line, rule))
            });
            violations.extend(found);
        }
    }
    violations
}

impl Rule {
    fn applies_to(&self, path: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        starts(self.place) && !starts(self.except)
    }

    fn matching(&self, segments: &[String]) -> Option<&'static str> {
        self.forbidden.iter().copied().find(|forbidden| {
            let mut expected = forbidden.split("::");
            let mut named = segments.iter();
            expected.all(|segment| named.next().is_some_and(|name| name == segment))
        })
    }
}

/// A Rust file and the paths its code names, `super` and `self` resolved.
struct Source<'a> {
    file: &'a SourceFile,
    paths: Vec<NamedPath>,
    /// Places of the modules it declares for tests alone, such as `server/src/hub/model`.
    test_modules: Vec<String>,
}

impl<'a> Source<'a> {
    fn read(file: &'a SourceFile) -> syn::Result<Self> {
        let mut rust = Rust::read(&file.text)?;
        let module = module(&file.path);
        for path in &mut rust.paths {
            resolve(&module, &mut path.segments);
        }
        let folder = match file.stem() {
            "mod" | "lib" | "main" => file.path.rsplit_once('/').map_or("", |(folder, _)| folder),
            _ => file.path.trim_end_matches(".rs"),
        };
        let place = |name: &String| [".rs", "/"].map(|end| format!("{folder}/{name}{end}"));
        Ok(Self {
            file,
            paths: rust.paths,
            test_modules: rust.test_modules.iter().flat_map(place).collect(),
        })
    }
}

/// The module a file is, as segments below `crate`.
fn module(path: &str) -> Vec<String> {
    let inside = path
        .split_once("src/")
        .map_or(path, |(_, inside)| inside)
        .trim_end_matches(".rs");
    let mut segments: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if segments
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
    {
        segments.pop();
    }
    segments
}

/// Rewrites `self::x` and `super::x` to start from `crate`.
fn resolve(module: &[String], segments: &mut Vec<String>) {
    let supers = segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    let relative = match segments.first().map(String::as_str) {
        Some("self") => 1,
        Some("super") => supers,
        _ => return,
    };
    let parent = &module[..module.len().saturating_sub(supers)];
    let absolute = std::iter::once("crate".to_owned()).chain(parent.iter().cloned());
    *segments = absolute.chain(segments.drain(relative..)).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, lines: &[usize]) {
        let found = forbidden(&[SourceFile::new(path, text)]);
        assert_eq!(
            found
                .iter()
                .map(|violation| violation.line)
                .collect::<Vec<_>>(),
            lines,
            "{path}: {found:?}"
        );
    }

    #[test]
    fn the_hub_stays_alone() {
        check(
            "server/src/hub/mod.rs",
            "use crate::delivery::Delivery;\nuse crate::engine::Broker;\n",
            &[2],
        );
        check(
            "server/src/hub/shard.rs",
            "fn f(s: super::super::session::Session) {}\n",
            &[1],
        );
        check(
            "server/src/hub/shard.rs",
            "\nuse crate::{\n    clock,\n    session::{io::Input, Session},\n};\n",
            &[4, 4],
        );
        check(
            "server/src/hub/sweep.rs",
            "async fn f() { axum::serve().await; }\n",
            &[1],
        );
    }

    #[test]
    fn the_session_machine_does_no_io() {
        check(
            "server/src/session/mod.rs",
            "use tokio::sync::mpsc;\n",
            &[1],
        );
        check(
            "server/src/session/recovery.rs",
            "use crate::engine::History;\n",
            &[1],
        );
        check(
            "server/src/session/driver.rs",
            "use tokio::select;\nuse crate::engine::Broker;\n",
            &[],
        );
        check(
            "server/src/session/driver.rs",
            "use crate::transport::Dialect;\n",
            &[1],
        );
    }

    #[test]
    fn engines_and_events_never_call_up() {
        check(
            "server/src/engine/memory/broker.rs",
            "use crate::hub::Hub;\n",
            &[1],
        );
        check(
            "server/src/events/worker.rs",
            "use crate::hub::Hub;\n",
            &[1],
        );
        check(
            "server/src/publish.rs",
            "use crate::engine::memory::MemoryBroker;\n",
            &[1],
        );
        check(
            "server/src/publish.rs",
            "use redis::Client;\nuse crate::engine::Broker;\n",
            &[1],
        );
        check(
            "server/src/builder.rs",
            "use crate::engine::memory::MemoryBroker;\n",
            &[],
        );
        check("server/src/api/publish.rs", "use crate::hub::Hub;\n", &[1]);
        check(
            "server/src/api/publish.rs",
            "use socketioxide::SocketIo;\n",
            &[1],
        );
    }

    #[test]
    fn the_library_and_the_program_are_apart() {
        check("server/src/config.rs", "use clap::Parser;\n", &[1]);
        check(
            "server/src/server.rs",
            "fn f() { toml::from_str(text); }\n",
            &[1],
        );
        check(
            "cli/src/serve.rs",
            "use fanfare_server::Server;\nuse axum::Router;\n",
            &[2],
        );
    }

    #[test]
    fn the_folders_of_the_redis_engine_point_down() {
        let check = |path: &str, text, lines: &[usize]| {
            check(&format!("server/src/engine/redis/{path}"), text, lines);
        };
        check(
            "connection/topology.rs",
            "use super::error::CommandError;\nuse crate::engine::redis::channel::keys;\n",
            &[2],
        );
        check(
            "channel/publish.rs",
            "use crate::engine::redis::connection::commands::Call;\nuse super::super::flow::Flow;\n",
            &[2],
        );
        check(
            "presence/leases/rounds.rs",
            "use crate::engine::redis::channel::store;\nuse crate::engine::redis::nodes::requests;\n",
            &[2],
        );
        check(
            "nodes/requests.rs",
            "use crate::engine::redis::presence::leases;\nuse crate::engine::redis::feed::tracks;\n",
            &[1, 2],
        );
        check(
            "feed/reader.rs",
            "use crate::engine::redis::{RedisEngine, connection, nodes::requests};\n",
            &[1],
        );
        check("flow.rs", "use super::feed::reader::Reader;\n", &[]);
        check(
            "feed/reader.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::engine::redis::RedisOptions;\n}\n",
            &[],
        );
    }

    #[test]
    fn the_shared_crates_know_no_clock() {
        check("protocol/src/name.rs", "use std::time::Duration;\n", &[1]);
        check(
            "client/src/client.rs",
            "use core::time::Duration;\nuse std::time::Instant;\n",
            &[2],
        );
        check(
            "client/src/native/mod.rs",
            "use std::time::Instant;\nuse tokio::net::TcpStream;\n",
            &[],
        );
        check(
            "client-wasm/src/lib.rs",
            "fn f() { js_sys::JSON::parse(text); }\n",
            &[1],
        );
    }

    #[test]
    fn tests_and_words_may_name_anything() {
        check(
            "server/src/hub/mod.rs",
            "// use crate::engine::Broker;\n/// [`crate::session`]\nconst A: &str = \"crate::engine::x\";\n",
            &[],
        );
        check(
            "server/src/hub/mod.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::engine::Broker;\n}\n",
            &[],
        );
        check(
            "server/src/hub/tests.rs",
            "use crate::engine::Broker;\n",
            &[],
        );
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test() {
        let files = [
            SourceFile::new("server/src/hub/mod.rs", "#[cfg(test)]\nmod model;\n"),
            SourceFile::new("server/src/hub/model.rs", "use crate::engine::Broker;\n"),
        ];
        assert_eq!(forbidden(&files), []);
    }
}
