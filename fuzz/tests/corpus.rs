//! Every target over its seeds, over what was found so far, and over mutations of both: the same ones in each run.

use std::{fs, path::Path};

use peerage_fuzz::{TARGETS, Target};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Mutations of each target's inputs.
const MUTATIONS: usize = 2000;

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    for kind in ["corpus", "regressions"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name);
        let Ok(files) = fs::read_dir(dir) else { continue };
        let mut paths: Vec<_> = files.map(|file| file.expect("a readable directory").path()).collect();
        paths.sort();
        inputs.extend(paths.into_iter().map(|path| fs::read(path).expect("a readable file")));
    }
    inputs.push(Vec::new());
    inputs
}

/// One of the things that break decoders.
fn mutate(input: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..=input.len());
    match rng.random_range(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, rng.random()),
        2 => input.splice(at..at, [0xff; 9]).for_each(drop),
        3 if at < input.len() => drop(input.remove(at)),
        4 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        _ if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        _ => {}
    }
}

fn try_all(targets: impl Iterator<Item = &'static Target>) {
    for target in targets {
        let inputs = inputs(target);
        inputs.iter().for_each(|input| (target.run)(input));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..MUTATIONS {
            let mut input = inputs[rng.random_range(0..inputs.len())].clone();
            for _ in 0..=rng.next_u32() % 4 {
                mutate(&mut input, &mut rng);
            }
            (target.run)(&input);
        }
    }
}

/// Halves, so that two cores have something to do.
#[test]
fn the_first_half() {
    try_all(TARGETS.iter().step_by(2));
}

#[test]
fn the_second_half() {
    try_all(TARGETS.iter().skip(1).step_by(2));
}
