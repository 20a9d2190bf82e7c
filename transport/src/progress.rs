use std::sync::atomic::{AtomicU8, Ordering};

use crate::Stage;

/// Which stage something is in, readable while it goes on and after it was cut off.
///
/// It is shared between whoever does the work and whoever reports on it: one for each dial, in an `Arc`.
#[derive(Debug, Default)]
pub struct Progress(AtomicU8);

impl Progress {
    /// Nothing was done yet: [`Stage::Address`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that `stage` begins.
    pub fn enter(&self, stage: Stage) {
        self.0.store(stage.number(), Ordering::Relaxed);
    }

    /// The stage that began last.
    pub fn stage(&self) -> Stage {
        Stage::ALL
            .into_iter()
            .find(|stage| stage.number() == self.0.load(Ordering::Relaxed))
            .unwrap_or(Stage::Address)
    }
}

impl Stage {
    const ALL: [Self; 5] = [Self::Address, Self::Dns, Self::Connect, Self::Security, Self::Muxer];

    fn number(self) -> u8 {
        match self {
            Self::Address => 0,
            Self::Dns => 1,
            Self::Connect => 2,
            Self::Security => 3,
            Self::Muxer => 4,
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
