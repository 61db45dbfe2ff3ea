//! The suite, run against the memory engine and against engines with planted faults.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::faults::Fault;
use super::faulty::Faulty;
use super::{Features, Harness, SCENARIOS, run};
use crate::engine::Engine;
use crate::engine::memory::{MemoryEngine, MemoryOptions};

/// The memory engine, whose time is tokio's and stands still.
struct Memory;

#[async_trait]
impl Harness for Memory {
    fn features(&self) -> Features {
        let options = MemoryOptions::default();
        Features::new(options.presence_grace).with_key_ttl(options.key_ttl)
    }

    async fn open(&self) -> Engine {
        Engine::new(MemoryEngine::new(MemoryOptions::default()))
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_engine_keeps_every_promise() {
    let failed = run(&Memory, SCENARIOS).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_engine_keeps_its_promises_on_several_threads() {
    for _ in 0..20 {
        let timeless = SCENARIOS.iter().filter(|scenario| !scenario.advances);
        let failed = run(&Memory, timeless).await;
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

/// A memory engine with a fault in front of it.
struct Planted(Fault);

#[async_trait]
impl Harness for Planted {
    fn features(&self) -> Features {
        Memory.features().with_model(2, 100)
    }

    async fn open(&self) -> Engine {
        Engine::new(Faulty::new(Memory.open().await, self.0))
    }

    async fn advance(&self, by: Duration) {
        Memory.advance(by).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_planted_fault_is_found_and_every_scenario_finds_one() {
    let mut idle: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    let mut unnoticed = Vec::new();
    for fault in Fault::ALL {
        let failed = run(&Planted(*fault), SCENARIOS).await;
        if failed.is_empty() {
            unnoticed.push(*fault);
        }
        // Without interest every scenario ends at once: that proves nothing about what it checks.
        if *fault != Fault::RefuseInterest {
            failed.iter().for_each(|(name, _)| _ = idle.remove(name));
        }
    }
    assert_eq!(unnoticed, [], "faults that the suite does not notice");
    assert_eq!(idle, BTreeSet::new(), "scenarios that no fault turns red");
}
