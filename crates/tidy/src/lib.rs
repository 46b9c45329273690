//! The house rules that a machine can check, as tests: `tests/house.rs` applies them to this
//! repository, the unit tests beside each rule to small bad inputs, so that they can fail.

pub mod arrows;
pub mod lexer;
pub mod manifests;
pub mod papers;
pub mod shape;

use std::fmt;
use std::path::{Path, PathBuf};

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the repository's root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// A rule that is not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule, and what breaks it.
    pub rule: String,
}

impl Failure {
    /// A failure at a line of a file.
    pub fn new(source: &Source, line: usize, rule: impl Into<String>) -> Failure {
        Failure { path: source.path.clone(), line, rule: rule.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

impl Source {
    /// A file by its path and text.
    pub fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether its name ends so.
    pub fn is(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    let tidy = Path::new(env!("CARGO_MANIFEST_DIR"));
    tidy.ancestors().nth(2).unwrap_or(tidy).to_path_buf()
}

/// All text files below a directory; built things and the history are left out.
pub fn sources(root: &Path) -> std::io::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_link = path.symlink_metadata()?.is_symlink();
            if ["target", ".git"].contains(&&*name) || is_link {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else if path.is_file() {
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let relative = path.strip_prefix(root).unwrap_or(&path);
                found.push(Source { path: relative.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
