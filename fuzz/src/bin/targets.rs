//! `targets` lists what can be fuzzed; `targets seeds NAME DIR` writes the inputs to begin with.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => peerage_fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name)),
        ["seeds", name, dir] => {
            let target = peerage_fuzz::target_named(name).ok_or("there is no such target")?;
            fs::create_dir_all(dir)?;
            for (number, seed) in (target.seeds)().iter().enumerate() {
                fs::write(Path::new(dir).join(format!("seed-{number}")), seed)?;
            }
        }
        _ => return Err("usage: targets [seeds NAME DIR]".into()),
    }
    Ok(())
}
