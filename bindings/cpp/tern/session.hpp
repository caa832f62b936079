/* The session: ask, stream, cancel, fork, save. */
#ifndef TERN_SESSION_HPP
#define TERN_SESSION_HPP

#include <tern/sampler.hpp>

#include <iterator>

namespace tern { inline namespace TERN_HPP_KIND {

enum class on_full : std::int32_t {
  error = TERN_ON_FULL_ERROR,
  drop_turns = TERN_ON_FULL_DROP_TURNS,
  shift = TERN_ON_FULL_SHIFT,
};

enum class finish : std::int32_t {
  none = TERN_FINISH_NONE,
  eog = TERN_FINISH_EOG,
  stop = TERN_FINISH_STOP,
  length = TERN_FINISH_LENGTH,
  context_full = TERN_FINISH_CONTEXT_FULL,
  cancelled = TERN_FINISH_CANCELLED,
};

enum class draft : std::int32_t { none = TERN_DRAFT_NONE, prompt_lookup = TERN_DRAFT_PROMPT_LOOKUP };

struct session_options {
  std::string_view instructions;     // the system message; empty = none
  std::string_view chat_template;    // empty = the model's
  tern::on_full on_full = tern::on_full::error;
  std::uint32_t n_keep = 0;          // shift: first tokens kept; 0 = the instructions
  context_options context;
};

struct generate_options {
  std::uint32_t max_tokens = 0;      // 0 = to the end of the context
  tern::draft draft = tern::draft::none;
  std::uint32_t n_draft_max = 0;     // tokens a draft; 0 = tern's choice
  std::vector<std::string_view> stop;             // never emitted, not even in part
  const tern::sampler *sampler = nullptr;         // cloned; NULL = the model's recommended chain
  const tern::grammar *grammar = nullptr;         // retained
  const tern::cancel *cancel = nullptr;           // retained
};

// One step of a generation.
struct chunk {
  tern::status status;               // ok, pending or done
  std::string_view text;             // whole code points, perhaps none; lives until the next call on the session
  tern::token token;                 // the newest, -1: none
  float logprob;
  tern::finish finish;               // none until done
};

namespace detail {

// generate_options as C takes them; lives for one call.
class generation {
 public:
  explicit generation(const generate_options &o) noexcept(false) : stop_(o.stop) {
    tern_generate_options_init(&native_, sizeof native_);
    native_.max_tokens = o.max_tokens;
    native_.draft = static_cast<std::int32_t>(o.draft);
    native_.n_draft_max = o.n_draft_max;
    native_.stop = stop_.pointers();
    native_.stop_lens = stop_.lens();
    native_.n_stop = stop_.size();
    native_.sampler = o.sampler != nullptr ? o.sampler->native() : nullptr;
    native_.grammar = o.grammar != nullptr ? o.grammar->native() : nullptr;
    native_.cancel = detail::native(o.cancel);
  }
  const tern_generate_options *native() const noexcept { return &native_; }

 private:
  text_list stop_;
  tern_generate_options native_;
};

inline thrown_box thrown_of(const generate_options &o) { return o.sampler != nullptr ? o.sampler->thrown() : nullptr; }

inline chunk to_chunk(tern_status s, const tern_chunk &c) noexcept {
  return {static_cast<status>(s), std::string_view(c.utf8 != nullptr ? c.utf8 : "", c.len), c.token, c.logprob,
      static_cast<finish>(c.finish_reason)};
}

}  // namespace detail

// An answer as it is made: `for (std::string_view piece : session.ask(...))`. A piece lives until the next one. Leaving the
// loop early ends the generation and keeps what was said. Must not outlive its session.
class reply {
 public:
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view *;
    using reference = const std::string_view &;

    iterator() noexcept = default;
    explicit iterator(reply *r) noexcept : reply_(r) { step(); }
    reference operator*() const noexcept { return reply_->piece_; }
    pointer operator->() const noexcept { return &reply_->piece_; }
    iterator &operator++() {
      step();
      return *this;
    }
    void operator++(int) { step(); }
    friend bool operator==(const iterator &a, const iterator &b) noexcept { return a.reply_ == b.reply_; }
    friend bool operator!=(const iterator &a, const iterator &b) noexcept { return a.reply_ != b.reply_; }

   private:
    void step() {
      if (!reply_->advance()) reply_ = nullptr;
    }
    reply *reply_ = nullptr;
  };

  reply(reply &&other) noexcept
      : session_(std::exchange(other.session_, nullptr)), thrown_(std::move(other.thrown_)), piece_(other.piece_),
        finish_(other.finish_), failure_(other.failure_) {}
  reply &operator=(reply &&) = delete;
  ~reply() { tern_session_stop(std::exchange(session_, nullptr)); }

  iterator begin() { return iterator(this); }
  iterator end() noexcept { return iterator(); }

  // Why the answer ended; none while it goes on.
  tern::finish finish() const noexcept { return finish_; }
  // What broke the answer off, ok if nothing did. With exceptions the loop has thrown it.
  status failure() const noexcept { return failure_; }
  // Ends the generation and keeps what was said.
  answer<void> stop() {
    if (session_ == nullptr) return answer<void>();
    return detail::settle(tern_session_stop(std::exchange(session_, nullptr)));
  }
  // The whole rest as one text.
  answer<std::string> text() {
    std::string all;
    for (std::string_view piece : *this) all += piece;
    if (failure_ != status::ok) return detail::fail<std::string>(error(failure_));
    return all;
  }

 private:
  friend class session;
  reply(tern_session *s, detail::thrown_box thrown) noexcept : session_(s), thrown_(std::move(thrown)) {}

  // The next piece that holds text; false at the end.
  bool advance() {
    while (session_ != nullptr) {
      tern_chunk c;
      tern_chunk_init(&c, sizeof c);
      const tern_status s = tern_session_next(session_, 0, &c);
      if (s < 0) return broken_off(s);
      const chunk step = detail::to_chunk(s, c);
      if (s == TERN_DONE) {
        finish_ = step.finish;
        session_ = nullptr;
      }
      piece_ = step.text;
      if (!piece_.empty()) return true;
    }
    return false;
  }
  bool broken_off(tern_status s) {
    tern_session_stop(std::exchange(session_, nullptr));
    failure_ = static_cast<status>(s);
    finish_ = s == TERN_ERR_CANCELLED ? tern::finish::cancelled : tern::finish::none;
    detail::rethrow(thrown_);
#ifndef TERN_NO_EXCEPTIONS
    throw error(failure_);
#else
    return false;
#endif
  }

  tern_session *session_;  // NULL once the generation is over
  detail::thrown_box thrown_;
  std::string_view piece_;
  tern::finish finish_ = tern::finish::none;
  status failure_ = status::ok;
};

// A conversation.
class session {
 public:
  static answer<session> create(const model &m, const session_options &o = {}) {
    tern_session_params p;
    const tern_context_params c = native(o, p);
    p.context = &c;
    tern_session *raw = nullptr;
    detail::error_slot slot;
    const tern_status s = tern_session_new(m.native(), &p, &raw, slot.out());
    return detail::settle(s, slot, [&] { return session(raw); });
  }
#ifndef TERN_NO_EXCEPTIONS
  session(const model &m, const session_options &o) : session(create(m, o)) {}
  explicit session(const model &m, std::string_view instructions = {}) : session(create(m, with(instructions))) {}
#endif
  // A session from what save() gave. Instructions and template are the saved ones and must be empty in `o`.
  static answer<session> restore(const model &m, slice<const std::uint8_t> saved, const session_options &o = {}) {
    tern_session_params p;
    const tern_context_params c = native(o, p);
    p.context = &c;
    tern_session *raw = nullptr;
    detail::error_slot slot;
    const tern_status s = tern_session_restore(m.native(), saved.data(), saved.size(), &p, &raw, slot.out());
    return detail::settle(s, slot, [&] { return session(raw); });
  }

  // Starts an answer to `user_text`, to be read piece by piece.
  answer<reply> ask(std::string_view user_text, const generate_options &o = {}) & {
    return begin(detail::text(user_text), user_text.size(), o);
  }
  answer<reply> ask(std::string_view, const generate_options & = {}) && = delete;  // the reply would outlive its session
  // The same for the transcript as it stands, say, after set_messages.
  answer<reply> answer_transcript(const generate_options &o = {}) & { return begin(nullptr, 0, o); }

  // The whole answer as one text.
  answer<std::string> respond(std::string_view user_text, const generate_options &o = {}) {
    std::string all;
    const auto append = [&](const chunk &c) {
      all += c.text;
      return true;
    };
#ifdef TERN_NO_EXCEPTIONS
    auto ended = respond(user_text, o, append);
    if (!ended) return *ended.failure();
#else
    respond(user_text, o, append);
#endif
    return all;
  }
  // The answer chunk by chunk; `each` returning false ends it and keeps what was said. Why it ended.
  answer<finish> respond(std::string_view user_text, const generate_options &o, function_ref<bool(const chunk &)> each) {
    struct collector {
      function_ref<bool(const chunk &)> each;
      detail::barrier guard;
      finish ended = finish::none;
      bool stopped = false;
    } all{each, {}};
    const tern_chunk_fn call = [](void *user_data, const tern_chunk *raw) -> std::int32_t {
      auto *c = static_cast<collector *>(user_data);
      c->ended = static_cast<finish>(raw->finish_reason);
      const std::int32_t go_on = c->guard.run([&] { return !c->each || c->each(detail::to_chunk(TERN_OK, *raw)); });
      c->stopped = go_on == 0;
      return go_on;
    };
    const detail::generation options(o);
    const detail::thrown_box thrown = detail::thrown_of(o);
    detail::error_slot slot;
    const tern_status s = tern_session_respond(
        handle_.get(), detail::text(user_text), user_text.size(), options.native(), call, &all, slot.out());
    all.guard.rethrow();
    detail::rethrow(thrown);
    if (s == TERN_ERR_CANCELLED && all.stopped) return finish::cancelled;
    return detail::settle(s, slot, [&] { return all.ended; });
  }

  // The pull interface, for hosts that give each frame a budget: start, then next until done.
  answer<void> start(std::string_view user_text, const generate_options &o = {}) {
    return begin_raw(detail::text(user_text), user_text.size(), o);
  }
  // budget_us 0: until the next token. Else no longer than that, if a unit of work allows; then the chunk says pending.
  answer<chunk> next(std::uint64_t budget_us = 0) {
    tern_chunk c;
    tern_chunk_init(&c, sizeof c);
    const tern_status s = tern_session_next(handle_.get(), budget_us, &c);
    detail::rethrow(thrown_);
    return detail::settle(s, [&] { return detail::to_chunk(s, c); });
  }
  // Ends a generation early and keeps what was said; nothing when none runs.
  answer<void> stop() { return detail::settle(tern_session_stop(handle_.get())); }

  // Computes what the transcript holds, so that the first answer need not.
  answer<void> prewarm(const tern::cancel *cancel = nullptr) {
    return detail::settle(tern_session_prewarm(handle_.get(), detail::native(cancel)));
  }
  // Replaces the transcript; what both have in common is not computed again.
  answer<void> set_messages(slice<const message> messages) {
    detail::error_slot slot;
    const tern_status s =
        tern_session_set_messages(handle_.get(), messages.data(), sizeof(message), messages.size(), slot.out());
    return detail::settle(s, slot, [] {});
  }
  // [{"role":...,"content":...}]
  answer<std::string> transcript() const {
    return detail::fill<std::string>(512, [&](char *buf, std::size_t cap, std::size_t *len, tern_error **) {
      return tern_session_transcript_to_json(handle_.get(), buf, cap, len);
    });
  }
  answer<void> set_transcript(std::string_view json) {
    detail::error_slot slot;
    const tern_status s =
        tern_session_transcript_from_json(handle_.get(), detail::text(json), json.size(), slot.out());
    return detail::settle(s, slot, [] {});
  }

  // A second conversation with the same past, and a context of its own.
  answer<session> fork() const {
    tern_session *raw = nullptr;
    const tern_status s = tern_session_fork(handle_.get(), &raw);
    return detail::settle(s, [&] { return session(raw); });
  }
  // Transcript, template, keys and values as bytes.
  answer<std::vector<std::uint8_t>> save() const {
    return detail::fill<std::vector<std::uint8_t>>(0, [&](std::uint8_t *buf, std::size_t cap, std::size_t *len, tern_error **) {
      return tern_session_save(handle_.get(), cap != 0 ? buf : nullptr, cap, len);
    });
  }
  // The low level below: valid as long as the session.
  answer<context_ref> context() {
    tern_context *raw = nullptr;
    const tern_status s = tern_session_context(handle_.get(), &raw);
    return detail::settle(s, [&] { return context_ref(raw); });
  }
  tern_session *native() const noexcept { return handle_.get(); }

 private:
  static tern_context_params native(const session_options &o, tern_session_params &p) noexcept {
    tern_session_params_init(&p, sizeof p);
    p.instructions = detail::text_or_null(o.instructions);
    p.instructions_len = o.instructions.size();
    p.chat_template = detail::text_or_null(o.chat_template);
    p.chat_template_len = o.chat_template.size();
    p.on_full = static_cast<std::int32_t>(o.on_full);
    p.n_keep = o.n_keep;
    return o.context.native();
  }
  static session_options with(std::string_view instructions) noexcept {
    session_options o;
    o.instructions = instructions;
    return o;
  }
  answer<void> begin_raw(const char *utf8, std::size_t len, const generate_options &o) {
    const detail::generation options(o);
    thrown_ = detail::thrown_of(o);
    detail::error_slot slot;
    const tern_status s = tern_session_start(handle_.get(), utf8, len, options.native(), slot.out());
    return detail::settle(s, slot, [] {});
  }
  answer<reply> begin(const char *utf8, std::size_t len, const generate_options &o) {
#ifdef TERN_NO_EXCEPTIONS
    auto started = begin_raw(utf8, len, o);
    if (!started) return *started.failure();
#else
    begin_raw(utf8, len, o);
#endif
    return reply(handle_.get(), thrown_);
  }

  explicit session(tern_session *raw) noexcept : handle_(raw) {}
  detail::owned<tern_session> handle_;
  detail::thrown_box thrown_;
};

}}  // namespace tern

#endif
