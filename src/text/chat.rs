//! Turns of a conversation → the text a model was trained to continue.

use super::{
    Tokenizer,
    jinja::{self, Failure},
    vocab::Kind,
};
use crate::{
    control::Cancel,
    error::{Error, Result},
    file::Metadata,
};
use minijinja::Value;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io, thread,
};

const KEY: &str = "tokenizer.chat_template";

/// The template BitNet 2B4T was trained with.
const BITNET: &str = "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// What the converter of the official BitNet file wrote in its place; under it the model never stops.
const PLACEHOLDER: &str = "BITNETAssistant";

/// Stack for compiling and running templates: a caller's may have 256 KB.
const STACK_BYTES: usize = 8 << 20;

/// One turn of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `"system"`, `"user"`, `"assistant"`, or what else the template knows.
    pub role: &'a str,
    /// What was said.
    pub content: &'a str,
}

/// A chat template in Jinja, as models carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
}

impl Template {
    /// Takes a template that compiles.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with the line if it does not, or is larger
    /// than 256 KiB; [`Error::Io`] if no thread could be started.
    pub fn new(source: &str) -> Result<Template> {
        let compiled = if source.len() > jinja::SOURCE_MAX {
            Err(Failure::Template(format!(
                "{} bytes, at most {} are read",
                source.len(),
                jinja::SOURCE_MAX
            )))
        } else {
            on_deep_stack(|| jinja::run(source, None))?
        };
        compiled.map_err(failure)?;
        Ok(Template { source: source.to_owned() })
    }

    /// The template a model carries, corrected where a known converter broke it.
    ///
    /// # Errors
    ///
    /// [`Error::BadModel`] if it does not compile; as [`new`](Template::new).
    pub fn of_model(metadata: &Metadata) -> Result<Option<Template>> {
        let key = if metadata.get(KEY).is_some() { KEY } else { "tokenizer.chat_template.default" };
        let Some(source) = metadata.opt_str(key)? else { return Ok(None) };
        match Template::new(&corrected(source)) {
            Err(Error::InvalidArgument(why)) => Err(metadata.reject(key, why)),
            other => other.map(Some),
        }
    }

    /// The template's text, as it is used.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation, exactly as the template writes it.
    ///
    /// `add_generation_prompt` ends it where the assistant's answer begins.
    /// `bos` and `eos` are the names the template knows as `bos_token` and
    /// `eos_token`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with what the template's `raise_exception`
    /// said, or with the line where it failed or did too much;
    /// [`Error::Io`] if no thread could be started.
    pub fn render(
        &self,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String> {
        let bytes = messages
            .iter()
            .map(|message| (message.role.len() + message.content.len()) as u64)
            .sum();
        let rendered = on_deep_stack(|| {
            let messages: Vec<Value> = messages.iter().map(message).collect();
            let count = messages.len() as u64;
            let root = minijinja::context! {
                messages => messages,
                add_generation_prompt => add_generation_prompt,
                bos_token => bos,
                eos_token => eos,
                // Templates ask `tools is not none`.
                tools => Value::from(()),
                documents => Value::from(()),
            };
            jinja::run(&self.source, Some((root, bytes, count)))
        })?;
        rendered.map_err(failure)
    }
}

impl Tokenizer {
    /// The text of a conversation for [`encode`](Tokenizer::encode) with
    /// `add_special` and `parse_special`: without the BOS that it adds.
    ///
    /// Names of control tokens in the messages would be read as those tokens;
    /// [`encode_chat`](Tokenizer::encode_chat) prevents that.
    ///
    /// # Errors
    ///
    /// As [`Template::render`].
    pub fn chat_text(
        &self,
        template: &Template,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let text = template.render(
            messages,
            add_generation_prompt,
            self.name(self.bos()),
            self.name(self.eos()),
        )?;
        Ok(text[self.bos_bytes(&text)..].to_owned())
    }

    /// The tokens of a conversation, with exactly one BOS if the model wants one.
    ///
    /// What the messages say is text: a name of a control token in them is not
    /// that token, so no user can end the turn or speak as another role.
    ///
    /// # Errors
    ///
    /// As [`Template::render`] and [`encode`](Tokenizer::encode).
    pub fn encode_chat(
        &self,
        template: &Template,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        cancel: Option<&Cancel>,
    ) -> Result<Vec<i32>> {
        let prompt =
            self.encode_chat_after(template, messages, add_generation_prompt, None, cancel);
        prompt.map(|(_, tokens)| tokens)
    }

    /// The text of a conversation, as [`chat_text`](Tokenizer::chat_text) gives
    /// it, and its tokens, as [`encode_chat`](Tokenizer::encode_chat) does.
    ///
    /// Where the text begins with the one of `said`, the tokens begin with its
    /// tokens: a model may have said a text in other tokens than encoding gives.
    ///
    /// # Errors
    ///
    /// As [`encode_chat`](Tokenizer::encode_chat).
    pub fn encode_chat_after(
        &self,
        template: &Template,
        messages: &[Message<'_>],
        add_generation_prompt: bool,
        said: Option<(&str, &[i32])>,
        cancel: Option<&Cancel>,
    ) -> Result<(String, Vec<i32>)> {
        let mark = unused_mark(&template.source, messages)?;
        let guarded: Vec<(String, String)> = messages
            .iter()
            .map(|message| (self.guard(message.role, mark), self.guard(message.content, mark)))
            .collect();
        let guarded: Vec<Message<'_>> =
            guarded.iter().map(|(role, content)| Message { role, content }).collect();
        let (bos, eos) = (self.name(self.bos()), self.name(self.eos()));
        let marked = template.render(&guarded, add_generation_prompt, bos, eos)?;
        let mut text = String::with_capacity(marked.len());
        let mut barriers = Vec::new();
        for (index, part) in marked[self.bos_bytes(&marked)..].split(mark).enumerate() {
            if index > 0 {
                barriers.push(text.len());
            }
            text.push_str(part);
        }
        let Some((said, mut tokens)) = said
            .filter(|(said, _)| !said.is_empty() && text.starts_with(said))
            .map(|(said, tokens)| (said.len(), tokens.to_vec()))
        else {
            let mut tokens = Vec::from_iter(self.bos().filter(|_| self.adds_bos()));
            self.encode_from(&text, 0, &barriers, true, cancel, &mut tokens)?;
            return Ok((text, tokens));
        };
        self.encode_from(&text, said, &barriers, true, cancel, &mut tokens)?;
        Ok((text, tokens))
    }

    fn name(&self, token: Option<i32>) -> &str {
        token.and_then(|token| self.token_name(token)).unwrap_or_default()
    }

    /// Bytes of a BOS at the start of a text, if encoding adds another.
    fn bos_bytes(&self, text: &str) -> usize {
        let bos = self.name(self.bos());
        if self.adds_bos() && text.starts_with(bos) { bos.len() } else { 0 }
    }

    /// Puts `mark` behind the first character of each name of a control token.
    fn guard(&self, text: &str, mark: char) -> String {
        let mut out = String::new();
        let mut place = 0;
        while let Some(found) = self.specials.find(&self.vocab, text, place, true, &[]) {
            let first = text[found.start..].chars().next().map_or(0, char::len_utf8);
            // Words of the user's language that are always one token stay so.
            let word = self.vocab.kind(found.id) == Kind::UserDefined;
            let end = if word { found.end } else { found.start + first };
            out.push_str(&text[place..end]);
            if !word {
                out.push(mark);
            }
            place = end;
        }
        out.push_str(&text[place..]);
        out
    }
}

/// A character that occurs nowhere in the conversation: first the ones that Unicode sets aside.
fn unused_mark(source: &str, messages: &[Message<'_>]) -> Result<char> {
    let marks = || ('\u{fdd0}'..='\u{fdef}').chain('\u{100000}'..='\u{10fffd}');
    let is_mark = |c: &char| matches!(*c, '\u{fdd0}'..='\u{fdef}' | '\u{100000}'..='\u{10fffd}');
    let texts = messages.iter().flat_map(|message| [message.role, message.content]).chain([source]);
    let used: BTreeSet<char> = texts.flat_map(str::chars).filter(is_mark).collect();
    let unused = marks().find(|mark| !used.contains(mark));
    unused.ok_or(Error::InvalidArgument("messages with every private character of Unicode".into()))
}

fn message(message: &Message<'_>) -> Value {
    let fields = BTreeMap::from([("role", message.role), ("content", message.content)]);
    Value::from_serialize(fields)
}

fn corrected(source: &str) -> Cow<'_, str> {
    if source.contains(PLACEHOLDER) { Cow::Borrowed(BITNET) } else { Cow::Borrowed(source) }
}

fn failure(failure: Failure) -> Error {
    Error::InvalidArgument(match failure {
        Failure::Raised(message) => message.into(),
        Failure::Template(what) => format!("chat template: {what}").into(),
    })
}

/// Runs on a stack of its own and waits. A panic of the engine is the template's failure: it left nothing half done.
fn on_deep_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("tern-template".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, run)
            .map_err(|source: io::Error| Error::Io {
                what: "starting a thread to run a chat template".into(),
                source,
            })?;
        thread.join().map_err(|_| {
            Error::InvalidArgument("chat template: it brought the engine to a panic".into())
        })
    })
}
