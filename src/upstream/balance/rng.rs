//! Pseudorandom numbers and hashes for balancers: small, fast, equal on all platforms.
//!
//! They are not cryptographic and must not protect secrets. The generator and the mixer are SplitMix64 (Steele, Lea,
//! Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

use std::cell::Cell;

/// 2^64 over the golden ratio: its multiples spread evenly (Knuth, TAOCP 3, 6.4).
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });

/// A pseudorandom number generator. The same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Prng(u64);

impl Prng {
    /// Creates a generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Runs `with` on the generator of this thread. Threads share no state.
    pub fn of_thread<T>(with: impl FnOnce(&mut Self) -> T) -> T {
        STATE.with(|state| {
            let seed = Some(state.get()).filter(|seed| *seed != 0);
            let mut rng = Self(seed.unwrap_or_else(|| fastrand::u64(1..)));
            let result = with(&mut rng);
            state.set(rng.0);
            result
        })
    }

    /// Seeds the generator of this thread, for reproducible tests.
    #[cfg(test)]
    pub(crate) fn seed_thread(seed: u64) {
        STATE.with(|state| state.set(seed.max(1)));
    }

    /// The next number, uniform in 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`, uniform up to a bias of one part in `2^64 / bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        scale(self.draw(), bound)
    }
}

/// Maps a number of 64 bits to one below `bound`, in proportion (Lemire, "Fast random integer generation in an
/// interval", 2019, without the rejection step).
pub fn scale(number: u64, bound: u64) -> u64 {
    ((u128::from(number) * u128::from(bound)) >> 64) as u64
}

/// Mixes the bits of `number`: each bit of the result depends on all of them. The mapping is one to one.
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// A hash of bytes, equal in every process and on every machine.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, word: u64| mix(hash ^ word).wrapping_add(GOLDEN);
    let mut words = bytes.chunks_exact(8);
    let mut hash = fold(GOLDEN, bytes.len() as u64);
    for word in words.by_ref() {
        hash = fold(hash, word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    mix(fold(hash, words.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // First outputs of the reference implementation for the seed 1234567.
        let mut rng = Prng::new(1_234_567);
        assert_eq!([rng.draw(), rng.draw()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn threads_do_not_get_the_same_numbers() {
        let mine = Prng::of_thread(|rng| [rng.draw(), rng.draw()]);
        let others = std::thread::spawn(|| Prng::of_thread(|rng| [rng.draw(), rng.draw()])).join();
        assert_ne!(mine[0], mine[1]);
        assert_ne!(Some(mine), others.ok());
    }

    #[test]
    fn a_hash_is_stable_and_depends_on_each_bit() {
        assert_eq!(hash(b"10.0.0.1:3001"), 5_483_983_832_536_740_745);
        let texts: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"abcdefgh", b"abcdefgh\0", b"abcdefgi"];
        let hashes: std::collections::HashSet<_> = texts.iter().map(|text| hash(text)).collect();
        assert_eq!(hashes.len(), texts.len());
        let mut counts = [0_u32; 16];
        for n in 0..16_000 {
            counts[(hash(format!("user-{n}").as_bytes()) >> 60) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (870..1_130).contains(count)), "{counts:?}");
    }
}
