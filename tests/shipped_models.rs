//! The models that ship: real weights, real text, an end of the turn.

use tern::{
    context::{Context, ContextOptions, EvalOptions, Want},
    model::{LoadOptions, Model},
    sampler::{Sampler, logprobs::log_softmax_at},
    session::{Finish, GenerateOptions, Session, SessionOptions},
};

fn open(name: &str) -> Model {
    let path = format!("{}/examples/models/{name}", env!("CARGO_MANIFEST_DIR"));
    Model::open(path, LoadOptions::default()).expect("the model loads")
}

/// Mean loss over some stories, each BOS, text and EOS in windows of 512: nats a token, tokens, bytes.
fn held_out(model: &Model, stories: &[&str]) -> (f64, usize, usize) {
    let tokenizer = model.tokenizer();
    let (bos, eos) = (tokenizer.bos().expect("BOS"), tokenizer.eos().expect("EOS"));
    let (mut sum, mut count, mut bytes) = (0.0, 0, 0);
    let mut context =
        Context::new(model, ContextOptions { n_ctx: 512, ..Default::default() }).expect("small");
    for story in stories {
        let mut tokens = vec![bos];
        tokens.extend(tokenizer.encode(story, false, false, None).expect("text"));
        tokens.push(eos);
        bytes += story.len();
        for window in tokens.chunks(512) {
            context.clear(0).expect("there");
            context
                .eval(window, EvalOptions { want: Want::All, ..Default::default() })
                .expect("fits");
            for (row, token) in window[1..].iter().enumerate() {
                sum -= f64::from(
                    log_softmax_at(context.logits(row).expect("kept"), *token).expect("numbers"),
                );
                count += 1;
            }
        }
    }
    (sum / count as f64, count, bytes)
}

fn stories(text: &str) -> Vec<&str> {
    text.split("<|endoftext|>")
        .map(|story| story.trim_matches('\n'))
        .filter(|story| !story.is_empty())
        .collect()
}

fn answer(model: &Model, question: &str) -> (String, Finish) {
    let mut session = Session::new(model, SessionOptions::default()).expect("small");
    let mut text = String::new();
    let options =
        GenerateOptions { sampler: Some(Sampler::new(0)), max_tokens: 220, ..Default::default() };
    let finish = session.respond(Some(question), options, |chunk| {
        text.push_str(chunk.text);
        true
    });
    (text, finish.expect("answers"))
}

#[test]
fn the_seed_model_has_the_held_out_loss_of_its_card() {
    let model = open("seed-s.gguf");
    // All 359 stories of the card take a minute without optimisation; TERN_HELDOUT names a file with them.
    let all = std::env::var("TERN_HELDOUT")
        .ok()
        .map(|path| std::fs::read_to_string(path).expect("readable"));
    match &all {
        Some(text) => {
            let (nats, count, _) = held_out(&model, &stories(text));
            assert!(
                (nats / 2.1769 - 1.0).abs() < 0.005,
                "{nats} nats a token over {count} tokens; the card has 2.1769"
            );
        }
        None => {
            let (nats, count, _) =
                held_out(&model, &stories(include_str!("data/text/stories-heldout.txt")));
            assert!(
                (nats / SIXTY_STORIES - 1.0).abs() < 0.005,
                "{nats} nats a token over {count} tokens"
            );
        }
    }
}

/// What this engine measured on the sixty stories when all 359 gave the card's figure.
const SIXTY_STORIES: f64 = 2.5406;

#[test]
fn the_seed_model_says_what_its_card_says() {
    let model = open("seed-s.gguf");
    for (question, want) in [
        ("Hi! How are you?", "I'm doing well, thanks for asking."),
        ("What is your favorite food?", "I love pizza."),
        ("What do you do for a living?", "I'm a teacher."),
        (
            "Tell me a story about a dog.",
            "Once upon a time, there was a little dog named Spot. Spot loved to play with his ball. One day, Spot saw a big dog.",
        ),
    ] {
        let (text, finish) = answer(&model, question);
        assert_eq!(finish, Finish::EndOfGeneration, "{question}: {text}");
        // The card's texts are bitnet.cpp's: equal up to the first near-tie, so only the longer starts are compared.
        assert!(text.starts_with(want), "{question}: {text}");
    }
}

/// What `examples/train/evaluate.py` measured in PyTorch over the 359 stories of the card: nats a token, and a byte.
const TERN_S: (f64, f64) = (2.1017, 0.5243);
/// What this engine measured on the sixty stories when all 359 gave the card's figure: nats a byte.
const TERN_S_SIXTY: f64 = 0.6256;

#[test]
fn tern_s_has_the_held_out_loss_of_its_card() {
    let model = open("tern-s.gguf");
    let all = std::env::var("TERN_HELDOUT")
        .ok()
        .map(|path| std::fs::read_to_string(path).expect("readable"));
    let sixty = include_str!("data/text/stories-heldout.txt");
    let (nats, count, bytes) = held_out(&model, &stories(all.as_deref().unwrap_or(sixty)));
    let a_byte = nats * count as f64 / bytes as f64;
    let want = if all.is_some() { TERN_S.1 } else { TERN_S_SIXTY };
    assert!((a_byte / want - 1.0).abs() < 0.005, "{nats} nats a token, {a_byte} a byte");
    // The bar of the project for a model trained on a CPU.
    assert!(TERN_S.1 <= 0.54 && (TERN_S.0 / TERN_S.1 - 4.008).abs() < 0.05);
}

#[test]
fn tern_s_says_what_pytorch_says() {
    let model = open("tern-s.gguf");
    let golden = include_str!("../examples/models/golden.txt");
    let ids = |line: &str, what: &str| -> Option<Vec<i32>> {
        let ids = line.strip_prefix(what)?.split_whitespace();
        Some(ids.map(|id| id.parse().expect("an id")).collect())
    };
    let (mut prompt, mut answers) = (Vec::new(), 0);
    for line in golden.lines() {
        prompt = ids(line, "prompt ").unwrap_or(prompt);
        let Some(want) = ids(line, "greedy ") else { continue };
        let mut context = Context::new(&model, ContextOptions::default()).expect("small");
        context.eval(&prompt, EvalOptions::default()).expect("fits");
        let mut greedy = Sampler::new(0);
        for (i, want) in want.iter().enumerate() {
            let got = context.sample(0, &mut greedy, None, None).expect("draws");
            assert_eq!(got, Some(*want), "token {i} after {prompt:?}");
            context.eval(&[*want], EvalOptions::default()).expect("fits");
        }
        answers += 1;
    }
    assert_eq!(answers, 3, "answers in golden.txt");
}

#[test]
fn tern_s_chats_and_ends_by_itself() {
    let model = open("tern-s.gguf");
    for (question, topic) in [
        ("Hi! How are you?", "you"),
        ("My name is Anna. What is your name?", "Anna"),
        ("What is your favorite food?", "food"),
        ("Tell me a story about a dog.", "dog"),
        ("Tell me a story about a girl named Lily.", "Lily"),
        ("Thank you! Goodbye.", "bye"),
    ] {
        let (text, finish) = answer(&model, question);
        assert_eq!(finish, Finish::EndOfGeneration, "{question}: {text}");
        assert!(text.contains(topic), "{question}: {text}");
    }
}
