//! Small things that fit the eye: lines, functions, files, and what a file begins with.

use crate::lexer::{code_only, lines_with_word};
use crate::{Failure, Source};

/// Columns of a line of Rust.
pub const COLUMNS_MAX: usize = 100;
/// Lines of a function, from its name to its last brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file.
pub const FILE_LINES_MAX: usize = 500;

/// All rules of this page.
pub fn check(source: &Source) -> Vec<Failure> {
    let mut failures = Vec::new();
    if source.is(".rs") {
        long_lines(source, &mut failures);
        first_line(source, &mut failures);
        long_functions(source, &mut failures);
    }
    if [".rs", ".sh", ".py", ".ci/run"].iter().any(|ending| source.is(ending)) {
        long_file(source, &mut failures);
    }
    if [".rs", ".sh", ".py", ".ci/run", ".toml", ".md"].iter().any(|ending| source.is(ending)) {
        unfinished(source, &mut failures);
    }
    failures
}

fn long_lines(source: &Source, failures: &mut Vec<Failure>) {
    for (number, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let rule = format!("a line has at most {COLUMNS_MAX} columns, this one {columns}");
            failures.push(Failure::new(source, number + 1, rule));
        }
    }
}

fn long_file(source: &Source, failures: &mut Vec<Failure>) {
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let rule = format!("a file has at most {FILE_LINES_MAX} lines, this one {lines}");
        failures.push(Failure::new(source, lines, rule));
    }
}

fn first_line(source: &Source, failures: &mut Vec<Failure>) {
    if !source.text.starts_with("//!") {
        failures.push(Failure::new(source, 1, "a file opens with `//!` and what it is"));
    }
}

fn unfinished(source: &Source, failures: &mut Vec<Failure>) {
    // Put together here, so that this file does not name them.
    for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("db", "g!")] {
        for (number, line) in source.text.lines().enumerate() {
            if !lines_with_word(line, word).is_empty() {
                failures.push(Failure::new(source, number + 1, format!("no `{word}` is left")));
            }
        }
    }
}

fn long_functions(source: &Source, failures: &mut Vec<Failure>) {
    let code = code_only(&source.text);
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && !code[..at].ends_with(char::is_whitespace) {
            continue;
        }
        let Some(length) = function_length(&code[at..]) else { continue };
        let first = code[..at].matches('\n').count() + 1;
        let lines = code[at..at + length].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            let name: String =
                code[at + 3..].chars().take_while(|c| *c != '(' && *c != '<').collect();
            let rule =
                format!("a function has at most {FUNCTION_LINES_MAX} lines, `{name}` {lines}");
            failures.push(Failure::new(source, first, rule));
        }
    }
}

/// Bytes from `fn` to the brace that ends its body; `None` for a declaration without one.
fn function_length(code: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0usize, 0usize);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' if braces == 0 => brackets += 1,
            b')' | b']' if braces == 0 => brackets = brackets.checked_sub(1)?,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' if brackets == 0 => braces += 1,
            b'}' if brackets == 0 => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(usize, String)> {
        let failures = check(&Source::new(path, text));
        failures.into_iter().map(|failure| (failure.line, failure.rule)).collect()
    }

    fn function(lines: usize) -> String {
        format!("fn f(a: [u8; 2]) {{\n{}}}\n", "    // {\n".repeat(lines - 2))
    }

    #[test]
    fn a_good_file_passes() {
        let text = format!("//! A.\n{}{}", function(70), function(70));
        assert_eq!(rules("a.rs", &text), []);
    }

    #[test]
    fn a_long_function_is_named() {
        let text = format!("//! A.\nfn g();\n{}", function(71));
        assert_eq!(rules("a.rs", &text)[0].0, 3);
        assert!(rules("a.rs", &text)[0].1.contains("`f` 71"));
    }

    #[test]
    fn a_long_line_a_long_file_and_a_missing_first_line_are_named() {
        let text = format!("//! A.\n// {}\n", "é".repeat(98));
        assert_eq!(rules("a.rs", &text)[0].0, 2);
        assert_eq!(rules("a.rs", &format!("//! A.\n{}", "\n".repeat(500)))[0].0, 501);
        assert_eq!(rules("a.sh", &"\n".repeat(501))[0].0, 501);
        assert!(rules("a.rs", "fn f() {}\n")[0].1.contains("//!"));
    }

    #[test]
    fn unfinished_work_is_named_wherever_it_stands() {
        let word = concat!("TO", "DO");
        assert_eq!(rules("a.md", &format!("a\n{word}: b\n"))[0].0, 2);
        assert_eq!(rules("a.rs", &format!("//! {word}\n"))[0].0, 1);
        assert_eq!(rules("a.rs", &format!("//! {}!(x)\n", "dbg"))[0].0, 1);
        assert_eq!(rules("a.md", &format!("MAS{word}N\n")), []);
    }
}
