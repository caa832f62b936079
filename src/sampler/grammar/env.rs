//! The vocabulary as llguidance needs it: a prefix tree of the tokens' bytes.

use crate::error::{Error, Result};
use crate::sampler::grammar::message::{Lines, failure};
use crate::sampler::grammar::on_own_stack;
use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use std::{fmt, sync::Arc};

/// The longest token a grammar can use, in bytes; the tree takes 1023 levels.
const TOKEN_BYTES_MAX: usize = 512;

/// Ids beyond this do not fit the tree's nodes.
const VOCAB_MAX: usize = 1 << 21;

/// What a grammar has to know of a model's vocabulary.
#[derive(Clone)]
pub struct VocabBytes {
    /// The bytes that each token adds to the text, by id; `None` for control
    /// and unused tokens, which no text contains. One entry per logit.
    pub tokens: Vec<Option<Vec<u8>>>,
    /// Ids of the tokens that end a generation; at least one.
    pub eog: Vec<i32>,
    /// The model's own tokenization of plain text, no specials; `None` on
    /// failure. With it, text that a grammar forces is forced as the tokens
    /// that the model was trained on; without, token by token.
    pub encode: Option<Arc<Encode>>,
}

/// Text → tokens.
pub type Encode = dyn Fn(&str) -> Option<Vec<i32>> + Send + Sync;

/// The tree and the tables that all grammars of a model share; built once.
pub struct GrammarEnv {
    factory: ParserFactory,
    eog: Vec<i32>,
    vocab_len: usize,
}

impl fmt::Debug for GrammarEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarEnv")
            .field("vocab_len", &self.vocab_len)
            .field("eog", &self.eog)
            .finish()
    }
}

impl GrammarEnv {
    /// Builds the tree; some tens of milliseconds for a hundred thousand tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a vocabulary without an end-of-generation
    /// token, with one outside it, or of over two million tokens;
    /// [`Error::OutOfMemory`] if the system has no thread to build on.
    pub fn new(vocab: VocabBytes) -> Result<Arc<Self>> {
        let vocab_len = vocab.tokens.len();
        let outside = |id: &i32| usize::try_from(*id).map_or(true, |id| id >= vocab_len);
        if vocab_len > VOCAB_MAX || vocab.eog.is_empty() || vocab.eog.iter().any(outside) {
            let what = format!("grammars over {vocab_len} tokens that end with {:?}", vocab.eog);
            return Err(Error::Unsupported(what.into()));
        }
        let eog = vocab.eog.clone();
        let factory = on_own_stack(|| build(vocab))?;
        Ok(Arc::new(GrammarEnv { factory, eog, vocab_len }))
    }

    /// Length of a row of logits.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.vocab_len
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }

    pub(super) fn is_eog(&self, token: i32) -> bool {
        self.eog.contains(&token)
    }
}

fn build(vocab: VocabBytes) -> Result<ParserFactory> {
    let mut words: Vec<Vec<u8>> = vocab.tokens.into_iter().map(Option::unwrap_or_default).collect();
    for word in &mut words {
        if word.len() > TOKEN_BYTES_MAX {
            word.clear();
        }
    }
    // 0xFF never occurs in UTF-8: the tree's mark for tokens that are not text.
    for &id in &vocab.eog {
        words[id as usize] = format!("\u{0}<eog-{id}>").into_bytes();
        words[id as usize][0] = TokTrie::SPECIAL_TOKEN_MARKER;
    }
    let eog: Vec<TokenId> = vocab.eog.iter().map(|&id| id as TokenId).collect();
    let trie =
        TokTrie::from(&TokRxInfo::new(words.len() as u32, eog[0]), &words).with_eos_tokens(&eog);
    let canonical = vocab.encode.is_some();
    let env: TokEnv = Arc::new(Vocab { trie, encode: vocab.encode });
    let capabilities =
        InferenceCapabilities { ff_tokens: canonical, ..InferenceCapabilities::default() };
    let slices = llguidance::earley::SlicedBiasComputer::general_slices();
    let mut factory =
        ParserFactory::new(&env, capabilities, &slices).map_err(|e| failure(&e, &Lines::None))?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// What a grammar may cost. A tenth of a second per step at worst, and some
/// tens of megabytes; llguidance's figures are some 20 items or 14 units of
/// lexer fuel per microsecond-thousand, and 1 to 2 kB per lexer state.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 500_000,
        step_max_items: 200_000,
        max_lexer_states: 50_000,
        max_grammar_size: 500_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// The tree together with the model's tokenizer.
struct Vocab {
    trie: TokTrie,
    encode: Option<Arc<Encode>>,
}

impl TokenizerEnv for Vocab {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // A forced run may end inside a code point; the torn end goes by bytes.
        let whole = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
        };
        let encoded = self.encode.as_ref().and_then(|encode| encode(whole)).and_then(|tokens| {
            let tokens: Vec<TokenId> =
                tokens.into_iter().map(|id| TokenId::try_from(id).ok()).collect::<Option<_>>()?;
            // A tokenizer that changes the text would break what llguidance counts on.
            let in_range = tokens.iter().all(|&id| (id as usize) < self.trie.vocab_size());
            (in_range && self.trie.decode_raw(&tokens) == whole.as_bytes()).then_some(tokens)
        });
        match encoded {
            Some(mut tokens) => {
                tokens.extend(self.trie.greedy_tokenize(&bytes[whole.len()..]));
                tokens
            }
            None => self.trie.greedy_tokenize(bytes),
        }
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.encode.is_some()
    }
}
