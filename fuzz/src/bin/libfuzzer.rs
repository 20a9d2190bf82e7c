//! libFuzzer with one of the targets: PEERAGE_FUZZ names it. `fuzz/run` builds and starts this.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls a symbol without mangling")]

use std::sync::LazyLock;

use peerage_fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("PEERAGE_FUZZ").unwrap_or_default();
    peerage_fuzz::target_named(&name).unwrap_or_else(|| panic!("PEERAGE_FUZZ={name:?} names no target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
