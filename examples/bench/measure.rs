//! Reading a prompt and generating: what a host of the library does, timed.

use super::{
    limits::Prober,
    options::{Choose, Head, Options, Variant, cache_name},
    report::{Figure, Setting, Work},
    trunk,
};
use std::{collections::BTreeSet, error::Error, path::Path, time::Instant};
use tern::{
    context::{Context, ContextOptions, EvalOptions, Item, KvType, Status, Want},
    kernels::Form,
    model::{LoadOptions, Model},
    sampler::Sampler,
    threads::{ThreadPool, ThreadPoolOptions},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Opens a model.
pub(crate) fn open(path: &Path, variant: &Variant) -> Result<Model> {
    let load = LoadOptions {
        kernels: variant.table.clone(),
        packing: variant.packing(),
        ..Default::default()
    };
    Ok(Model::open(path, load)?)
}

/// A pool of so many threads.
pub(crate) fn pool(threads: usize) -> Result<ThreadPool> {
    Ok(ThreadPool::new(&ThreadPoolOptions { threads, ..Default::default() })?)
}

/// What a model is, for the results. Threads and all that follows are the caller's to fill in.
pub(crate) fn setting(path: &Path, model: &Model, variant: &Variant) -> Result<Setting> {
    let weights = model.weights()?;
    let forms: BTreeSet<String> = trunk::matrices(model)?
        .map(|matrix| format!("{:?} x{}", matrix.form().code, matrix.form().rows()).to_lowercase())
        .collect();
    let head = weights.output.as_ref().unwrap_or(&weights.embedding);
    Ok(Setting {
        model: path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
        file_bytes: model.file_bytes(),
        table: model.kernels().name().to_owned(),
        form: forms.into_iter().collect::<Vec<_>>().join(", "),
        skip: weights.layers.iter().any(|layer| layer.up.form() == Form::ROWS),
        head_rows: format!("{:?}", head.kind()).to_lowercase(),
        head: weights.planes.as_ref().map_or(Head::Full, |_| variant.head).name().to_owned(),
        ..Setting::default()
    })
}

/// Tokens that are read: a text's, again and again, or ids at random.
pub(crate) fn tokens(model: &Model, text: Option<&Path>, len: usize) -> Result<Vec<i32>> {
    let Some(path) = text else {
        let mut rng = fastrand::Rng::with_seed(1);
        let vocab = model.config().n_vocab as i32;
        return Ok((0..len).map(|_| rng.i32(0..vocab)).collect());
    };
    let tokens = model.tokenizer().encode(&std::fs::read_to_string(path)?, true, false, None)?;
    if tokens.is_empty() {
        return Err(format!("{}: no token in it", path.display()).into());
    }
    Ok(tokens.into_iter().cycle().take(len).collect())
}

/// Every figure asked for, of one model as it was loaded.
pub(crate) fn figures(
    options: &Options,
    path: &Path,
    (model, variant): (&Model, &Variant),
    prober: &Prober,
    mut done: impl FnMut(Figure),
) -> Result<()> {
    let base = setting(path, model, variant)?;
    let times = (options.repetitions, options.tries);
    for &threads in &options.threads {
        let pool = pool(threads)?;
        for &tokens in &options.trunk {
            let mut products = trunk::Products::new(model, tokens, threads)?;
            products.run(&pool);
            let runs = prober.runs(threads, times, || {
                products.run(&pool);
                Ok((tokens, None))
            })?;
            let setting = Setting { threads, batch: tokens, ..base.clone() };
            let work = Work {
                trunk_bytes: trunk_bytes(model)? / tokens as f64,
                macs: macs(model)?,
                ..Work::default()
            };
            done(Figure::new("trunk", tokens, setting, work, runs, times.0));
        }
        for &cache in &options.caches {
            for &batch in &options.batches {
                for &depth in &options.depths {
                    let setting = Setting {
                        threads,
                        batch,
                        depth,
                        sequences: 1,
                        cache: cache_name(cache).to_owned(),
                        ..base.clone()
                    };
                    let bench =
                        Bench { options, model, pool: &pool, cache, setting, prober, times };
                    bench.prefills(&mut done)?;
                    bench.decodes(&mut done)?;
                }
            }
        }
    }
    Ok(())
}

/// One setting of threads, cache, batch and depth.
struct Bench<'a> {
    options: &'a Options,
    model: &'a Model,
    pool: &'a ThreadPool,
    cache: KvType,
    setting: Setting,
    prober: &'a Prober,
    times: (usize, usize),
}

impl Bench<'_> {
    /// A context whose `sequences` hold `depth` tokens, with room for `more`.
    fn context(&self, sequences: usize, more: usize) -> Result<Context> {
        let depth = self.setting.depth;
        let mut context = Context::new(
            self.model,
            ContextOptions {
                n_ctx: depth + more,
                n_seq_max: sequences,
                n_batch: self.setting.batch,
                kv_type: self.cache,
                pool: Some(self.pool.clone()),
                fast_head: self.setting.head == Head::Fast.name(),
                ..Default::default()
            },
        )?;
        let past = tokens(self.model, self.options.text.as_deref(), depth)?;
        for sequence in 0..sequences {
            whole(
                &mut context,
                &past,
                EvalOptions { sequence, want: Want::None, ..Default::default() },
            )?;
        }
        Ok(context)
    }

    /// A prompt of each length, to the logits after it.
    fn prefills(&self, done: &mut impl FnMut(Figure)) -> Result<()> {
        for &len in &self.options.prompts {
            let prompt = tokens(self.model, self.options.text.as_deref(), len)?;
            let mut context = self.context(1, len)?;
            let mut read = || {
                context.truncate(0, self.setting.depth)?;
                let start = Instant::now();
                whole(&mut context, &prompt, EvalOptions::default())?;
                context.logits(0)?;
                Ok((len, Some(start.elapsed().as_secs_f64())))
            };
            read()?;
            let runs = self.prober.runs(self.setting.threads, self.times, read)?;
            let passes = len.div_ceil(self.setting.batch) as f64;
            let work = Work {
                trunk_bytes: trunk_bytes(self.model)? * passes / len as f64,
                head_bytes: head_bytes(self.model, Head::Full.name())? / len as f64,
                cache_bytes: 0.0, // stays in the second cache for all rows of a pass
                macs: macs(self.model)?,
            };
            done(Figure::new("prefill", len, self.setting.clone(), work, runs, self.times.0));
        }
        Ok(())
    }

    /// Tokens one after the other, in several sequences side by side.
    fn decodes(&self, done: &mut impl FnMut(Figure)) -> Result<()> {
        for &sequences in &self.options.sequences {
            for &len in &self.options.decodes {
                let mut context = self.context(sequences, len + 1)?;
                for &choose in &self.options.choose {
                    let seed = tokens(self.model, self.options.text.as_deref(), 1)?[0];
                    let mut generate = |len: usize| {
                        let mut samplers = (0..sequences as u64)
                            .map(|seed| sampler(choose, seed))
                            .collect::<Result<Vec<_>>>()?;
                        let mut items: Vec<Item> = (0..sequences)
                            .map(|sequence| Item { token: seed, sequence, want: true })
                            .collect();
                        for sequence in 0..sequences {
                            context.truncate(sequence, self.setting.depth)?;
                        }
                        step(&mut context, &items)?;
                        let start = Instant::now();
                        for _ in 0..len {
                            for (row, (item, sampler)) in
                                items.iter_mut().zip(&mut samplers).enumerate()
                            {
                                item.token = context
                                    .sample(row, sampler, None, None)?
                                    .ok_or("a choice without an end")?;
                            }
                            step(&mut context, &items)?;
                        }
                        Ok((len * sequences, Some(start.elapsed().as_secs_f64())))
                    };
                    generate(len.min(4))?;
                    let runs =
                        self.prober.runs(self.setting.threads, self.times, || generate(len))?;
                    let setting = Setting {
                        sequences,
                        choose: choose.name().to_owned(),
                        ..self.setting.clone()
                    };
                    // A draw among all tokens needs all logits.
                    let how =
                        if choose == Choose::Softmax { Head::Full.name() } else { &setting.head };
                    let work = Work {
                        trunk_bytes: trunk_bytes(self.model)? / sequences as f64,
                        head_bytes: head_bytes(self.model, how)? / sequences as f64,
                        cache_bytes: position_bytes(self.model, self.cache)
                            * (self.setting.depth as f64 + (len + 1) as f64 / 2.0),
                        macs: macs(self.model)?,
                    };
                    done(Figure::new("decode", len, setting, work, runs, self.times.0));
                }
            }
        }
        Ok(())
    }
}

/// Evaluates all tokens, or says why not.
fn whole(context: &mut Context, tokens: &[i32], options: EvalOptions<'_>) -> Result<()> {
    let evaluated = context.eval(tokens, options)?;
    if evaluated.status == Status::Done { Ok(()) } else { Err(format!("{evaluated:?}").into()) }
}

/// One token for each sequence.
fn step(context: &mut Context, items: &[Item]) -> Result<()> {
    let evaluated = context.eval_items(items, EvalOptions::default())?;
    if evaluated.status == Status::Done { Ok(()) } else { Err(format!("{evaluated:?}").into()) }
}

/// The chain behind a way to choose.
pub(crate) fn sampler(choose: Choose, seed: u64) -> Result<Sampler> {
    let mut sampler = Sampler::new(seed);
    match choose {
        Choose::Greedy => {}
        Choose::Chain => sampler = Sampler::recommended(seed),
        Choose::Softmax => {
            sampler.add_temp(1.0)?;
        }
    }
    Ok(sampler)
}

/// Bytes of the layers' matrices and their scales: what a pass reads of them.
fn trunk_bytes(model: &Model) -> Result<f64> {
    Ok(trunk::matrices(model)?.map(|matrix| (matrix.bytes() + 4 * matrix.rows()) as f64).sum())
}

/// Bytes that are read of the head: of all rows in full precision, or of two planes or one and their bounds.
fn head_bytes(model: &Model, how: &str) -> Result<f64> {
    let weights = model.weights()?;
    let bytes = match (&weights.planes, how) {
        (Some(planes), "exact") => planes.bytes().0 / 4 * 3 + planes.bounds_bytes(),
        (Some(planes), "fast") => planes.bytes().0 / 2 + planes.bounds_bytes(),
        _ => weights.output.as_ref().unwrap_or(&weights.embedding).len_bytes(),
    };
    Ok(bytes as f64)
}

/// Products of layer matrices for one token.
fn macs(model: &Model) -> Result<f64> {
    Ok(trunk::matrices(model)?.map(|matrix| (matrix.rows() * matrix.k()) as f64).sum())
}

/// Bytes of keys and values for one position.
fn position_bytes(model: &Model, cache: KvType) -> f64 {
    let config = model.config();
    let head = match cache {
        KvType::F16 => 2 * 2 * config.head_dim,
        // A step for each side.
        KvType::I8 => 2 * (config.head_dim + 4),
    };
    (config.n_layer * config.n_head_kv * head) as f64
}
