//! Reproducible random numbers.

use std::time::Duration;

use drillmaster_sim::faulty::random;

/// Random numbers from a seed; the same seed yields the same numbers.
pub struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng { seed: random(seed, 0x51B1), drawn: 0 }
    }

    /// Returns a number below the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        random(self.seed, self.drawn) % bound
    }

    /// Returns true with a probability of one in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// Returns a time below the bound, in whole milliseconds.
    pub fn time_below(&mut self, bound: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(bound.as_millis()).unwrap().max(1)))
    }
}
