//! Rotary positions, section 6.

use super::math;

/// The frequencies of the `head_dim / 2` pairs.
pub(crate) fn frequencies(theta: f32, head_dim: usize, factors: Option<&[f32]>) -> Vec<f32> {
    let ln_theta = math::ln(f64::from(theta));
    (0..head_dim / 2)
        .map(|d| {
            let frequency = math::exp64(-(2.0 * d as f64 / head_dim as f64) * ln_theta) as f32;
            factors.map_or(frequency, |factors| frequency / factors[d])
        })
        .collect()
}

/// Cosines, then sines, of one position: `[2][head_dim / 2]`.
pub(crate) fn angles(position: u32, frequencies: &[f32], out: &mut [f32]) {
    let (cos, sin) = out.split_at_mut(frequencies.len());
    for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies) {
        let angle = f64::from(position as f32 * frequency);
        let (s, c) = math::sin_cos(angle);
        (*cos, *sin) = (c as f32, s as f32);
    }
}

/// Which values of a head form the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(d, d + head_dim / 2)`.
    Half,
    /// `(2d, 2d + 1)`.
    Adjacent,
}

/// Rotates every head of a row in place. `angles` is `[2][n / 2]` for the `n` leading values that rotate.
#[inline(always)]
pub(crate) fn rotate(row: &mut [f32], head_dim: usize, pairs: Pairs, angles: &[f32]) {
    let half = angles.len() / 2;
    let (cos, sin) = angles.split_at(half);
    for head in row.chunks_exact_mut(head_dim) {
        match pairs {
            Pairs::Half => {
                let (low, high) = head.split_at_mut(half);
                for (((x, y), c), s) in low.iter_mut().zip(&mut high[..half]).zip(cos).zip(sin) {
                    (*x, *y) = (*x * c - *y * s, *x * s + *y * c);
                }
            }
            Pairs::Adjacent => {
                for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                    let (x, y) = (pair[0], pair[1]);
                    (pair[0], pair[1]) = (x * c - y * s, x * s + y * c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_is_the_identity_and_pairs_agree() {
        let frequencies = frequencies(500_000.0, 8, None);
        assert_eq!(frequencies[0], 1.0);
        let mut table = [0.0; 8];
        angles(0, &frequencies, &mut table);
        let mut row: Vec<f32> = (0..8).map(|i| i as f32).collect();
        rotate(&mut row, 8, Pairs::Half, &table);
        assert_eq!(row, (0..8).map(|i| i as f32).collect::<Vec<_>>());
        angles(5, &frequencies, &mut table);
        rotate(&mut row, 8, Pairs::Half, &table);
        let mut adjacent: Vec<f32> = [0, 4, 1, 5, 2, 6, 3, 7].map(|i| i as f32).to_vec();
        rotate(&mut adjacent, 8, Pairs::Adjacent, &table);
        for d in 0..4 {
            assert_eq!((row[d], row[d + 4]), (adjacent[2 * d], adjacent[2 * d + 1]), "pair {d}");
        }
        assert!((row[0] - (0.0 * 5f64.cos() - 4.0 * 5f64.sin()) as f32).abs() < 1e-6);
    }
}
