//! How a command ends that did not work.

use std::{process::ExitCode, sync::Arc};

use peerage::Report;

/// Why a command did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told to the user.
    Error(Box<Told>),
    /// The command has said itself what did not work.
    Unsuccessful,
    /// Ctrl-C came before it was done.
    Interrupted,
    /// Whoever read the output does not read any more.
    BrokenPipe,
}

/// What the user is told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What was tried.
    pub(crate) report: Option<Arc<Report>>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Error(Box::new(Told { message: message.into(), hint: None, report: None }))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Error(told) = &mut self {
            told.hint = Some(hint.into());
        }
        self
    }

    #[must_use]
    pub(crate) fn report(mut self, report: Arc<Report>) -> Self {
        if let Self::Error(told) = &mut self {
            told.report = Some(report);
        }
        self
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Error(_) | Self::Unsuccessful => 1,
            // What a shell says of a program that SIGINT or SIGPIPE ended.
            Self::Interrupted => 130,
            Self::BrokenPipe => 141,
        })
    }
}
