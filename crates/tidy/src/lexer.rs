//! Just enough of Rust's grammar to tell code from comments and texts.

/// The same text with comments, strings and characters turned into spaces: what is left is code,
/// on the same lines and columns (counted in bytes).
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped_until(bytes, at);
        if end > at {
            let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
            code.extend(bytes[at..end].iter().map(blank));
            at = end;
        } else {
            code.push(if bytes[at].is_ascii() { bytes[at] } else { b' ' });
            at += 1;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Where the comment or text that begins here ends; `at` itself if none begins.
fn skipped_until(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inside_name = at > 0 && is_name(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment(rest);
    }
    if rest[0] == b'"' {
        return at + string(rest);
    }
    if !inside_name {
        let prefix = rest.iter().take_while(|byte| b"bcr".contains(byte)).count().min(2);
        let after = &rest[prefix..];
        let hashes = after.iter().take_while(|byte| **byte == b'#').count();
        let raw = rest[..prefix].contains(&b'r') && after.get(hashes) == Some(&b'"');
        if raw {
            return at + prefix + raw_string(after, hashes);
        }
    }
    if rest[0] == b'\'' { at + character(rest) } else { at }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8], hashes: usize) -> usize {
    let end: Vec<u8> = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let start = hashes + 1;
    let found = rest[start..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |place| start + place + end.len())
}

/// A character ends with a quote soon; a lifetime does not.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return end.map_or(1, |place| place + 4);
    }
    let width = match rest.get(1) {
        Some(byte) if *byte >= 0xF0 => 4,
        Some(byte) if *byte >= 0xE0 => 3,
        Some(byte) if *byte >= 0xC0 => 2,
        _ => 1,
    };
    if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
}

/// The lines of `code` on which a word stands by itself, from 1.
pub fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let has_word = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_name) && !after.is_some_and(is_name)
        })
    };
    let lines = code.lines().enumerate().filter(|(_, line)| has_word(line));
    lines.map(|(number, _)| number + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_texts_and_characters_go_and_code_stays() {
        for (text, words) in [
            ("a // b {", "a"),
            ("a /* { /* { */ { */ b", "a b"),
            ("a \"{ \\\" {\" b", "a b"),
            ("a r#\"{ \" {\"# b", "a b"),
            ("a br\"{\" b", "a b"),
            ("'{' '\\'' '\\n' b", "b"),
            ("<'a> { 'é' }", "<'a> { }"),
            ("for r in b {}", "for r in b {}"),
        ] {
            let code = code_only(text);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), words, "{text}");
            assert_eq!(code.len(), text.len(), "{text}");
        }
        assert_eq!(code_only("\"a\n{\" b"), "  \n   b");
    }

    #[test]
    fn a_word_stands_by_itself() {
        assert_eq!(lines_with_word("ab\nb::c\nb_c b", "b"), [2, 3]);
        assert_eq!(lines_with_word("abc", "b"), [0usize; 0]);
    }
}
