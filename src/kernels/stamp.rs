//! Stamps the float bodies of `ops` into functions of one instruction set.
//!
//! The bodies fix lanes and order, so a stamp differs from another only in
//! how wide the compiler makes it.

/// Defines `rms_norm`, `quantize`, `rescale`, `relu2_mul`, `silu_mul`, `gather`, `rotate`, `attend`,
/// `split_row`, `limits` and `merge` with the given target features and fused multiply-add.
macro_rules! stamp {
    ($fma:ty $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
            $crate::ops::norm::rms_norm::<$fma>(x, gain, eps, out);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn quantize(x: &[f32], codes: &mut [i8]) -> $crate::ops::norm::RowScale {
            $crate::ops::norm::quantize(x, codes)
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn rescale(
            dots: &[i32],
            weights: &[f32],
            rows: &[$crate::ops::norm::RowScale],
            stride: usize,
            out: &mut [f32],
        ) {
            $crate::ops::norm::rescale(dots, weights, rows, stride, out);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn relu2_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
            $crate::ops::activation::relu2_mul(gate, up, out);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
            $crate::ops::activation::silu_mul::<$fma>(gate, up, out);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn gather(
            of: $crate::ops::gather::PanelRows<'_>,
            first: (usize, usize),
            put: $crate::ops::gather::Put,
            width: usize,
            out: &mut [f32],
        ) {
            $crate::ops::gather::gather(of, first, put, width, out);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn rotate(row: &mut [f32], head_dim: usize, pairs: $crate::ops::rope::Pairs, angles: &[f32]) {
            $crate::ops::rope::rotate(row, head_dim, pairs, angles);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn attend(
            queries: &[f32],
            block: $crate::ops::attention::KvBlock<'_>,
            lens: &[usize],
            state: &mut $crate::ops::attention::Online<'_>,
        ) {
            $crate::ops::attention::attend::<$fma>(queries, block, lens, state);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn split_row(
            row: &[f32],
            planes: $crate::kernels::screen::RowPlanes<'_>,
        ) -> $crate::kernels::screen::RowBounds {
            $crate::kernels::screen::split_row(row, planes)
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn limits(
            split: &$crate::kernels::screen::Split,
            rows: $crate::kernels::screen::RowSums<'_>,
            score: &mut [f32],
            upper: &mut [f32],
        ) {
            $crate::kernels::screen::limits(split, rows, score, upper);
        }

        $(#[target_feature(enable = $features)])?
        #[allow(dead_code)]
        fn merge(max: &mut f32, sum: &mut f32, acc: &mut [f32], max2: f32, sum2: f32, acc2: &[f32]) {
            $crate::ops::attention::merge::<$fma>(max, sum, acc, max2, sum2, acc2);
        }
    };
}

pub(super) use stamp;
