//! Chance that can be repeated.

use std::time::Duration;

use drillmaster_sim::faulty::random;

/// Draws from a seed: the same draws each time.
pub struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng { seed: random(seed, 0x51B1), drawn: 0 }
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        random(self.seed, self.drawn) % bound
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// A time below this one, in whole milliseconds.
    pub fn time_below(&mut self, bound: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(bound.as_millis()).unwrap().max(1)))
    }
}
