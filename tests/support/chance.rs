//! Chance in a test, which a failing run can be repeated with.

/// A small generator, from a seed other than zero.
pub struct Chance(pub u64);

impl Chance {
    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The seed that `OPEN_DISPATCH_TEST_SEED` names, else one of this run; it is printed.
pub fn seed() -> u64 {
    let seed = std::env::var("OPEN_DISPATCH_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    println!("seed {seed}: run again with OPEN_DISPATCH_TEST_SEED={seed}");
    seed
}
