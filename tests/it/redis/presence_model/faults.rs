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
        edits: &[("if may_evict(held) then", "if false then")],
    },
    Fault {
        what: "taking one connection out counts for two",
        script: "",
        edits: &[(
            "'n' .. user, count - 1 .. ' ' .. shown)",
            "'n' .. user, count - 2 .. ' ' .. shown)",
        )],
    },
    Fault {
        what: "joining twice counts for two",
        script: "presence_join",
        edits: &[("if held then\n  renew", "if false then\n  renew")],
    },
    Fault {
        what: "every connection is announced",
        script: "presence_join",
        edits: &[(
            "  show(connection, user, count + 1, info)",
            "  show(connection, user, count + 1, info)\n  announce(ARGV[14] .. about(user, info))",
        )],
    },
    Fault {
        what: "a user's second connection is not counted",
        script: "presence_join",
        edits: &[("count + 1, info", "count, info")],
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
        script: "",
        edits: &[(
            "count .. ' ' .. connection, 'i' .. user, info)",
            "count .. ' ' .. connection, 'i' .. user, before or info)",
        )],
    },
    Fault {
        what: "a changed info is not told",
        script: "",
        edits: &[("if before ~= info then", "if false then")],
    },
    Fault {
        what: "an equal info is told",
        script: "",
        edits: &[("if before ~= info then", "if true then")],
    },
    Fault {
        what: "an info is told and not shown",
        script: "",
        edits: &[(
            "redis.call('HSET', USERS, 'n' .. user, count .. ' ' .. connection, 'i' .. user, info)",
            "redis.call('HSET', USERS, 'n' .. user, count .. ' ' .. connection)",
        )],
    },
    Fault {
        what: "a repeated call shows its connection again",
        script: "",
        edits: &[("if was_lost or own ~= info then", "if true then")],
    },
    Fault {
        what: "who comes back with the same info is not shown",
        script: "",
        edits: &[("if was_lost or own ~= info then", "if own ~= info then")],
    },
    Fault {
        what: "who comes back with another info is not shown",
        script: "",
        edits: &[("if was_lost or own ~= info then", "if was_lost then")],
    },
    Fault {
        what: "a connection that is shown again stays among the hidden",
        script: "",
        edits: &[(
            "    unhide(connection, user)\n    hide(shown, user)",
            "    hide(shown, user)",
        )],
    },
    Fault {
        what: "a connection that is hidden is forgotten",
        script: "",
        edits: &[(
            "    unhide(connection, user)\n    hide(shown, user)",
            "    unhide(connection, user)",
        )],
    },
    Fault {
        what: "when the shown one goes, the one that was hidden first is shown",
        script: "",
        edits: &[(
            "redis.call('ZREVRANGEBYLEX', MEMBERS, '(~' .. user .. '\\1', '[~' .. user .. '\\0', ",
            "redis.call('ZRANGEBYLEX', MEMBERS, '[~' .. user .. '\\0', '(~' .. user .. '\\1', ",
        )],
    },
    Fault {
        what: "when the shown one goes, the last hidden one of any user is shown",
        script: "",
        edits: &[(
            "'(~' .. user .. '\\1', '[~' .. user .. '\\0', ",
            "'+', '[~', ",
        )],
    },
    Fault {
        what: "when the shown one goes, its info stays",
        script: "",
        edits: &[(
            "show(successor, user, count - 1, unhide(successor, user))",
            "unhide(successor, user)\n    redis.call('HSET', USERS, 'n' .. user, count - 1 .. ' ' .. successor)",
        )],
    },
    Fault {
        what: "a hidden connection that goes is kept",
        script: "",
        edits: &[(
            "    unhide(connection, user)\n    redis.call('HSET'",
            "    redis.call('HSET'",
        )],
    },
    Fault {
        what: "all hidden connections have one place",
        script: "",
        edits: &[("redis.call('HINCRBY', CONNECTIONS, 's', 1)", "1")],
    },
    Fault {
        what: "hidden connections are listed",
        script: "presence_members",
        edits: &[("'-', '(~')", "'-', '+')")],
    },
    Fault {
        what: "an update is not made",
        script: "presence_update",
        edits: &[("if held then\n  renew", "if false then\n  renew")],
    },
    Fault {
        what: "an update is taken for a return",
        script: "presence_update",
        edits: &[("ARGV[9], false)", "ARGV[9], true)")],
    },
    Fault {
        what: "an update takes nobody out",
        script: "presence_update",
        edits: &[("evict_expired(ARGV[10])\n", "")],
    },
    Fault {
        what: "an update finds everybody",
        script: "presence_update",
        edits: &[("return held and 1 or 0", "return 1")],
    },
    Fault {
        what: "an update brings a lost connection back",
        script: "presence_update",
        edits: &[(
            "if held then\n  renew",
            "if held then\n  redis.call('HSET', CONNECTIONS, ARGV[8], 'h' .. string.sub(held, 2))\n  renew",
        )],
    },
    Fault {
        what: "a lost connection has no grace",
        script: "presence_leave",
        edits: &[("math.min(expiry, now + ARGV[10])", "now")],
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
        edits: &[("if held and ARGV[9] == 'lost' then", "if false then")],
    },
    Fault {
        what: "a goodbye waits for the grace",
        script: "presence_leave",
        edits: &[("if held and ARGV[9] == 'lost' then", "if held then")],
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
        edits: &[("evict_expired(ARGV[9])", "")],
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
                "evict_expired(ARGV[8])\n",
                "local before = { stands(POSITION) }\nreap(ARGV[8])\n",
            ),
            ("= stands(POSITION)\nif not", "= unpack(before)\nif not"),
        ],
    },
    Fault {
        what: "a snapshot is made before the silent ones are taken out",
        script: "presence_members",
        edits: &[(
            "evict_expired(ARGV[8])\nif due() == 0 then",
            "if false then",
        )],
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
        edits: &[("now <= tonumber(EVICT_UNTIL)", "EVICT_UNTIL ~= '0'")],
    },
    Fault {
        what: "who only publishes takes members out",
        script: "",
        edits: &[(
            "now <= tonumber(EVICT_UNTIL)",
            "(EVICT_UNTIL == '0' or now <= tonumber(EVICT_UNTIL))",
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
        edits: &[("is_eviction_deferred and -2", "false and -2")],
    },
    Fault {
        what: "two messages have one tag",
        script: "",
        edits: &[("sha1hex(previous .. ' ' .. id)", "sha1hex('1')")],
    },
];
