//! Products with the planes of a head: every table has those of scalar.

use super::*;
use crate::kernels::MAX_K;

/// States and rows.
const FIRST_TERMS: [(usize, usize); 11] =
    [(1, 11), (2, 8), (3, 4), (4, 9), (5, 5), (6, 11), (7, 1), (8, 4), (9, 4), (13, 11), (8, 0)];

#[test]
fn every_table_has_scalar_nibbles() {
    let mut rng = fastrand::Rng::with_seed(13);
    for table in Kernels::available() {
        for k in [128, 640, 2560, MAX_K] {
            for extreme in [false, true] {
                let mut draw = |full: u8| if extreme { full } else { rng.u8(..) };
                let rows: Vec<u8> = (0..9 * k / 2).map(|_| draw(255)).collect();
                let codes = [127i8, -127].map(|full| {
                    (0..k).map(|_| (draw(full as u8) as i8).max(-127)).collect::<Vec<_>>()
                });
                for count in [0, 1, 3, 4, 9] {
                    let rows = &rows[..count * k / 2];
                    let of = PlaneOf { rows, k, codes: [&codes[0], &codes[1]] };
                    let (mut want, mut got) = (vec![[0; 2]; count], vec![[0; 2]; count]);
                    Kernels::scalar().nibbles(of, &mut want);
                    table.nibbles(of, &mut got);
                    assert_eq!(got, want, "{}, k {k}, {count} rows", table.name());
                }
            }
        }
    }
}

#[test]
fn every_table_has_scalar_pairs() {
    let mut rng = fastrand::Rng::with_seed(14);
    for table in Kernels::available() {
        for k in [128, 384, 640, 2560, MAX_K] {
            for extreme in [false, true] {
                let mut draw = |full: u8| if extreme { full } else { rng.u8(..) };
                let rows: Vec<u8> = (0..9 * k / 4).map(|_| draw(255)).collect();
                for full in [127i8, -127] {
                    let codes: Vec<i8> =
                        (0..k).map(|_| (draw(full as u8) as i8).max(-127)).collect();
                    for live in [&[][..], &[8], &[0, 1, 2, 3, 4], &[1, 3, 4, 8]] {
                        let of = PairsOf { rows: &rows, k, codes: &codes };
                        let (mut want, mut got) = (vec![0; live.len()], vec![0; live.len()]);
                        Kernels::scalar().pairs(of, live, &mut want);
                        table.pairs(of, live, &mut got);
                        assert_eq!(got, want, "{}, k {k}, rows {live:?}", table.name());
                    }
                }
            }
        }
    }
}

#[test]
fn every_table_has_scalar_states() {
    let mut rng = fastrand::Rng::with_seed(15);
    for table in Kernels::available() {
        for k in [128, 640, 1024, 2560, MAX_K] {
            for extreme in [false, true] {
                let mut draw = |full: u8| if extreme { full } else { rng.u8(..) };
                let high: Vec<u8> = (0..11 * k / 2).map(|_| draw(255)).collect();
                let middle: Vec<u8> = (0..11 * k / 4).map(|_| draw(255)).collect();
                let codes = [127i8, -127].map(|full| {
                    (0..6 * k).map(|_| (draw(full as u8) as i8).max(-127)).collect::<Vec<_>>()
                });
                for (states, rows) in [(1, 11), (2, 4), (3, 9), (4, 8), (6, 11), (5, 1), (2, 0)] {
                    let of = StatesOf {
                        high: &high[..rows * k / 2],
                        middle: &middle[..rows * k / 4],
                        k,
                        codes: [&codes[0][..states * k], &codes[1][..states * k]],
                    };
                    let (mut want, mut got) =
                        (vec![[0; 2]; states * rows], vec![[1; 2]; states * rows]);
                    Kernels::scalar().states(of, &mut want);
                    table.states(of, &mut got);
                    let name = table.name();
                    assert_eq!(got, want, "{name}, k {k}, {states} states, {rows} rows");
                }
            }
        }
    }
}

#[test]
fn every_table_has_scalar_first_terms() {
    for table in Kernels::available() {
        for k in [128, 640, 1024, 2560, 3072, MAX_K] {
            let mut rng = fastrand::Rng::with_seed(k as u64);
            for extreme in [None, Some(127), Some(-127)] {
                let mut draw = |full: u8| if extreme.is_some() { full } else { rng.u8(..) };
                let [high, middle] =
                    [2, 4].map(|share| (0..11 * k / share).map(|_| draw(255)).collect::<Vec<u8>>());
                let full = extreme.unwrap_or(0i8) as u8;
                let codes: Vec<i8> = (0..13 * k).map(|_| (draw(full) as i8).max(-127)).collect();
                for (states, rows) in FIRST_TERMS {
                    if k == MAX_K && states * rows > 12 {
                        continue;
                    }
                    let of = FirstTermsOf {
                        high: &high[..rows * k / 2],
                        middle: &middle[..rows * k / 4],
                        k,
                        codes: &codes[..states * k],
                    };
                    let (mut want, mut got) =
                        (vec![[0; 2]; states * rows], vec![[1; 2]; states * rows]);
                    Kernels::scalar().first_terms(of, &mut want);
                    table.first_terms(of, &mut got);
                    let name = table.name();
                    assert_eq!(got, want, "{name}, k {k}, {states} states, {rows} rows");
                }
            }
        }
    }
}
