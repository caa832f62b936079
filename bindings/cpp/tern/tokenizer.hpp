/* Text to tokens and back, whole or as a stream, and turns of a chat to text. */
#ifndef TERN_TOKENIZER_HPP
#define TERN_TOKENIZER_HPP

#include <tern/model.hpp>

namespace tern { inline namespace TERN_HPP_KIND {

// One turn: a role and its content, borrowed. Laid out as C's tern_message, so that arrays need no translation.
struct message : tern_message {
  message(std::string_view who, std::string_view what) noexcept
      : tern_message{detail::text(who), who.size(), detail::text(what), what.size()} {}
};
static_assert(sizeof(message) == sizeof(tern_message), "an array of message is an array of tern_message");

struct chat_options {
  std::uint32_t flags = TERN_CHAT_ADD_GENERATION_PROMPT;  // TERN_CHAT_*
  std::string_view chat_template;                         // Jinja instead of the model's; empty = the model's
};

// The tokens of a text; flags TERN_TOK_*.
inline answer<std::vector<token>> model::tokenize(std::string_view text, std::uint32_t flags) const {
  // Half a token a byte is more than texts have; the rare other one asks twice.
  return detail::fill<std::vector<token>>(text.size() / 2 + 8, [&](token *buf, std::size_t cap, std::size_t *n, tern_error **) {
    return tern_tokenize(handle_.get(), detail::text(text), text.size(), flags, buf, cap, n);
  });
}

// The text of tokens; flags TERN_DETOK_*.
inline answer<std::string> model::detokenize(slice<const token> tokens, std::uint32_t flags) const {
  return detail::fill<std::string>(tokens.size() * 6 + 8, [&](char *buf, std::size_t cap, std::size_t *len, tern_error **) {
    return tern_detokenize(handle_.get(), tokens.data(), tokens.size(), flags, buf, cap, len);
  });
}

// The raw bytes of one token: perhaps a part of a code point. For text that arrives token by token there is detokenizer.
inline answer<std::string> model::piece(token t, std::uint32_t flags) const {
  return detail::fill<std::string>(15, [&](char *buf, std::size_t cap, std::size_t *len, tern_error **) {
    return tern_token_to_piece(handle_.get(), t, flags, buf, cap, len);
  });
}

// Whether the token ends a generation.
inline answer<bool> model::is_eog(token t) const {
  std::int32_t yes = 0;
  const tern_status s = tern_token_is_eog(handle_.get(), t, &yes);
  return detail::settle(s, [&] { return yes != 0; });
}

inline answer<bool> model::is_control(token t) const {
  std::int32_t yes = 0;
  const tern_status s = tern_token_is_control(handle_.get(), t, &yes);
  return detail::settle(s, [&] { return yes != 0; });
}

// The text that the chat template makes of the messages.
inline answer<std::string> model::apply_template(slice<const message> messages, const chat_options &o) const {
  tern_chat_options c;
  tern_chat_options_init(&c, sizeof c);
  c.flags = o.flags;
  c.chat_template = detail::text_or_null(o.chat_template);
  c.chat_template_len = o.chat_template.size();
  return detail::fill<std::string>(512, [&](char *buf, std::size_t cap, std::size_t *len, tern_error **e) {
    return tern_chat_apply_template(
        handle_.get(), messages.data(), sizeof(message), messages.size(), &c, buf, cap, len, e);
  });
}

inline answer<std::string> model::apply_template(slice<const message> messages) const {
  return apply_template(messages, chat_options());
}

// Tokens one by one to text in whole code points.
class detokenizer {
 public:
  static answer<detokenizer> create(const model &m, std::uint32_t flags = 0) {
    tern_detok *raw = nullptr;
    const tern_status s = tern_detok_new(m.native(), flags, &raw);
    return detail::settle(s, [&] { return detokenizer(detail::owned<tern_detok>(raw)); });
  }
#ifndef TERN_NO_EXCEPTIONS
  explicit detokenizer(const model &m, std::uint32_t flags = 0) : detokenizer(create(m, flags)) {}
#endif
  // What the token completes, perhaps nothing. Lives until the next call.
  answer<std::string_view> push(token t) {
    const char *utf8 = nullptr;
    std::size_t len = 0;
    const tern_status s = tern_detok_push(handle_.get(), t, &utf8, &len);
    return detail::settle(s, [&] { return std::string_view(utf8, len); });
  }
  // What was held back, U+FFFD for a torn end. Lives until the next call.
  answer<std::string_view> finish() {
    const char *utf8 = nullptr;
    std::size_t len = 0;
    const tern_status s = tern_detok_finish(handle_.get(), &utf8, &len);
    return detail::settle(s, [&] { return std::string_view(utf8, len); });
  }
  tern_detok *native() const noexcept { return handle_.get(); }

 private:
  explicit detokenizer(detail::owned<tern_detok> handle) noexcept : handle_(std::move(handle)) {}
  detail::owned<tern_detok> handle_;
};

}}  // namespace tern

#endif
