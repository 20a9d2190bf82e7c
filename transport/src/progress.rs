use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

use crate::Stage;

/// Which stage something is in, readable while it goes on and after it was cut off.
///
/// It is shared between whoever does the work and whoever reports on it: one for each dial, in an `Arc`.
#[derive(Default)]
pub struct Progress {
    stage: AtomicU8,
    tell: Option<Box<dyn Fn(Stage) + Send + Sync>>,
}

impl Progress {
    /// Nothing was done yet: [`Stage::Address`].
    pub fn new() -> Self {
        Self::default()
    }

    /// One that tells somebody of each stage as it begins.
    pub fn telling(tell: impl Fn(Stage) + Send + Sync + 'static) -> Self {
        Self { tell: Some(Box::new(tell)), ..Self::default() }
    }

    /// Says that `stage` begins.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage.number(), Ordering::Relaxed);
        if let Some(tell) = &self.tell {
            tell(stage);
        }
    }

    /// The stage that began last.
    pub fn stage(&self) -> Stage {
        Stage::ALL
            .into_iter()
            .find(|stage| stage.number() == self.stage.load(Ordering::Relaxed))
            .unwrap_or(Stage::Address)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.stage()).finish()
    }
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Address, Self::Dns, Self::Connect, Self::WebSocket, Self::Security, Self::Muxer];

    fn number(self) -> u8 {
        match self {
            Self::Address => 0,
            Self::Dns => 1,
            Self::Connect => 2,
            Self::WebSocket => 3,
            Self::Security => 4,
            Self::Muxer => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_comes_back() {
        let progress = Progress::new();
        assert_eq!(progress.stage(), Stage::Address);
        for stage in Stage::ALL {
            progress.enter(stage);
            assert_eq!(progress.stage(), stage);
        }
    }
}
