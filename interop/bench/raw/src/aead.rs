//! How fast the ciphers are by themselves, on one core, sealing in place.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use serde_json::{Map, json};

const CIPHERS: [(&str, &Algorithm); 3] =
    [("ChaCha20-Poly1305", &CHACHA20_POLY1305), ("AES-128-GCM", &AES_128_GCM), ("AES-256-GCM", &AES_256_GCM)];
/// What a TLS record carries, and a noise frame.
const SIZES: [usize; 2] = [16 << 10, 65_519];
const EACH: Duration = Duration::from_millis(200);

pub(crate) fn main() -> ExitCode {
    let mut speeds = Map::new();
    for (name, algorithm) in CIPHERS {
        for size in SIZES {
            match seal(algorithm, size) {
                Ok(gbits) => drop(speeds.insert(format!("{name}, {size} B"), json!(gbits))),
                Err(error) => {
                    eprintln!("peer: {name}: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    println!("{}", json!({ "event": "result", "result": speeds }));
    ExitCode::SUCCESS
}

/// Gbit/s.
fn seal(algorithm: &'static Algorithm, size: usize) -> Result<f64, aws_lc_rs::error::Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &vec![7; algorithm.key_len()])?);
    let mut buffer = vec![0; size];
    let mut sealed: u64 = 0;
    let began = Instant::now();
    while began.elapsed() < EACH {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&sealed.to_le_bytes());
        let _ =
            key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut buffer)?;
        sealed = sealed.saturating_add(1);
    }
    Ok(sealed as f64 * size as f64 * 8.0 / 1e9 / began.elapsed().as_secs_f64())
}
