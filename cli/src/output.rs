//! What a command says: results on standard output, as text or one JSON object a line; all else on standard error.

use std::{
    env,
    fmt::{self, Display},
    io::{self, IsTerminal as _, Write as _},
};

use serde::Serialize;

use crate::failure::{Failure, Told};

/// The one writer of standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    out: Paint,
    err: Paint,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal() && !json;
        let colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            terminal,
            out: Paint(terminal && colours),
            err: Paint(io::stderr().is_terminal() && colours),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at it right now.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// How many columns standard output has; 100 where nobody looks at it.
    pub(crate) fn width(&self) -> usize {
        let columns =
            crossterm::terminal::size().ok().filter(|_| self.terminal).map(|(columns, _)| columns.into());
        columns.unwrap_or(100)
    }

    /// The colours of standard output.
    pub(crate) fn paint(&self) -> Paint {
        self.out
    }

    /// Says that something happened: `event` to a program, `text` to a person.
    pub(crate) fn say(&self, event: &impl Serialize, text: impl Display) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string(event)
                .map_err(|error| Failure::new(format!("cannot write an event as JSON: {error}")))?;
            write(&line)
        } else {
            write(&text)
        }
    }

    /// Says to a person only.
    pub(crate) fn text(&self, text: impl Display) -> Result<(), Failure> {
        if self.json { Ok(()) } else { write(&text) }
    }

    /// Says on standard error what is no result: progress, and advice.
    pub(crate) fn note(&self, text: impl Display) {
        // Nobody to tell is fine.
        let _ = writeln!(io::stderr().lock(), "{}", self.err.dim(text));
    }

    /// Says why the command did not work.
    pub(crate) fn fail(&self, told: &Told) {
        if self.json {
            let report = told.report.as_deref().map(crate::report::Json::of);
            let _ =
                self.say(&Event::Error { message: &told.message, hint: told.hint.as_deref(), report }, "");
            return;
        }
        let mut err = io::stderr().lock();
        let _ = writeln!(err, "{} {}", self.err.red("error:"), told.message);
        if let Some(report) = &told.report {
            let _ = writeln!(err, "{report}");
        }
        if let Some(hint) = &told.hint {
            let _ = writeln!(err, "{} {hint}", self.err.bold("hint:"));
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Error {
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        report: Option<crate::report::Json>,
    },
}

fn write(line: &impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    // Flushed at once: whoever reads the lines acts on them.
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::new(format!("cannot write to standard output: {error}")),
    })
}

/// Colours, if there is somebody to see them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// Without colours.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(false)
    }

    pub(crate) fn bold<T: Display>(self, text: T) -> Painted<T> {
        self.with("1", text)
    }

    pub(crate) fn dim<T: Display>(self, text: T) -> Painted<T> {
        self.with("2", text)
    }

    pub(crate) fn red<T: Display>(self, text: T) -> Painted<T> {
        self.with("1;31", text)
    }

    pub(crate) fn green<T: Display>(self, text: T) -> Painted<T> {
        self.with("32", text)
    }

    /// One of six colours: the same for the same `seed`.
    pub(crate) fn one_of<T: Display>(self, seed: u8, text: T) -> Painted<T> {
        const CODES: [&str; 6] = ["31", "32", "33", "34", "35", "36"];
        let code = CODES.get(usize::from(seed) % CODES.len()).copied().unwrap_or("1");
        self.with(code, text)
    }

    fn with<T: Display>(self, code: &'static str, text: T) -> Painted<T> {
        Painted { code: self.0.then_some(code), text }
    }
}

#[derive(Debug)]
pub(crate) struct Painted<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_seen() {
        assert_eq!(Paint(false).red("x").to_string(), "x");
        assert_eq!(Paint(true).green("x").to_string(), "\x1b[32mx\x1b[0m");
        assert_eq!(Paint(true).one_of(13, "x").to_string(), Paint(true).one_of(1, "x").to_string());
    }

    #[test]
    fn an_error_without_advice_has_no_empty_fields() {
        let event = Event::Error { message: "no", hint: None, report: None };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"event":"error","message":"no"}"#);
    }
}
