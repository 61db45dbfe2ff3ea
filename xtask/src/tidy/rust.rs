//! As much of Rust's grammar as the rules need: what is code, what is test, and which paths are named.

/// The source with comments and literals blanked out; every line stays where it was.
pub(super) fn code(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = literal_or_comment_end(&characters, at);
        match end {
            Some(end) => {
                out.extend(
                    characters[at..end]
                        .iter()
                        .map(|&c| if c == '\n' { '\n' } else { ' ' }),
                );
                at = end;
            }
            None => {
                out.push(characters[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends, if one does.
fn literal_or_comment_end(text: &[char], at: usize) -> Option<usize> {
    let rest = &text[at..];
    let inside_word = at > 0 && is_word(text[at - 1]);
    match rest {
        ['/', '/', ..] => Some(at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(at + block_comment_length(rest)),
        ['r', '"' | '#', ..] if !inside_word => {
            raw_string_length(&rest[1..]).map(|length| at + 1 + length)
        }
        ['b' | 'c', 'r', '"' | '#', ..] if !inside_word => {
            raw_string_length(&rest[2..]).map(|length| at + 2 + length)
        }
        ['"', ..] => Some(at + quoted_length(rest, '"')),
        // A lifetime has no second quote after one character.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => Some(at + quoted_length(rest, '\'')),
        _ => None,
    }
}

fn block_comment_length(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of `#"..."#` with any number of `#`, or nothing when it is a raw identifier.
fn raw_string_length(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&c| c == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(())?;
    let closing = |at: usize| {
        rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
    };
    let end = (hashes + 1..rest.len()).find(|&at| closing(at));
    Some(end.map_or(rest.len(), |end| end + 1 + hashes))
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks out the items under `#[cfg(test)]` in code; returns what is left and the modules that were declared so.
pub(super) fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut left = code.to_owned();
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(start) = left[from..].find("#[cfg(").map(|at| from + at) {
        let attribute_end = start + matching(&left[start + 1..]) + 1;
        let condition = &left[start..attribute_end];
        let is_test = condition.split(|c| !is_word(c)).any(|word| word == "test")
            && !condition.contains("not(test");
        if !is_test {
            from = attribute_end;
            continue;
        }
        let end = attribute_end + item_length(&left[attribute_end..]);
        let item = left[attribute_end..end].trim();
        if let Some(name) = item
            .strip_suffix(';')
            .and_then(|item| item.rsplit_once("mod "))
        {
            modules.push(name.1.trim().to_owned());
        }
        let blank: String = left[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        left.replace_range(start..end, &blank);
        from = start + blank.len();
    }
    (left, modules)
}

/// The length of the bracketed text at the start, brackets included.
fn matching(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// The length of an item: to its block's end, or to the semicolon of one that has no block.
fn item_length(text: &str) -> usize {
    let mut at = 0;
    let is_statement = is_statement(text);
    while let Some(c) = text[at..].chars().next() {
        match c {
            ';' => return at + 1,
            '{' if !is_statement => return at + matching(&text[at..]),
            '(' | '[' | '{' => {
                at += matching(&text[at..]);
                continue;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    text.len()
}

/// Whether an item ends with a semicolon whatever blocks it has.
fn is_statement(item: &str) -> bool {
    let mut rest = item.trim_start();
    loop {
        rest = match rest {
            attribute if attribute.starts_with("#[") => &attribute[1 + matching(&attribute[1..])..],
            public if public.starts_with("pub(") => &public[3 + matching(&public[3..])..],
            public if public.starts_with("pub ") => &public[3..],
            _ => break,
        }
        .trim_start();
    }
    let is_constant = rest.starts_with("const ") && !rest.starts_with("const fn");
    is_constant
        || ["use ", "static ", "type ", "let "]
            .iter()
            .any(|keyword| rest.starts_with(keyword))
}

/// A path that code names, such as `crate::hub::Hub`, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// Every path in code, imports taken apart.
pub(super) fn paths(code: &str) -> Vec<NamedPath> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text {
            // Of a type: what it captures.
            "use" if tokens.get(at + 1).is_some_and(|next| next.text == "<") => at += 1,
            "use" => at = import(&tokens, at + 1, &[], &mut paths),
            word if word.starts_with(is_word) => at = path(&tokens, at, &mut paths),
            _ => at += 1,
        }
    }
    paths
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Words, `::` and single characters.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            tokens.push(Token {
                text: &rest[..length],
                line: index + 1,
            });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Reads `a::b::c` from a word on and returns where it ends.
fn path(tokens: &[Token<'_>], start: usize, paths: &mut Vec<NamedPath>) -> usize {
    let mut segments = vec![tokens[start].text.to_owned()];
    let mut at = start + 1;
    while let [Token { text: "::", .. }, Token { text, .. }, ..] = tokens[at..] {
        if !text.starts_with(is_word) {
            break;
        }
        segments.push(text.to_owned());
        at += 2;
    }
    if segments.len() > 1 {
        paths.push(NamedPath {
            segments,
            line: tokens[start].line,
        });
    }
    at
}

/// Reads one branch of a `use` tree below `prefix` and returns where it ends.
fn import(
    tokens: &[Token<'_>],
    start: usize,
    prefix: &[String],
    paths: &mut Vec<NamedPath>,
) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = start;
    let mut is_alias = false;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                at += 1;
                while tokens
                    .get(at)
                    .is_some_and(|token| !matches!(token.text, "}" | ";"))
                {
                    at = import(tokens, at, &segments, paths);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => is_alias = true,
            "self" if !segments.is_empty() => {}
            word if word.starts_with(is_word) && !is_alias => segments.push(word.to_owned()),
            _ => {}
        }
        at += 1;
    }
    if let Some(line) = tokens.get(start).map(|token| token.line) {
        paths.push(NamedPath { segments, line });
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<String> {
        paths(code)
            .into_iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text =
            "a /* b /* c */ d */ e // f\n\"g \\\" h\" r#\"i \" j\"# 'k' '\\'' &'l m b\"n\" r#type";
        let expect =
            "a                     e     \n                                &'l m b     r#type";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&code(text)), squeeze(expect));
        assert_eq!(code(text).lines().count(), text.lines().count());
    }

    #[test]
    fn test_items_are_left_out() {
        let text = "use a::b;\n#[cfg(test)]\nuse c::{d};\n#[cfg(test)]\nmod model;\n#[cfg(test)]\n#[path = \"x\"]\nmod tests { fn f() { { } } }\nfn g() {}\n#[cfg(not(test))]\nfn h() {}\n#[cfg(any(test, feature = \"x\"))]\npub(crate) const I: [u8; 2] = { [1; 2] };\n#[cfg(test)]\nfn f() -> impl Iterator<Item = u8> {}\nfn j() {}";
        let (left, modules) = without_tests(&code(text));
        let words: Vec<&str> = left.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "use a::b; fn g() {} #[cfg(not(test))] fn h() {} fn j() {}"
        );
        assert_eq!(modules, ["model"]);
    }

    #[test]
    fn imports_are_taken_apart() {
        let text = "use crate::{hub::{self, Hub as H}, engine::*};\npub use std::time::Duration;\nuse tokio;\n";
        assert_eq!(
            names(text),
            [
                "crate::hub",
                "crate::hub::Hub",
                "crate::engine",
                "std::time::Duration",
                "tokio"
            ]
        );
    }

    #[test]
    fn paths_in_expressions_are_seen() {
        assert_eq!(
            names("fn f(x: crate::hub::Hub) { tokio::spawn(x.y()); let z = Vec::<u8>::new(); }"),
            ["crate::hub::Hub", "tokio::spawn"]
        );
    }

    #[test]
    fn what_a_type_captures_is_no_import() {
        let text = "fn f() -> impl Fn(u8) -> u8 + use<> { move |x| { x.y; } }\nuse a::b;";
        assert_eq!(names(text), ["a::b"]);
        assert_eq!(names("use a::{b; c::d"), ["a::b", "c::d"], "not even Rust");
    }

    #[test]
    fn a_path_knows_its_line() {
        assert_eq!(paths("\n\nuse a::{\n  b,\n  c::d,\n};")[1].line, 5);
    }
}
