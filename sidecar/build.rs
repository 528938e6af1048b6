//! Marks the build with a sum over its sources, so that a server takes only a reporter that was
//! made from the same ones, and not what an earlier build left beside it.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=src");
    let mut found = Vec::new();
    sources(Path::new("src"), &mut found)?;
    found.sort();
    let mut sum = DefaultHasher::new();
    for path in found {
        path.hash(&mut sum);
        fs::read(&path)?.hash(&mut sum);
    }
    println!("cargo:rustc-env=SPRITE_REPORTER_SOURCES={:016x}", sum.finish());
    Ok(())
}
