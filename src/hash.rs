//! A 64-bit fingerprint of bytes: the same on every system, no defence against forgery.

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes bytes in any number of pieces; the pieces are part of the fingerprint.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Of nothing.
    pub(crate) fn new() -> Self {
        Self(PRIME)
    }

    /// Adds one piece: its words of eight bytes, what is left over, its length.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        // Four independent lanes keep the multiplier busy.
        let mut lanes = [self.0, self.0 ^ 1, self.0 ^ 2, self.0 ^ 3];
        for (i, word) in words.iter().enumerate() {
            let lane = &mut lanes[i % 4];
            *lane = fold(*lane ^ u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let joined = lanes.into_iter().fold(0, |hash, lane| fold(hash ^ lane));
        self.0 = fold(fold(joined ^ u64::from_le_bytes(last)) ^ bytes.len() as u64);
    }

    /// The fingerprint.
    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

/// Both halves of a 128-bit product.
fn fold(x: u64) -> u64 {
    let product = u128::from(x ^ PRIME) * u128::from(PRIME | 1);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_length_counts() {
        let hash = |bytes: &[u8]| {
            let mut hash = Fingerprint::new();
            hash.add(bytes);
            hash.finish()
        };
        let bytes: Vec<u8> = (0..100).collect();
        let mut seen = std::collections::HashSet::new();
        for len in 0..100 {
            assert!(seen.insert(hash(&bytes[..len])), "length {len}");
        }
        for i in 0..100 {
            let mut changed = bytes.clone();
            changed[i] ^= 0x10;
            assert!(seen.insert(hash(&changed)), "byte {i}");
        }
        assert_eq!(hash(b"tern"), hash(b"tern"));
    }
}
