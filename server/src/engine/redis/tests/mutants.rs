//! Faults planted in the scripts. The tests of the scripts count only because they tell every one of them from the good ones.

use super::model;
use super::process::RedisProcess;
use super::scenarios;
use crate::engine::redis::connection::scripts::Scripts;

/// What turns red.
#[derive(Debug, Clone, Copy)]
enum Caught {
    /// The model, with some of its seeds.
    Model,
    /// A scenario of its own.
    Age,
    /// A scenario of its own.
    Fork,
    /// A scenario of its own.
    Distance,
    /// A scenario of its own.
    Late,
    /// A scenario of its own.
    Memory,
    /// A scenario of its own.
    Write,
}

struct Mutant {
    what: &'static str,
    script: &'static str,
    from: &'static str,
    to: &'static str,
    caught: Caught,
}

macro_rules! mutants {
    ($($caught:ident $script:ident $what:literal: $from:literal => $to:literal;)*) => {
        &[$(Mutant {
            what: $what,
            script: stringify!($script),
            from: $from,
            to: $to,
            caught: Caught::$caught,
        }),*]
    };
}

const MUTANTS: &[Mutant] = mutants! {
    Model publish "every epoch is the same":
        "epoch, offset, previous = to.epoch, 0, '0'" => "epoch, offset, previous = '7', 0, '0'";
    Model publish "an evicted position is taken for offset 0 of the same history":
        "if stored[1] and stored[2] and stored[3] then" => "if true then return '7', tonumber(stored[2] or 0), stored[3] or '0' end if true then";
    Model publish "a stream that is ahead keeps its epoch":
        "epoch, offset, previous = to.epoch, '1', '0'" => "offset, previous = '1', '0'";
    Model publish "what is left of an older history stays where nothing is kept":
        "if is_new or to.size == 0 then" => "if is_new then";
    Model publish "what is left of an older history stays in a new epoch":
        "if is_new or to.size == 0 then" => "if to.size == 0 then";
    Model publish "one message more is kept":
        "'MAXLEN', to.size," => "'MAXLEN', to.size + 1,";
    Model publish "what is kept names itself as the message before it":
        "'p', previous, 'a', to.now, 'i', id)\n    if added" => "'p', tag, 'a', to.now, 'i', id)\n    if added";
    Model publish "the tag is not remembered":
        "'s', offset, 't', tag)" => "'s', offset, 't', previous)";
    Model publish "the offset is not remembered":
        "redis.call('HSET', to.position, 'e', epoch, 's', offset," => "redis.call('HSET', to.position, 'e', epoch, 's', '1',";
    Model publish "nobody gets it":
        "redis.call(to.command, to.channel," => "redis.call('ECHO',";
    Model publish "it gets out before it is written":
        "  if not is_new and to.size" => "  redis.call(to.command, to.channel, '1 ' .. epoch .. ' ' .. offset .. ' ' .. previous .. ' ' .. tag .. ' ' .. body)\n  to.command, to.channel = 'EXISTS', to.position\n  if not is_new and to.size";
    Model publish "a history never ends":
        "redis.call('PEXPIRE', to.stream, to.ttl)" => "";
    Model publish "a position never ends":
        "redis.call('PEXPIRE', to.position, to.position_ttl)" => "";
    Model publish "a key is not looked up":
        "local stored = redis.call('GET', key)" => "local stored = false";
    Model publish "a key is not remembered":
        "if key then\n  redis.call('SET', key," => "if false then\n  redis.call('SET', key,";
    Model publish "a repetition is answered like a first publication":
        "tag or '', 1 }" => "tag or '', 0 }";
    Model publish "an unanswered publication is sent again":
        "if ARGV[10] ~= '' and not key then" => "if false then";
    Memory publish "a deletion comes before the write that needs memory":
        "  redis.call('HSET', to.position," => "  if is_new or to.size == 0 then redis.call('DEL', to.stream) end\n  redis.call('HSET', to.position,";
    Distance publish "a message that was pushed out is sent again":
        "if seen >= size then" => "if false then";
    Distance publish "only the newest messages are looked through":
        "if #entries < CHUNK then" => "if true then";
    Late publish "an attempt that its repetition has overtaken is taken for another message":
        "if string.find(repeated, ' ' .. ARGV[4] .. ' ', 1, true) then" => "if false then";
    Late publish "a repetition leaves no word":
        "elseif ARGV[10] ~= '' then" => "elseif false then";
    Late publish "only the last repetition leaves word":
        "string.sub(repeated .. ARGV[4]" => "string.sub(' ' .. ARGV[4]";
    Late publish "what repetitions leave behind grows and grows":
        ", -REPEATED_BYTES)" => ", 1)";
    Fork publish "a tag names its message alone":
        "redis.sha1hex(previous .. ' ' .. id)" => "redis.sha1hex(id)";
    Fork publish "a tag names no message":
        "redis.sha1hex(previous .. ' ' .. id)" => "redis.sha1hex(previous)";
    Fork publish "a repetition is answered with the tag of another message":
        "'^%d+'), entry[2][4], 0 }" => "'^%d+'), entry[2][6], 0 }";
    Write publish "who waits for a known key waits for nothing":
        "redis.call('PEXPIRE', key, left > 0 and left or ARGV[9])" => "";
    Write publish "who waits for a known message waits for nothing":
        "redis.call('PEXPIRE', stream, ARGV[7])" => "";
    Write publish_live "who waits for a known key waits for nothing":
        "redis.call('PEXPIRE', key, left > 0 and left or ARGV[5])" => "";
    Model publish_live "it gets out before it is counted":
        "local number = redis.call('HINCRBY', count, 'n', 1)" => "redis.call(ARGV[1], ARGV[2], '0 0 0 0 1 a ' .. ARGV[3])\nlocal number = redis.call('HINCRBY', count, 'n', 1)";
    Model publish_live "a replica takes it":
        "local number = redis.call('HINCRBY', count, 'n', 1)" => "redis.call(ARGV[1], ARGV[2], '0 0 0 0 1 a ' .. ARGV[3])\nif true then return 0 end\nlocal number = 1";
    Model publish_live "a count begins at 1":
        "if number == 1 then" => "if false then";
    Model publish_live "a count never ends":
        "redis.call('PEXPIRE', count, ARGV[4])" => "";
    Model publish_live "a key is not looked up":
        "if key and redis.call('EXISTS', key) == 1 then" => "if false then";
    Model publish_live "a key is not remembered":
        "redis.call('SET', key, '-', 'PX', ARGV[5])" => "";
    Model read "an epoch that was told is not remembered":
        "redis.pcall('HSET', position, 'e', ARGV[5], 's', '0', 't', '0')" => "0";
    Model read "what is left of an older history is read":
        "if #beyond > 0 then" => "if false then";
    Model read "a position alone says nothing of what lies beyond it":
        "if #beyond > 0 then" => "if limit > 0 and #beyond > 0 then";
    Model read "a replica answers":
        "'READONLY', 1, true) then" => "'SOMETHING', 1, true) then";
    Model read "the range includes its start":
        "'(' .. ARGV[2] .. '-0'" => "ARGV[2] .. '-0'";
    Model read "the newest come first":
        "for index = #entries, 1, -1 do" => "for index = 1, #entries do";
    Model read "limits mean nothing":
        "math.min(CHUNK, limit - #entries)" => "CHUNK";
    Age read "what is too old stays":
        "if tonumber(entry[2][8]) > dead_before then" => "if true then";
    Model clear_history "the epoch goes on":
        "redis.call('HSET', KEYS[1], 'e', ARGV[1]," => "redis.call('HSET', KEYS[1],";
    Model clear_history "what was kept stays":
        "redis.call('DEL', KEYS[2])" => "";
};

impl Mutant {
    fn scripts(&self) -> Scripts {
        let is_planted = std::cell::Cell::new(false);
        let scripts = Scripts::edited(|name, text| {
            if name != self.script {
                return text;
            }
            is_planted.set(text.contains(self.from));
            text.replace(self.from, self.to)
        });
        assert!(
            is_planted.get(),
            "the script has no place for: {}",
            self.what
        );
        scripts
    }

    async fn is_caught(&self, redis: &RedisProcess) -> bool {
        let scripts = self.scripts();
        match self.caught {
            Caught::Model => {
                for seed in 0..20 {
                    if model::run(redis, &scripts, seed, 120).await.is_err() {
                        return true;
                    }
                }
                false
            }
            Caught::Age => scenarios::messages_go_by_their_own_age(redis, &scripts)
                .await
                .is_err(),
            Caught::Fork => scenarios::a_position_names_one_history(redis, &scripts)
                .await
                .is_err(),
            Caught::Memory => scenarios::a_full_redis_takes_nothing(&scripts)
                .await
                .is_err(),
            Caught::Late => scenarios::an_overtaken_attempt_is_too_late(redis, &scripts)
                .await
                .is_err(),
            Caught::Write => scenarios::a_repetition_that_waits_writes(redis, &scripts)
                .await
                .is_err(),
            Caught::Distance => scenarios::what_was_pushed_out_is_not_sent_again(redis, &scripts)
                .await
                .is_err(),
        }
    }
}

#[tokio::test]
async fn every_fault_planted_in_a_script_is_found() {
    let redis = RedisProcess::start(&[]).await;
    let mut unnoticed = Vec::new();
    for mutant in MUTANTS {
        if !mutant.is_caught(&redis).await {
            unnoticed.push((mutant.script, mutant.what));
        }
    }
    assert_eq!(unnoticed, [], "faults that no test notices");
}

#[tokio::test]
async fn the_scripts_pass_the_scenarios_that_find_faults() {
    let (redis, scripts) = (RedisProcess::start(&[]).await, Scripts::default());
    let outcomes = [
        scenarios::messages_go_by_their_own_age(&redis, &scripts).await,
        scenarios::a_repetition_waits_for_replicas_too(&scripts).await,
        scenarios::what_was_pushed_out_is_not_sent_again(&redis, &scripts).await,
        scenarios::an_overtaken_attempt_is_too_late(&redis, &scripts).await,
        scenarios::a_full_redis_takes_nothing(&scripts).await,
        scenarios::a_position_names_one_history(&redis, &scripts).await,
        scenarios::a_repetition_that_waits_writes(&redis, &scripts).await,
    ];
    assert_eq!(outcomes, [const { Ok(()) }; 7]);
}
