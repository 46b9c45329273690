//! The story of a run, a line for each thing that happened, with its virtual time.

/// Longer lines are cut: values and images are of no interest to a reader.
const LINE_CHARS_MAX: usize = 220;

/// Collects lines, or nothing at all.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    on: bool,
    lines: Vec<String>,
}

impl Trace {
    /// A trace that collects lines if `on`.
    pub fn new(on: bool) -> Trace {
        Trace { on, lines: Vec::new() }
    }

    /// Whether lines are collected.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Adds a line; its text is only made if somebody wants it.
    pub fn line(&mut self, at_us: u64, text: impl FnOnce() -> String) {
        if self.on {
            let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
            self.lines.push(format!("{seconds:>3}.{micros:06} {}", text()));
        }
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All lines as one text.
    pub fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }
}

/// Cuts a text to what a reader can take in.
pub fn shorten(text: String) -> String {
    if text.chars().count() <= LINE_CHARS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(LINE_CHARS_MAX).collect();
    short.push_str("...");
    short
}
