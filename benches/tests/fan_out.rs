//! The harness judged: servers that are in order have no faults, planted faults are found through a whole run.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use fanfare_benches::child::ServerProcess;
use fanfare_benches::dialect::{ACCEPT, Dialect};
use fanfare_benches::frame;
use fanfare_benches::generator::{Generator, Pace, Target, close_all, subscribe_all};
use fanfare_benches::sequence::Faults;
use fanfare_benches::servers::ServerKind;

#[test]
fn no_server_loses_reorders_repeats_or_corrupts() {
    for kind in ServerKind::value_variants() {
        let server = start(*kind);
        let (faults, deliveries) = fan_out(server.target(), 40, 4);
        assert_eq!(faults, Faults::default(), "{kind}");
        assert!(deliveries >= 40, "{kind} delivered {deliveries}");
    }
}

#[test]
fn every_server_lets_go_of_connections_that_close() {
    for kind in ServerKind::value_variants() {
        let server = start(*kind);
        for _ in 0..2 {
            let connections = subscribe_all(server.target(), &[0, 0, 1]).unwrap();
            close_all(connections).unwrap();
        }
        let (faults, _) = fan_out(server.target(), 4, 2);
        assert_eq!(faults, Faults::default(), "{kind}");
    }
}

#[test]
fn a_planted_loss_is_found() {
    check(
        |frames| drop(frames.remove(3)),
        Faults {
            lost: 1,
            ..Faults::default()
        },
    );
}

#[test]
fn a_planted_swap_is_found() {
    check(
        |frames| frames.swap(2, 3),
        Faults {
            reordered: 1,
            ..Faults::default()
        },
    );
}

#[test]
fn a_planted_repetition_is_found() {
    check(
        |frames| frames.push(frames[5].clone()),
        Faults {
            duplicated: 1,
            ..Faults::default()
        },
    );
}

#[test]
fn a_planted_flip_of_a_bit_is_found() {
    check(
        |frames| frames[6][90] ^= 2,
        Faults {
            lost: 1,
            corrupted: 1,
            ..Faults::default()
        },
    );
}

#[track_caller]
fn check(plant: fn(&mut Vec<Vec<u8>>), expect: Faults) {
    let target = faulty_server(3, plant);
    assert_eq!(fan_out(&target, 3, 1).0, expect);
}

fn start(kind: ServerKind) -> ServerProcess {
    ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_fanout")), kind, 0).unwrap()
}

fn fan_out(target: &Target, receivers: usize, channels: u64) -> (Faults, u64) {
    let mut generator = Generator::connect(target, receivers, channels).unwrap();
    let mut pace = Pace::Window(WINDOW as u64);
    generator
        .drive(&mut pace, Instant::now() + Duration::from_millis(150))
        .unwrap();
    generator.drain(Duration::from_millis(500)).unwrap();
    let ledger = generator.ledger();
    (ledger.faults(), ledger.deliveries())
}

/// A server that plants a fault into the first frames of one of its subscribers and is honest otherwise.
fn faulty_server(subscribers: usize, plant: fn(&mut Vec<Vec<u8>>)) -> Target {
    let [for_subscribers, for_publisher] =
        [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let target = Target {
        subscribers: for_subscribers.local_addr().unwrap(),
        publisher: for_publisher.local_addr().unwrap(),
        dialect: Dialect::Bare,
    };
    thread::spawn(move || {
        let publisher = for_publisher.accept()?.0;
        let streams: io::Result<Vec<TcpStream>> = (0..subscribers)
            .map(|_| upgrade(&for_subscribers))
            .collect();
        repeat(publisher, &streams?, plant)
    });
    target
}

fn upgrade(listener: &TcpListener) -> io::Result<TcpStream> {
    let mut stream = listener.accept()?.0;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend_from_slice(&byte);
    }
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )?;
    Ok(stream)
}

fn repeat(
    publisher: TcpStream,
    subscribers: &[TcpStream],
    plant: fn(&mut Vec<Vec<u8>>),
) -> io::Result<()> {
    let mut first = Vec::new();
    for line in BufReader::new(publisher).split(b'\n') {
        let line = line?;
        let payload = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let mut bytes = Vec::new();
        frame::push_text(&mut bytes, payload);
        if first.len() < WINDOW {
            first.push(bytes);
            if first.len() == WINDOW {
                for (number, mut subscriber) in subscribers.iter().enumerate() {
                    let mut frames = first.clone();
                    if number == 1 {
                        plant(&mut frames);
                    }
                    subscriber.write_all(&frames.concat())?;
                }
            }
            continue;
        }
        for mut subscriber in subscribers {
            subscriber.write_all(&bytes)?;
        }
    }
    Ok(())
}

const WINDOW: usize = 8;
