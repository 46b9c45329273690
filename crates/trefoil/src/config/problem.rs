//! What is wrong with a configuration file, and where.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use std::fmt;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Which bytes of the file it is about, if it is about some.
    pub span: Option<Range<usize>>,
}

/// A configuration file that cannot be used: all that is wrong with it, with the lines.
#[derive(Debug)]
pub struct ConfigError {
    name: String,
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

impl Problem {
    /// Something wrong at a place.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: None, span: Some(span) }
    }

    /// Something wrong, or missing, that has no place.
    pub fn somewhere(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: None, span: None }
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// The problem as the only one of a file.
    pub fn of(self, name: &str, text: &str) -> ConfigError {
        ConfigError::new(name, text, vec![self])
    }
}

impl ConfigError {
    /// All problems of a file with this name and text.
    pub fn new(name: &str, text: &str, problems: Vec<Problem>) -> ConfigError {
        let source = NamedSource::new(name, text.to_owned());
        ConfigError { name: name.to_owned(), source, problems }
    }

    /// A file that has no text.
    pub fn unreadable(name: &str, message: &str) -> ConfigError {
        ConfigError::new(name, "", vec![Problem::somewhere(message)])
    }

    /// What is wrong.
    #[cfg(test)]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", self.name)?;
            if let Some(span) = &problem.span {
                let before = self.source.inner().get(..span.start).unwrap_or("");
                write!(f, ":{}", before.matches('\n').count() + 1)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let helps: Vec<&str> = self.problems.iter().filter_map(|p| p.help.as_deref()).collect();
        if helps.is_empty() { None } else { Some(Box::new(helps.join("\n"))) }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        let somewhere = self.problems.iter().any(|problem| problem.span.is_some());
        if somewhere { Some(&self.source) } else { None }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let spans = self.problems.iter().filter_map(|problem| problem.span.clone());
        Some(Box::new(spans.map(|span| LabeledSpan::at(self.first_line(span), "here"))))
    }
}

impl ConfigError {
    /// The part of a span that is on its first line: a whole table would bury its own message.
    fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let text = self.source.inner().get(span.clone()).unwrap_or("");
        let line = text.lines().next().map_or(0, str::len);
        span.start..span.start + line
    }
}
