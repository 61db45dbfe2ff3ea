//! Faults to plant in the presence scripts. The model counts because it tells each of them from the real ones.

/// A fault: where, and what stands there instead of what.
pub(super) struct Fault {
    pub(super) what: &'static str,
    /// The script, or every presence script where its name is empty.
    pub(super) script: &'static str,
    pub(super) edits: &'static [(&'static str, &'static str)],
}

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        what: "nobody is ever taken out for being silent",
        script: "",
        edits: &[("if may_go(held) then", "if false then")],
    },
    Fault {
        what: "taking one connection out counts for two",
        script: "",
        edits: &[("'n' .. user, -1)", "'n' .. user, -2)")],
    },
    Fault {
        what: "joining twice counts for two",
        script: "presence_join",
        edits: &[(
            "if not held and redis.call('HINCRBY'",
            "if redis.call('HINCRBY'",
        )],
    },
    Fault {
        what: "every connection is announced",
        script: "presence_join",
        edits: &[("1) == 1 then", "1) >= 1 then")],
    },
    Fault {
        what: "a user is announced before the connection is counted",
        script: "presence_join",
        edits: &[
            (
                "if not held and redis.call('HINCRBY', USERS, 'n' .. user, 1) == 1 then",
                "if not held then",
            ),
            (
                "finish()\nreturn 1",
                "redis.call('HINCRBY', USERS, 'n' .. user, held and 0 or 1)\nfinish()\nreturn 1",
            ),
        ],
    },
    Fault {
        what: "a join does not undo a loss",
        script: "presence_join",
        edits: &[(
            "connection, 'h' .. user)",
            "connection, (held and string.sub(held, 1, 1) or 'h') .. user)",
        )],
    },
    Fault {
        what: "a connection that joins as somebody else stays the first one as well",
        script: "presence_join",
        edits: &[("string.sub(held, 2) ~= user", "false")],
    },
    Fault {
        what: "the first info stays",
        script: "presence_join",
        edits: &[(
            "redis.call('HSET', USERS, 'i'",
            "redis.call('HSETNX', USERS, 'i'",
        )],
    },
    Fault {
        what: "a lost connection has no grace",
        script: "presence_leave",
        edits: &[("math.min(expiry, now + ARGV[9])", "now")],
    },
    Fault {
        what: "a loss lengthens a life",
        script: "presence_leave",
        edits: &[("math.min(expiry", "math.max(expiry")],
    },
    Fault {
        what: "a loss leaves the connection as it was",
        script: "presence_leave",
        edits: &[("connection, 'l' .. string", "connection, 'h' .. string")],
    },
    Fault {
        what: "a loss takes the connection out at once",
        script: "presence_leave",
        edits: &[("if held and ARGV[8] == 'lost' then", "if false then")],
    },
    Fault {
        what: "a goodbye waits for the grace",
        script: "presence_leave",
        edits: &[("if held and ARGV[8] == 'lost' then", "if held then")],
    },
    Fault {
        what: "who is taken out for being silent has left",
        script: "",
        edits: &[(", 'lost')", ", 'left')")],
    },
    Fault {
        what: "a refresh brings lost connections back",
        script: "presence_refresh",
        edits: &[("elseif string.sub(known, 1, 1) == 'h' then", "else")],
    },
    Fault {
        what: "a refresh shortens a lease that was handed over",
        script: "presence_refresh",
        edits: &[("'GT', ", "")],
    },
    Fault {
        what: "a refresh knows everybody",
        script: "presence_refresh",
        edits: &[("answer[#answer + 1] = index - 1", "answer[1] = 0")],
    },
    Fault {
        what: "a refresh takes nobody out",
        script: "presence_refresh",
        edits: &[("reap(ARGV[8])", "")],
    },
    Fault {
        what: "who has left is still listed",
        script: "",
        edits: &[("redis.call('ZREM', MEMBERS, user)", "")],
    },
    Fault {
        what: "a snapshot has the position of another moment",
        script: "presence_members",
        edits: &[
            (
                "reap(ARGV[7])\n",
                "local before = { stands(POSITION) }\nreap(ARGV[7])\n",
            ),
            ("= stands(POSITION)\nif not", "= unpack(before)\nif not"),
        ],
    },
    Fault {
        what: "a snapshot is made before the silent ones are taken out",
        script: "presence_members",
        edits: &[("reap(ARGV[7])\nif due() == 0 then", "if false then")],
    },
    Fault {
        what: "what is left of lost keys is believed",
        script: "",
        edits: &[("kept ~= 0 and kept ~= 4", "false")],
    },
    Fault {
        what: "a node that has just come, or come back, takes members out",
        script: "",
        edits: &[("tonumber(from) <= now and ", "")],
    },
    Fault {
        what: "a call that waited for the end of an outage takes members out",
        script: "",
        edits: &[("now <= tonumber(JUDGED_UNTIL)", "JUDGED_UNTIL ~= '0'")],
    },
    Fault {
        what: "who only publishes takes members out",
        script: "",
        edits: &[(
            "now <= tonumber(JUDGED_UNTIL)",
            "(JUDGED_UNTIL == '0' or now <= tonumber(JUDGED_UNTIL))",
        )],
    },
    Fault {
        what: "the silent have no more time to speak than the lost to come back",
        script: "",
        edits: &[("and LOST_FROM or SILENT_FROM", "and LOST_FROM or LOST_FROM")],
    },
    Fault {
        what: "the lost are spared like the silent",
        script: "",
        edits: &[("and LOST_FROM or", "and SILENT_FROM or")],
    },
    Fault {
        what: "nobody learns that somebody was spared",
        script: "presence_refresh",
        edits: &[("is_spared and -2", "false and -2")],
    },
    Fault {
        what: "two messages have one tag",
        script: "",
        edits: &[("sha1hex(previous .. ' ' .. id)", "sha1hex('1')")],
    },
];
