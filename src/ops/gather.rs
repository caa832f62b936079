//! Rows out of products that lie panel by panel.

/// Values as products leave them, `[panel][tokens][panel rows]`.
#[derive(Clone, Copy, Debug)]
pub struct PanelRows<'a> {
    /// All of them.
    pub values: &'a [f32],
    /// Rows of a panel.
    pub panel: usize,
    /// Tokens of each.
    pub tokens: usize,
}

/// What becomes of a place that a value comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The value.
    Over,
    /// The sum of what stands there and the value.
    Onto,
}

/// Rows `first` to `first + width` of the tokens from `token` on, as many as `out` has, `[tokens][width]`.
#[inline(always)]
pub(crate) fn gather(
    of: PanelRows<'_>,
    (token, first): (usize, usize),
    put: Put,
    width: usize,
    out: &mut [f32],
) {
    match put {
        Put::Over => by_panels(of, (token, first), |_, from| from, width, out),
        Put::Onto => by_panels(of, (token, first), |old, from| old + from, width, out),
    }
}

/// Panel by panel, so that what is read lies together for all tokens.
#[inline(always)]
fn by_panels(
    PanelRows { values, panel, tokens }: PanelRows<'_>,
    (token, first): (usize, usize),
    put: impl Fn(f32, f32) -> f32,
    width: usize,
    out: &mut [f32],
) {
    let mut done = 0;
    while done < width {
        let (p, r) = ((first + done) / panel, (first + done) % panel);
        let count = (panel - r).min(width - done);
        let from = values[(p * tokens + token) * panel..].chunks_exact(panel);
        for (out, from) in out.chunks_exact_mut(width).zip(from) {
            let (out, from) = (&mut out[done..][..count], &from[r..][..count]);
            // The usual panels have a known size here: moves, where any size would be a call.
            match (out.as_chunks_mut(), from.as_chunks()) {
                (([out], []), ([from], [])) => each::<32>(out, from, &put),
                _ => out.iter_mut().zip(from).for_each(|(out, from)| *out = put(*out, *from)),
            }
        }
        done += count;
    }
}

#[inline(always)]
fn each<const N: usize>(out: &mut [f32; N], from: &[f32; N], put: impl Fn(f32, f32) -> f32) {
    for (out, from) in out.iter_mut().zip(from) {
        *out = put(*out, *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_reads_across_panels() {
        let (panel, tokens, rows) = (4, 3, 12);
        let mut values = vec![0.0; rows * tokens];
        for row in 0..rows {
            for token in 0..tokens {
                values[(row / panel * tokens + token) * panel + row % panel] =
                    (row * 10 + token) as f32;
            }
        }
        let mut out = [0.0; 14];
        let of = PanelRows { values: &values, panel, tokens };
        gather(of, (1, 3), Put::Over, 7, &mut out);
        let row = |token: f32| [30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0].map(|row| row + token);
        assert_eq!(out, *[row(1.0), row(2.0)].as_flattened());
        gather(of, (1, 3), Put::Onto, 7, &mut out);
        assert_eq!(out[7..], row(2.0).map(|value| 2.0 * value));
    }
}
