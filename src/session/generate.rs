//! One answer: prompt, token by token, to its end.

use super::{OnFull, Said, Session, Turn, lock};
use crate::{
    Cancel,
    context::{Context, EvalOptions, Item, Status},
    error::{Error, Result},
    sampler::{Grammar, Sampler},
    text::{DecodeOptions, Detok, Stops},
};
use std::time::{Duration, Instant};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn.
    EndOfGeneration,
    /// A stop string came.
    Stop,
    /// As many tokens as were allowed. A grammar may be incomplete then.
    Length,
    /// The context is full.
    ContextFull,
    /// A cancel token, a callback or [`Session::stop`].
    Cancelled,
}

/// Whether tokens are guessed ahead and verified together. The text is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Draft {
    /// One token at a time.
    #[default]
    None,
    /// What followed the same words earlier in the conversation.
    PromptLookup,
}

/// How an answer is generated.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Tokens at most; 0 goes to the end of the context.
    pub max_tokens: usize,
    /// Guessing ahead.
    pub draft: Draft,
    /// Tokens of a guess; 0 is 8.
    pub n_draft_max: usize,
    /// Strings that end the answer and are no part of it.
    pub stop: Vec<String>,
    /// The chain; `None` takes the model's recommended one, seed 0.
    pub sampler: Option<Sampler>,
    /// What the answer must be.
    pub grammar: Option<Grammar>,
    /// Stops the answer between two units of work.
    pub cancel: Option<Cancel>,
}

/// A piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk<'a> {
    /// Whole characters; may be empty while text is held back.
    pub text: &'a str,
    /// The newest token, if one was added.
    pub token: Option<i32>,
    /// Its log-probability in the chain's distribution.
    pub logprob: f32,
    /// Set with the last chunk.
    pub finish: Option<Finish>,
}

/// How a step of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progressed {
    /// There is more to come.
    More,
    /// The budget is spent; no token was added.
    Pending,
    /// This was the last piece.
    Done,
}

/// An answer under way.
pub(super) struct Generation {
    sampler: Sampler,
    cancel: Option<Cancel>,
    stops: Stops,
    detok: Detok,
    max_tokens: usize,
    draft: Draft,
    n_draft_max: usize,
    /// The prompt as text; empty where the tokens are no longer those of a text.
    pub(super) prompt_text: String,
    /// The prompt's tokens and the answer's: what the cache must hold.
    pub(super) tokens: Vec<i32>,
    /// The answer's alone.
    pub(super) produced: Vec<i32>,
    /// What the host saw, and with what was held back.
    answer: String,
    /// Guesses under verification: row `row` is the state after the newest token.
    guess: Vec<i32>,
    row: usize,
    /// The context's epoch in which `row` is good.
    rows: Option<u64>,
    /// Whether the tokens found in the cache were counted.
    counted: bool,
    /// Text, token and log-probability of the last chunk.
    text: String,
    /// The model ended its turn: the tokens are the whole of the answer.
    whole: bool,
}

impl Session {
    /// Begins an answer to `user`, or to the transcript as it stands. Nothing is evaluated yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] while an answer is under way, or if there is nothing to answer; [`Error::ContextFull`],
    /// which leaves the transcript as it was; [`Error::InvalidArgument`] if the template refuses, or for an empty stop string.
    pub fn start(&mut self, user: Option<&str>, options: GenerateOptions) -> Result<()> {
        self.idle()?;
        let mut turns = self.turns.clone();
        if let Some(content) = user {
            turns.push(Turn { role: "user".into(), content: content.to_owned() });
        }
        if turns.is_empty() {
            return Err(Error::InvalidState("an empty transcript has nothing to answer"));
        }
        let mut sampler = options.sampler.unwrap_or_else(|| Sampler::recommended(0));
        if let Some(grammar) = &options.grammar {
            sampler.add_grammar(grammar)?;
        }
        let stops = Stops::new(&options.stop)?;
        let prompt = self.fit(&mut turns, options.max_tokens, options.cancel.as_ref())?;
        self.turns = turns;
        self.generation = Some(Box::new(Generation {
            sampler,
            cancel: options.cancel,
            stops,
            detok: Detok::new(DecodeOptions::default()),
            max_tokens: options.max_tokens,
            draft: options.draft,
            n_draft_max: if options.n_draft_max == 0 { 8 } else { options.n_draft_max.min(64) },
            prompt_text: prompt.text,
            tokens: prompt.tokens,
            produced: Vec::new(),
            answer: String::new(),
            guess: Vec::new(),
            row: 0,
            rows: None,
            counted: false,
            text: String::new(),
            whole: false,
        }));
        Ok(())
    }

    /// One step of the answer: at most one token, or a run of tokens that a grammar forces.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`] if no answer is under way. [`Error::Cancelled`]: the answer is over, what was said
    /// stays. Any other error ends the answer likewise.
    pub fn next(&mut self, budget: Option<Duration>) -> Result<(Progressed, Chunk<'_>)> {
        let Some(mut generation) = self.generation.take() else {
            return Err(Error::InvalidState("no answer is under way: start one"));
        };
        match self.step(&mut generation, budget) {
            Ok((Progressed::Done, chunk)) => {
                self.end(&mut generation);
                self.last_text = std::mem::take(&mut generation.text);
                Ok((Progressed::Done, Chunk { text: &self.last_text, ..chunk }))
            }
            Ok((progressed, chunk)) => {
                let generation = self.generation.insert(generation);
                Ok((progressed, Chunk { text: &generation.text, ..chunk }))
            }
            // Another thread is in the context: nothing happened yet.
            Err(Error::Busy) => {
                self.generation = Some(generation);
                Err(Error::Busy)
            }
            Err(error) => {
                self.end(&mut generation);
                Err(error)
            }
        }
    }

    /// Ends the answer early and keeps what was said. Fine if none is under way.
    pub fn stop(&mut self) {
        if let Some(mut generation) = self.generation.take() {
            self.end(&mut generation);
        }
    }

    /// Start and all steps in one: `f` sees each chunk and answers whether to go on.
    ///
    /// # Errors
    ///
    /// As [`Session::start`] and [`Session::next`]; [`Error::Cancelled`] if `f` ends it.
    pub fn respond(
        &mut self,
        user: Option<&str>,
        options: GenerateOptions,
        mut f: impl FnMut(Chunk<'_>) -> bool,
    ) -> Result<Finish> {
        self.start(user, options)?;
        loop {
            let (progressed, chunk) = self.next(None)?;
            let finish = chunk.finish;
            let go_on = f(chunk);
            if progressed == Progressed::Done {
                return Ok(finish.unwrap_or(Finish::EndOfGeneration));
            }
            if !go_on {
                self.stop();
                return Err(Error::Cancelled);
            }
        }
    }

    /// Puts the answer into the transcript.
    fn end(&mut self, generation: &mut Generation) {
        // A torn character at the end is no text of the transcript.
        let content = std::mem::take(&mut generation.answer);
        if generation.produced.is_empty() {
            return;
        }
        if generation.whole && !generation.prompt_text.is_empty() {
            let text = std::mem::take(&mut generation.prompt_text) + &content;
            self.said = Said { text, tokens: std::mem::take(&mut generation.tokens) };
        }
        self.turns.push(Turn { role: "assistant".into(), content });
    }

    fn step(
        &mut self,
        generation: &mut Generation,
        budget: Option<Duration>,
    ) -> Result<(Progressed, Chunk<'static>)> {
        let deadline = budget.map(|budget| Instant::now() + budget);
        generation.text.clear();
        if generation.cancel.as_ref().is_some_and(Cancel::is_set) {
            return Err(Error::Cancelled);
        }
        let model = self.model.clone();
        let tokenizer = model.tokenizer();
        let mut chunk = Chunk { text: "", token: None, logprob: 0.0, finish: None };
        let shared = self.context.clone();
        let mut context = lock(&shared)?;
        match self.evaluate(generation, &mut context, deadline)? {
            Evaluated::Row => {}
            Evaluated::Pending => return Ok((Progressed::Pending, chunk)),
            Evaluated::Full => {
                generation.flush();
                chunk.finish = Some(Finish::ContextFull);
                return Ok((Progressed::Done, chunk));
            }
        }
        let start = Instant::now();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(start));
        let sampled = context.sample(
            generation.row,
            &mut generation.sampler,
            left,
            generation.cancel.as_ref(),
        )?;
        let Some(token) = sampled else {
            if generation.cancel.as_ref().is_some_and(Cancel::is_set) {
                return Err(Error::Cancelled);
            }
            return Ok((Progressed::Pending, chunk));
        };
        chunk.token = Some(token);
        chunk.logprob = generation.sampler.logprob();
        if tokenizer.is_eog(token)? {
            generation.whole = true;
            generation.flush();
            chunk.finish = Some(Finish::EndOfGeneration);
            return Ok((Progressed::Done, chunk));
        }
        if generation.guess.get(generation.row) == Some(&token) {
            generation.row += 1;
            context.perf_mut().n_draft_accepted += 1;
        } else {
            generation.rows = None;
        }
        chunk.finish = generation.take(tokenizer, token)?;
        // A grammar that leaves no choice is followed without asking the model.
        if chunk.finish.is_none() && generation.rows.is_none() {
            for token in generation.sampler.forced() {
                if chunk.finish.is_some() || tokenizer.is_eog(token)? {
                    break;
                }
                generation.sampler.accept(token)?;
                chunk.token = Some(token);
                chunk.finish = generation.take(tokenizer, token)?;
            }
        }
        match chunk.finish {
            Some(_) => Ok((Progressed::Done, chunk)),
            None => Ok((Progressed::More, chunk)),
        }
    }

    /// Brings the cache up to the newest token, so that a row is there for the next.
    fn evaluate(
        &mut self,
        generation: &mut Generation,
        context: &mut Context,
        deadline: Option<Instant>,
    ) -> Result<Evaluated> {
        if generation.rows == Some(context.epoch()) && generation.row < context.rows() {
            return Ok(Evaluated::Row);
        }
        if generation.tokens.len() > context.options().n_ctx
            && !self.make_room(generation, context)?
        {
            return Ok(Evaluated::Full);
        }
        let known = generation.tokens.len();
        let mut guess = generation.guesses();
        guess.truncate(context.options().n_ctx - known);
        let tokens: Vec<i32> = generation.tokens.iter().chain(&guess).copied().collect();
        // The newest token is always evaluated: its state is not kept in the cache.
        let shared = context.common_prefix(0, &tokens)?.min(known - 1);
        if shared < context.tokens(0)?.len() {
            context.truncate(0, shared)?;
        }
        if !std::mem::replace(&mut generation.counted, true) {
            context.perf_mut().n_prefill_reused += shared as u64;
        }
        let item = |(i, token): (usize, &i32)| Item {
            token: *token,
            sequence: 0,
            want: shared + i + 1 >= known,
        };
        let items: Vec<Item> = tokens[shared..].iter().enumerate().map(item).collect();
        let budget = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let options =
            EvalOptions { budget, cancel: generation.cancel.as_ref(), ..EvalOptions::default() };
        match context.eval_items(&items, options)?.status {
            Status::Done => {}
            Status::Pending => return Ok(Evaluated::Pending),
            Status::Cancelled => return Err(Error::Cancelled),
        }
        context.perf_mut().n_drafted += guess.len() as u64;
        generation.guess = guess;
        generation.row = 0;
        generation.rows = Some(context.epoch());
        Ok(Evaluated::Row)
    }

    /// Room for one token more, as the policy has it. `false` if there is none to be made.
    fn make_room(&mut self, generation: &mut Generation, context: &mut Context) -> Result<bool> {
        match self.on_full {
            OnFull::Error => Ok(false),
            OnFull::DropTurns => self.drop_turns(generation, context),
            OnFull::Shift => self.shift(generation, context),
        }
    }
}

/// How far the cache is.
enum Evaluated {
    Row,
    Pending,
    Full,
}

impl Generation {
    /// Adds a token to the answer. `Some` if that ends it.
    fn take(&mut self, tokenizer: &crate::text::Tokenizer, token: i32) -> Result<Option<Finish>> {
        self.tokens.push(token);
        self.produced.push(token);
        let text = self.detok.push(tokenizer, token)?;
        let shown = self.stops.push(text);
        self.text.push_str(shown);
        self.answer.push_str(shown);
        if self.stops.stopped().is_some() {
            return Ok(Some(Finish::Stop));
        }
        if self.max_tokens > 0 && self.produced.len() >= self.max_tokens {
            self.flush();
            return Ok(Some(Finish::Length));
        }
        Ok(None)
    }

    /// Shows what was held back.
    fn flush(&mut self) {
        let rest = self.detok.finish().to_owned();
        let mut shown = self.stops.push(&rest).to_owned();
        if self.stops.stopped().is_none() {
            shown.push_str(self.stops.finish());
        }
        self.text.push_str(&shown);
        self.answer.push_str(&shown);
    }

    /// What followed the last words where they stood before: three, else two of them.
    fn guesses(&self) -> Vec<i32> {
        let tokens = &self.tokens;
        if self.draft == Draft::None || !self.sampler.grammars().is_empty() {
            return Vec::new();
        }
        for n in [3, 2] {
            let Some(start) = tokens.len().checked_sub(n) else { continue };
            let (before, last) = (&tokens[..tokens.len() - 1], &tokens[start..]);
            let found = before.windows(n).rposition(|window| window == last);
            if let Some(at) = found {
                let from = at + n;
                return tokens[from..tokens.len().min(from + self.n_draft_max)].to_vec();
            }
        }
        Vec::new()
    }
}
