//! Glob patterns of KEYS and SCAN MATCH, with the semantics of Redis's `stringmatchlen`:
//! `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, and `\` before a character that stands for itself.

/// Whether the whole text matches the pattern.
///
/// Takes at most (text length + 1) x (pattern length + 1) steps and no memory: everything but `*`
/// takes exactly one byte, so only the last `*` ever needs to take one byte more.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // Behind the last `*`, and the first byte that this `*` has not taken.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(at_pattern..).unwrap_or_default();
        if let [b'*', ..] = rest {
            at_pattern += 1;
            retry = Some((at_pattern, at_text));
            continue;
        }
        let byte = text.get(at_text).copied();
        if rest.is_empty() && byte.is_none() {
            return true;
        }
        match byte.and_then(|byte| step(rest, byte)) {
            Some(length) => {
                at_pattern += length;
                at_text += 1;
            }
            None => match retry {
                Some((behind_star, first)) if first < text.len() => {
                    at_pattern = behind_star;
                    at_text = first + 1;
                    retry = Some((behind_star, at_text));
                }
                _ => return false,
            },
        }
    }
}

/// How long the pattern's first element is, if it matches the byte. It is not a `*`.
fn step(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (matched, length) = in_class(class, byte);
            matched.then_some(1 + length)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the byte is in the class, and how long the class is with its `]`; one that is never
/// closed reaches to the pattern's end.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match class.get(at..).unwrap_or_default() {
            [] => break,
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [one, b'-', other, ..] => {
                found |= (*one.min(other)..=*one.max(other)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, tried in every way: exponential, and so plain that it cannot be wrong.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            _ => text.split_first().is_some_and(|(byte, text)| {
                step(pattern, *byte).is_some_and(|length| naive(&pattern[length..], text))
            }),
        }
    }

    #[test]
    fn as_redis_matches() {
        let cases: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hxllo", false),
            ("[\\]]", "]", true),
            ("[abc", "c", true),
            ("[abc", "cd", false),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[a-]", "-", false),
            ("[a-]", "]", true),
            ("[a-]x", "x", true),
            ("[\\]", "]", true),
            ("[\\", "\\", true),
            ("a\\", "a\\", true),
            ("user:*:name", "user:1:2:name", true),
            ("*a*b*", "xxaxxbxx", true),
            ("a*b", "ab c", false),
            ("?", "", false),
        ];
        for (pattern, text, expected) in cases {
            let result = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(result, *expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(50) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 2000]));
    }

    proptest! {
        #[test]
        fn as_the_definition_says(pattern in "[ab*?\\[\\]^\\\\-]{0,9}", text in "[ab\\]^-]{0,8}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), naive(pattern, text));
        }
    }
}
