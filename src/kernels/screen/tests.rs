//! No bound is left, by any table, for any state.

use super::{split::nearest, *};
use crate::kernels::RowType;

struct Head {
    k: usize,
    rows: Vec<f32>,
    /// High, middle, low.
    planes: [Vec<u8>; 3],
    bounds: Vec<RowBounds>,
}

/// What is said of one row: its score, and about what it is and at most, by each kind of bound.
struct Said {
    score: f32,
    /// From nibbles, from both terms, from the first.
    first: [(f32, f32); 3],
    /// From each the same bounds.
    fine: [(f32, f32); 3],
    /// On the way from the first term.
    first_fine: (f32, f32),
}

/// Whether a score is at most what is said, and at least as far from it the other way.
fn holds(score: f32, (about, most): (f32, f32)) -> bool {
    let bound = most - about;
    (score - about).abs() <= bound * (1.0 + f32::EPSILON) && score <= most
}

impl Head {
    fn new(k: usize, rows: Vec<f32>) -> Self {
        let mut planes = [2, 4, 4].map(|share| vec![0; rows.len() / share]);
        let [high, middle, low] = &mut planes;
        let pairs = middle.chunks_exact_mut(k / 4).zip(low.chunks_exact_mut(k / 4));
        let bounds = (rows.chunks_exact(k).zip(high.chunks_exact_mut(k / 2)).zip(pairs))
            .map(|((row, high), (middle, low))| Kernels::best().split_row(row, [high, middle, low]))
            .collect();
        let nibbles = planes[0].clone();
        let groups = planes[0].chunks_mut(ROWS * k / 2);
        nibbles
            .chunks(ROWS * k / 2)
            .zip(groups)
            .for_each(|(rows, group)| group_rows(rows, k, group));
        Self { k, rows, planes, bounds }
    }

    fn score(&self, table: &Kernels, state: &[f32]) -> Vec<Said> {
        let (k, count) = (self.k, self.bounds.len());
        let (mut first, mut second) = (vec![0; k], vec![0; k]);
        let split = Split::new(state, &mut first, &mut second);
        let live: Vec<u32> = (0..count as u32).collect();
        let mut high = vec![[0; 2]; count];
        let mut sums = vec![[0; 2]; count];
        let [of_high, of_middle, of_low] = &self.planes;
        table.nibbles(PlaneOf { rows: of_high, k, codes: [&first, &second] }, &mut high);
        let [middle, low] = [of_middle, of_low].map(|rows| {
            let mut sums = vec![0; count];
            table.pairs(PairsOf { rows, k, codes: &first }, &live, &mut sums);
            sums
        });
        let bytes: Vec<u8> = self.rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut scores = vec![0.0; count];
        table.row_dots(&bytes, RowType::F32, state, k, &mut scores);
        let of = StatesOf { high: of_high, middle: of_middle, k, codes: [&first, &second] };
        table.states(of, &mut sums);
        let mut firsts = vec![[0; 2]; count];
        let of = FirstTermsOf { high: of_high, middle: of_middle, k, codes: &first };
        table.first_terms(of, &mut firsts);
        let limits = |sums: &[[i32; 2]], basis| {
            let (mut score, mut upper) = (vec![0.0; count], vec![0.0; count]);
            let sums = RowSums { bounds: &self.bounds, sums, basis };
            table.limits(&split, sums, &mut score, &mut upper);
            score.into_iter().zip(upper).collect::<Vec<_>>()
        };
        let nibbles = limits(&high, Basis::Nibbles);
        let both = limits(&sums, Basis::BothTerms);
        let first = limits(&firsts, Basis::FirstTerm);
        (0..count)
            .map(|r| {
                let bounds = &self.bounds[r];
                let first_fine = split.refine_first_term(bounds, first[r].0, low[r]);
                Said {
                    score: scores[r],
                    first: [nibbles[r], both[r], first[r]],
                    fine: [
                        split.refine_nibbles(bounds, nibbles[r].0, middle[r], low[r]),
                        split.refine_both_terms(bounds, both[r].0, low[r]),
                        split.refine_second_term(bounds, [first[r].0, first_fine.0], high[r][1]),
                    ],
                    first_fine,
                }
            })
            .collect()
    }
}

fn normal(rng: &mut fastrand::Rng) -> f32 {
    (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0
}

#[test]
fn no_score_leaves_its_bound() {
    let mut rng = fastrand::Rng::with_seed(21);
    for table in Kernels::available() {
        for (k, scale) in [(128, 1.0f32), (640, 1e-3), (2560, 300.0), (2560, 1e-30)] {
            let rows = (0..43 * k).map(|_| normal(&mut rng) * scale).collect();
            let head = Head::new(k, rows);
            for state in 0..3 {
                let state: Vec<f32> = match state {
                    0 => (0..k).map(|_| normal(&mut rng)).collect(),
                    1 => (0..k).map(|i| if i % 97 == 0 { 50.0 } else { 1e-3 }).collect(),
                    _ => head.rows[..k].to_vec(),
                };
                for (r, said) in head.score(table, &state).into_iter().enumerate() {
                    let at = format!("{}, k {k}, row {r}: {}", table.name(), said.score);
                    for kind in said.first.into_iter().chain([said.first_fine]) {
                        assert!(holds(said.score, kind), "{at} leaves {kind:?}");
                    }
                    let width = said.first[1].1 - said.first[1].0;
                    for (about, most) in said.fine {
                        assert!(
                            holds(said.score, (about, most)),
                            "{at} leaves fine {about}, {most}"
                        );
                        let narrow = most - about < 0.6 * width || scale < 1e-20;
                        assert!(narrow, "{at}: {} of {width}", most - about);
                    }
                }
            }
        }
    }
}

/// Every table gives the bits of the scalar one, strange bounds included.
#[test]
fn limits_of_all_tables_are_the_same() {
    let mut rng = fastrand::Rng::with_seed(5);
    let count = 77;
    let (mut first, mut second) = (vec![0; 128], vec![0; 128]);
    let state: Vec<f32> = (0..128).map(|_| normal(&mut rng)).collect();
    let split = Split::new(&state, &mut first, &mut second);
    let mut bounds: Vec<RowBounds> = (0..count)
        .map(|_| {
            let mut one = || rng.f32() * 10f32.powi(rng.i32(-30..30));
            RowBounds { step: one(), rest: one(), coarse: one(), norm: one() }
        })
        .collect();
    let sums: Vec<[i32; 2]> =
        (0..count).map(|_| [rng.i32(-(1 << 26)..1 << 26), rng.i32(-(1 << 26)..1 << 26)]).collect();
    for (row, odd) in
        [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 8.0, 0.0].iter().enumerate()
    {
        bounds[3 * row].step = *odd;
        bounds[3 * row + 16].coarse = *odd;
        bounds[3 * row + 18].rest = *odd;
        bounds[3 * row + 34].norm = *odd;
    }
    for basis in [Basis::Nibbles, Basis::BothTerms, Basis::FirstTerm] {
        let of = |table: &Kernels| {
            let (mut score, mut upper) = (vec![0.0; count], vec![0.0; count]);
            let rows = RowSums { bounds: &bounds, sums: &sums, basis };
            table.limits(&split, rows, &mut score, &mut upper);
            // One NaN is as good as another.
            let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            let said = |(score, upper)| [bits(score), bits(upper)];
            score.into_iter().zip(upper).map(said).collect::<Vec<_>>()
        };
        let want = of(Kernels::scalar());
        assert!(want.iter().any(|[_, upper]| f32::from_bits(*upper).is_nan()), "strange values");
        for table in Kernels::available() {
            assert_eq!(of(table), want, "{}, {basis:?}", table.name());
        }
    }
}

/// The planes of a row hold what the plainest code says of each value.
#[test]
fn codes_are_the_nearest_steps() {
    let mut rng = fastrand::Rng::with_seed(17);
    let k = 640;
    let mut rows = vec![vec![0.0; k], vec![f32::NAN; k], vec![f32::MIN_POSITIVE / 8.0; k]];
    rows.push((0..k).map(|_| normal(&mut rng)).collect());
    // Steps of 1: halves are ties.
    rows.push((0..k).map(|i| (i % 509) as f32 / 2.0 - 127.0).collect());
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0] {
        rows.push((0..k).map(|i| if i % 97 == 5 { odd } else { normal(&mut rng) }).collect());
    }
    for row in rows {
        let mut planes = [2, 4, 4].map(|share| vec![0; k / share]);
        let [high, middle, low] = &mut planes;
        let step = Kernels::best().split_row(&row, [high, middle, low]).step;
        let [high, middle, low] = planes;
        for (i, x) in row.iter().enumerate() {
            let (nibble, pair) = (i / 128 * 64 + i % 64, i % (k / 4));
            let pair_of = |plane: &[u8]| plane[pair] >> (2 * (i / (k / 4))) & 3;
            let nibble = high[nibble] >> (4 * (i % 128 / 64)) & 15;
            let got = i32::from(nibble << 4 | pair_of(&middle) << 2 | pair_of(&low)) - 128;
            let want = (x / step).round_ties_even().clamp(-127.0, 127.0) as i32;
            assert_eq!(got, want, "value {i}: {x}, step {step}");
        }
    }
}

#[test]
fn every_table_splits_alike() {
    let mut rng = fastrand::Rng::with_seed(23);
    for k in [128, 640, 2560] {
        let mut row: Vec<f32> = (0..k).map(|_| normal(&mut rng)).collect();
        for strange in [0.0, f32::INFINITY, f32::NAN] {
            row[7] = strange;
            let split = |table: &Kernels| {
                let mut planes = [vec![1; k / 2], vec![2; k / 4], vec![3; k / 4]];
                let [high, middle, low] = &mut planes;
                let bounds = table.split_row(&row, [high, middle, low]);
                let bits = [bounds.step, bounds.rest, bounds.coarse, bounds.norm];
                (planes, if strange.is_finite() { bits.map(f32::to_bits) } else { [0; 4] })
            };
            for table in Kernels::available() {
                assert!(split(table) == split(Kernels::scalar()), "{} {k}", table.name());
            }
        }
    }
}

#[test]
fn the_bound_is_met_by_the_worst_state() {
    let mut rng = fastrand::Rng::with_seed(22);
    let k = 1280;
    let head = Head::new(k, (0..k).map(|_| normal(&mut rng)).collect());
    let bounds = head.bounds[0];
    let code = |x: &f32| (x / bounds.step).round_ties_even();
    let pair = |x: &f32| ((code(x) as i32 + 128) & 3) as f32 - 1.5;
    // The states along what the codes leave out: Cauchy-Schwarz is met.
    let fine = |x: &f32| x - bounds.step * code(x);
    let coarse = |x: &f32| fine(x) + bounds.step * pair(x);
    type Of = fn(&Said) -> (f32, f32);
    // And one of which the first term holds a single value: the rest lies along the codes.
    let mut first = head.rows.iter().map(|x| 0.49 * code(x).signum()).collect::<Vec<f32>>();
    first[0] = 127.0;
    let along = |f: &dyn Fn(&f32) -> f32| head.rows.iter().map(f).collect::<Vec<f32>>();
    let cases: [(_, _, Of); 3] = [
        ("fine", along(&fine), |said| said.fine[0]),
        ("coarse", along(&coarse), |said| said.first[1]),
        ("first", first, |said| said.first_fine),
    ];
    for (name, state, of) in cases {
        let said = &head.score(Kernels::best(), &state)[0];
        let (about, most) = of(said);
        // The part of the bound for the second term of the state is a sum of magnitudes, and rarely met.
        let (off, bound) = ((said.score - about).abs(), most - about);
        assert!(off <= bound && off > 0.7 * bound, "{}, {off} of {bound}, {name}", said.score);
    }
}

#[test]
fn what_is_not_finite_survives() {
    let k = 128;
    // Whatever the others come to, such a row is not below it.
    let survives = |most: f32| most.partial_cmp(&1e30) != Some(std::cmp::Ordering::Less);
    for strange in [f32::NAN, f32::INFINITY, f32::MAX] {
        let mut rows = vec![1.0; 2 * k];
        rows[5] = strange;
        let head = Head::new(k, rows);
        for sign in [1.0, -1.0] {
            let state: Vec<f32> = (0..k).map(|i| if i == 5 { 2.0 * sign } else { 1.0 }).collect();
            let said = head.score(Kernels::best(), &state);
            assert!(
                said[0].first[1..].iter().all(|(_, most)| survives(*most)),
                "{:?}",
                said[0].first
            );
            assert!(said[0].fine.iter().all(|(_, most)| survives(*most)), "{:?}", said[0].fine);
            for fine in said[1].fine {
                assert!(holds(said[1].score, fine) && fine.1 - fine.0 < 1.0, "{fine:?}");
            }
        }
    }
    let head = Head::new(k, vec![1.0; k]);
    let mut state = vec![1.0; k];
    state[7] = f32::NAN;
    let said = &head.score(Kernels::best(), &state)[0];
    assert!(
        said.first
            .iter()
            .chain(&said.fine)
            .chain([&said.first_fine])
            .all(|(_, most)| survives(*most))
    );
    let said = &head.score(Kernels::best(), &vec![0.0; k])[0];
    for (about, most) in said.first {
        assert!(
            said.score == 0.0 && about == 0.0 && (0.0..1e-20).contains(&most),
            "{about}, {most}"
        );
    }
}

#[test]
fn the_nearest_code_is_rounded_to_even_and_kept_in_range() {
    for i in -3000..3000 {
        let x = f64::from(i) / 20.0;
        assert_eq!(nearest(x), x.round_ties_even().clamp(-127.0, 127.0) as i8, "{x}");
    }
    let odd = [f64::NAN, 0.0 / -0.0, f64::from(f32::from_bits(0xffff_ffff)), -0.0, 1e-300];
    assert_eq!(odd.map(nearest), [0; 5]);
    assert_eq!([f64::INFINITY, -1e30, 126.5, 126.500001].map(nearest), [127, -127, 126, 127]);
}
