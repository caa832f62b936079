//! Rows of logits that are no text: tokens that a model does not use, and the padding of an embedding.

use super::{EOG, EOT, PAD, vocab};
use tern::{
    model::{LoadOptions, Model},
    sampler::{Grammar, GrammarEnv, GrammarKind, GrammarState, Sampler},
};

const GRAMMARS: [(GrammarKind, &str); 5] = [
    (GrammarKind::Json, ""),
    (GrammarKind::Regex, "(.|\n)*"),
    (GrammarKind::Regex, "[^x]{2,9}"),
    (GrammarKind::Gbnf, "root ::= [^{]* \"end\"?"),
    (GrammarKind::Choice, "[\"abc\", \"a\", \"\u{e9}\u{1f600}\"]"),
];

#[test]
fn padding_has_its_place_in_the_mask_and_is_never_taken() {
    for pads in [0, 1, 31, 32, 33, 1000] {
        let mut vocab = vocab(true);
        let words = vocab.tokens.len();
        vocab.tokens.resize(words + pads, None);
        let len = words + pads;
        let env = GrammarEnv::new(vocab).expect("a vocabulary");
        assert_eq!(env.vocab_len(), len);
        for (kind, source) in GRAMMARS {
            let case = format!("{pads} pads, {kind:?} {source:?}");
            let grammar = Grammar::compile(&env, kind, source.as_bytes()).expect(&case);
            assert_eq!(grammar.vocab_len(), len, "{case}");
            let mut state = GrammarState::new(&grammar);
            let mut sampler = Sampler::new(pads as u64);
            sampler.add_temp(1.0).expect("a temperature");
            sampler.add_grammar(&grammar).expect("the same vocabulary");
            for step in 0..12 {
                let mask = state.mask().expect("never empty");
                assert_eq!(mask.len(), len.div_ceil(32), "{case}, step {step}");
                let allowed = |token: usize| mask[token / 32] >> (token % 32) & 1 == 1;
                let none = (words..32 * mask.len()).chain([PAD as usize]);
                assert!(none.into_iter().all(|token| !allowed(token)), "{case}, step {step}");
                // A model that wants nothing but padding gets none.
                let mut row: Vec<f32> = (0..len).map(|token| (token * 7 % 13) as f32).collect();
                row[words..].fill(1e6);
                row[PAD as usize] = 1e6;
                let token = sampler.sample(&row).expect("something is allowed");
                assert!((token as usize) < words && token != PAD, "{case}, step {step}: {token}");
                assert!(allowed(token as usize), "{case}, step {step}: {token}");
                if token == EOG || token == EOT {
                    break;
                }
                state.accept(token).expect("it was allowed");
            }
        }
    }
}

#[test]
fn a_model_s_grammars_have_as_many_tokens_as_its_rows() {
    let path = format!("{}/examples/models/seed-s.gguf", env!("CARGO_MANIFEST_DIR"));
    let model = Model::open(path, LoadOptions::default()).expect("the model loads");
    let rows = model.config().n_vocab;
    assert_eq!(model.grammar_env().expect("a vocabulary").vocab_len(), rows);
}
