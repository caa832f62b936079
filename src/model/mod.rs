//! What was learnt: immutable, shared by every context.

mod config;
mod convert;
mod forms;
mod info;
mod memory;
mod planes;
mod weights;

pub use config::{Activation, Config};
pub(crate) use forms::Forms;
pub use forms::Packing;
pub(crate) use memory::{planned_screen, planned_weights};
pub(crate) use planes::FEW;
pub use planes::{Pairs, Planes};
pub use weights::{Layer, RowMatrix, Weights};

use crate::{
    control::{Cancel, Progress},
    error::{Error, Result},
    file::{Gguf, Metadata, OpenOptions, Source},
    kernels::Kernels,
    log::{self, Level},
    sampler::{GrammarEnv, VocabBytes},
    text::{Template, Tokenizer},
    threads::{JoinedPool, ThreadPool, ThreadPoolOptions, performance_cores},
};
use once_cell::sync::OnceCell;
use std::{fmt, path::Path, sync::Arc, time::Instant};

/// How a model is loaded.
#[derive(Default)]
pub struct LoadOptions<'a> {
    /// Read the vocabulary and the metadata, no weights.
    pub vocab_only: bool,
    /// Read the file into memory instead of mapping it.
    pub no_mmap: bool,
    /// Ask the system to keep the mapped parts in memory.
    pub mlock: bool,
    /// Check every value of the file, the embedding too.
    pub verify: bool,
    /// The kernel table by name; `None` takes the fastest.
    pub kernels: Option<String>,
    /// How the weights are packed.
    pub packing: Packing,
    /// Told the fraction done, on the calling thread; false cancels.
    pub progress: Option<Progress<'a>>,
    /// Stops the load.
    pub cancel: Option<Cancel>,
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("vocab_only", &self.vocab_only)
            .field("kernels", &self.kernels)
            .finish()
    }
}

/// The table of a name, or the fastest.
pub(crate) fn select_kernels(name: Option<&str>) -> Result<&'static Kernels> {
    let Some(name) = name else { return Ok(Kernels::best_checked()) };
    Kernels::by_name(name).ok_or_else(|| {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        Error::Unsupported(format!("kernels {name:?}: this CPU runs {}", names.join(", ")).into())
    })
}

/// A loaded model. A clone is another reference; any number of threads may use it.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    gguf: Gguf,
    config: Config,
    kernels: &'static Kernels,
    weights: Option<Weights>,
    tokenizer: Arc<Tokenizer>,
    template: OnceCell<Option<Template>>,
    grammar_env: OnceCell<Arc<GrammarEnv>>,
    pool: OnceCell<ThreadPool>,
    fingerprint: OnceCell<u64>,
    load_us: u64,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({}, {} layers)", self.0.config.architecture, self.0.config.n_layer)
    }
}

impl Model {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::BadModel`], [`Error::UnsupportedModel`], [`Error::Cancelled`], [`Error::OutOfMemory`].
    pub fn open(path: impl AsRef<Path>, options: LoadOptions<'_>) -> Result<Self> {
        let open = OpenOptions { mmap: !options.no_mmap, ..OpenOptions::default() };
        Self::from_source(Source::open(path, open)?, options)
    }

    /// Loads from any source of bytes.
    ///
    /// # Errors
    ///
    /// As [`Model::open`].
    pub fn from_source(source: Source, mut options: LoadOptions<'_>) -> Result<Self> {
        let start = Instant::now();
        let cancel = options.cancel.clone().unwrap_or_default();
        cancel.check()?;
        let kernels = select_kernels(options.kernels.as_deref())?;
        let gguf = Gguf::parse(Arc::new(source))?;
        let config = Config::from_gguf(&gguf)?;
        let (weights, tokenizer);
        if options.vocab_only {
            (weights, tokenizer) = (None, Tokenizer::open(&gguf.metadata));
        } else {
            let pool = JoinedPool::new(performance_cores(), "tern-load", |_| {})?;
            // Before there is other work: it may be a timing.
            let forms = Forms::choose(&gguf, &config, kernels, options.packing)?;
            let loader = weights::Loader {
                gguf: &gguf,
                kernels,
                forms,
                arena: weights::arena(&gguf, forms)?,
                cancel,
                options: &mut options,
                pool: &pool,
                done: 0,
            };
            let mut opened = None;
            weights = Some(loader.weights(&config, |room| {
                opened = Some(Tokenizer::open_beside(&gguf.metadata, room));
            })?);
            tokenizer = opened.expect("run beside the layers");
        }
        let tokenizer = Arc::new(tokenizer?);
        check_vocabulary(&gguf, &config, tokenizer.vocab_len())?;
        // Of a mapped header, most of which is tokens and merges, little is read again.
        gguf.source().advise_dontneed(0..gguf.data_start);
        let load_us = start.elapsed().as_micros() as u64;
        let inner = Inner {
            gguf,
            config,
            kernels,
            weights,
            tokenizer,
            template: OnceCell::new(),
            grammar_env: OnceCell::new(),
            pool: OnceCell::new(),
            fingerprint: OnceCell::new(),
            load_us,
        };
        let model = Self(Arc::new(inner));
        log::log(Level::Info, || {
            format!(
                "{}: {model:?}, kernels {}, {load_us} us",
                model.gguf().source().name(),
                kernels.name()
            )
        });
        if let Some(progress) = &mut options.progress
            && !progress(1.0)
        {
            return Err(Error::Cancelled);
        }
        Ok(model)
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The file's keys and values.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.gguf.metadata
    }

    /// The file's directory.
    #[must_use]
    pub fn gguf(&self) -> &Gguf {
        &self.0.gguf
    }

    /// The kernel table it runs on.
    #[must_use]
    pub fn kernels(&self) -> &'static Kernels {
        self.0.kernels
    }

    /// The weights.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] if only the vocabulary was loaded.
    pub fn weights(&self) -> Result<&Weights> {
        self.0
            .weights
            .as_ref()
            .ok_or(Error::InvalidState("the model was loaded for its vocabulary alone"))
    }

    /// The vocabulary.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The chat template, corrected where a converter is known to have written a wrong one; compiled when it is first
    /// asked for.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] if it does not compile.
    pub fn chat_template(&self) -> Result<Option<&Template>> {
        self.0
            .template
            .get_or_try_init(|| Template::of_model(&self.0.gguf.metadata))
            .map(Option::as_ref)
    }

    /// What all grammars over this vocabulary share; built when it is first asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a vocabulary without an end.
    pub fn grammar_env(&self) -> Result<&Arc<GrammarEnv>> {
        self.0.grammar_env.get_or_try_init(|| {
            let tokenizer = Arc::clone(&self.0.tokenizer);
            let tokens = (0..tokenizer.vocab_len() as i32)
                .map(|token| tokenizer.token_bytes(token).map(<[u8]>::to_vec));
            let mut tokens: Vec<_> = tokens.collect();
            // A row of logits has an entry for each row of the head, and what is no token is no text.
            tokens.resize(tokens.len().max(self.0.config.n_vocab), None);
            let vocab = VocabBytes {
                tokens,
                eog: tokenizer.eog_tokens().to_vec(),
                encode: Some(Arc::new(move |text| tokenizer.encode(text, false, false, None).ok())),
            };
            GrammarEnv::new(vocab)
        })
    }

    /// The pool that contexts use which bring none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if threads do not start.
    pub fn default_pool(&self) -> Result<&ThreadPool> {
        self.0.pool.get_or_try_init(|| ThreadPool::new(&ThreadPoolOptions::default()))
    }

    /// A fingerprint of the file: its header, and the first page of each tensor. Computed when first asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a reader fails.
    pub fn fingerprint(&self) -> Result<u64> {
        let gguf = &self.0.gguf;
        let compute = || {
            let source = gguf.source();
            let first = gguf.tensors.iter().map(|tensor| tensor.offset).min().unwrap_or(0);
            let mut hash = crate::hash::Fingerprint::new();
            hash.add(&source.bytes(0..first.min(source.len()))?);
            for tensor in &gguf.tensors {
                hash.add(&source.bytes(tensor.offset..tensor.offset + tensor.bytes.min(4096))?);
            }
            Ok(hash.finish())
        };
        self.0.fingerprint.get_or_try_init(compute).copied()
    }

    /// Microseconds the load took.
    #[must_use]
    pub fn load_us(&self) -> u64 {
        self.0.load_us
    }

    /// Whether two references are to one model.
    #[must_use]
    pub fn is_same(&self, other: &Model) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Tokens, embedding rows and the size a file declares must be one number: ids index all three.
fn check_vocabulary(gguf: &Gguf, config: &Config, tokens: usize) -> Result<()> {
    let meta = &gguf.metadata;
    if config.n_vocab != tokens && config.n_vocab > 0 {
        let rule = format!("{tokens} tokens, but token_embd.weight has {} rows", config.n_vocab);
        return Err(gguf.source().blame(meta.reject("tokenizer.ggml.tokens", rule)));
    }
    let key = format!("{}.vocab_size", config.architecture);
    match meta.opt_u32(&key)? {
        Some(size) if size as usize != tokens => {
            let rule = format!("{size}, but there are {tokens} tokens");
            Err(gguf.source().blame(meta.reject(&key, rule)))
        }
        _ => Ok(()),
    }
}
