//! How nodes find one another.
