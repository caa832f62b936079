/* The model: loading from anywhere, looking inside, converting; and the grammars compiled for it. */
#ifndef TERN_MODEL_HPP
#define TERN_MODEL_HPP

#include <tern/control.hpp>

namespace tern { inline namespace TERN_HPP_KIND {

// Called with 0 .. 1 on the calling thread; false cancels.
using progress = function_ref<bool(float)>;

struct model_options {
  std::uint32_t flags = 0;           // TERN_MODEL_*
  std::string_view kernels;          // "scalar", "avx2", ... as in system_info; empty = the best that passes its check
  const tern::cancel *cancel = nullptr;
};

struct message;
struct chat_options;
class detokenizer;

// Weights and vocabulary. Immutable: every method from any number of threads.
class model {
 public:
  static answer<model> from_file(const char *path_utf8, const model_options &o = {}, progress report = {}) {
    return load(o, report, [&](const tern_model_params *p, tern_model **m, tern_error **e) {
      return tern_model_load_from_file(path_utf8, p, m, e);
    });
  }
  static answer<model> from_file(const std::string &path_utf8, const model_options &o = {}, progress report = {}) {
    return from_file(path_utf8.c_str(), o, report);
  }

  // A part of an open file, mapped; length 0 = to the end. The descriptor is duplicated.
  static answer<model> from_fd(int fd, std::uint64_t offset = 0, std::uint64_t length = 0, const model_options &o = {},
      progress report = {}) {
    return load(o, report, [&](const tern_model_params *p, tern_model **m, tern_error **e) {
      return tern_model_load_from_fd(fd, offset, length, p, m, e);
    });
  }
  // The same for a Windows HANDLE.
  static answer<model> from_handle(void *handle, std::uint64_t offset = 0, std::uint64_t length = 0,
      const model_options &o = {}, progress report = {}) {
    return load(o, report, [&](const tern_model_params *p, tern_model **m, tern_error **e) {
      return tern_model_load_from_handle(handle, offset, length, p, m, e);
    });
  }

  // Copies what it needs; the memory is free to go when the call returns.
  static answer<model> from_memory(const void *data, std::size_t size, const model_options &o = {}, progress report = {}) {
    return load(o, report, [&](const tern_model_params *p, tern_model **m, tern_error **e) {
      return tern_model_load_from_memory(data, size, nullptr, nullptr, p, m, e);
    });
  }
  // Zero copy: takes a container of bytes (data() and size()) and destroys it with the last use of the model, on any thread.
  template <class Bytes, class = std::enable_if_t<!std::is_lvalue_reference_v<Bytes> && !std::is_const_v<Bytes>>>
  static answer<model> from_memory(Bytes &&bytes, const model_options &o = {}, progress report = {}) {
    if (!detail::version_fits()) return detail::fail<model>(detail::version_error());
    auto *kept = new Bytes(std::move(bytes));
    const auto release = [](void *user_data) { delete static_cast<Bytes *>(user_data); };
    return load(o, report, [&](const tern_model_params *p, tern_model **m, tern_error **e) {
      return tern_model_load_from_memory(kept->data(), kept->size() * sizeof(*kept->data()), release, kept, p, m, e);
    });
  }

  // Archives, encrypted files, asset managers. A Source has `std::uint64_t length()` and
  // `bool read_at(std::uint64_t offset, void *dst, std::size_t n)`, which reads all n bytes or returns false. It is kept until
  // the model needs it no more, and called on any thread, one call at a time. What it throws while loading comes out of here;
  // after that, a throw is status::io.
  template <class Source>
  static answer<model> from_reader(Source source, const model_options &o = {}, progress report = {}) {
    struct kept_source {
      Source source;
      std::shared_ptr<detail::barrier> guard;
    };
    if (!detail::version_fits()) return detail::fail<model>(detail::version_error());
    const std::uint64_t length = source.length();
    auto guard = std::make_shared<detail::barrier>();
    auto *kept = new kept_source{std::move(source), guard};
    tern_reader r;
    tern_reader_init(&r, sizeof r);
    r.user_data = kept;
    r.length = length;
    r.read_at = [](void *user_data, std::uint64_t offset, void *dst, std::size_t n) -> std::int32_t {
      auto *k = static_cast<kept_source *>(user_data);
      return k->guard->run([&] { return k->source.read_at(offset, dst, n); });
    };
    r.close = [](void *user_data) { delete static_cast<kept_source *>(user_data); };
    return load(o, report, [&](const tern_model_params *p, tern_model **m, tern_error **e) {
      return tern_model_load_from_reader(&r, p, m, e);
    }, guard.get());
  }

  // The same model, one reference more.
  model share() const noexcept { return model(detail::owned<tern_model>(tern_model_retain(handle_.get()))); }

  // Writes the packed form: a file that maps in milliseconds and opens on every CPU. Written beside dst and renamed.
  answer<void> convert(const char *dst_path_utf8, const tern::cancel *cancel = nullptr, progress report = {}) const {
    detail::barrier guard;
    reporter r{report, &guard};
    tern_convert_params p;
    tern_convert_params_init(&p, sizeof p);
    p.cancel = detail::native(cancel);
    if (report) {
      p.progress = &reporter::call;
      p.progress_user_data = &r;
    }
    detail::error_slot slot;
    const tern_status s = tern_model_convert(handle_.get(), dst_path_utf8, &p, slot.out());
    guard.rethrow();
    return detail::settle(s, slot, [] {});
  }

  answer<tern_model_info> info() const {
    tern_model_info i;
    tern_model_info_init(&i, sizeof i);
    const tern_status s = tern_model_get_info(handle_.get(), &i);
    return detail::settle(s, [&] { return i; });
  }
  answer<std::size_t> meta_count() const {
    std::size_t n = 0;
    const tern_status s = tern_model_meta_count(handle_.get(), &n);
    return detail::settle(s, [&] { return n; });
  }
  // The key of an entry of the file's metadata; lives as long as the model. status::not_found from the count on.
  answer<std::string_view> meta_key(std::size_t i) const {
    const char *key = nullptr;
    std::size_t key_len = 0, len = 0;
    const tern_status s = tern_model_meta_at(handle_.get(), i, &key, &key_len, nullptr, 0, &len);
    return detail::settle(s, [&] { return std::string_view(key, key_len); });
  }
  answer<std::string> meta(std::string_view key) const {
    return detail::fill<std::string>(64, [&](char *buf, std::size_t cap, std::size_t *len, tern_error **) {
      return tern_model_meta_get(handle_.get(), detail::text(key), key.size(), buf, cap, len);
    });
  }
  // The Jinja chat template as used, that is, with known defects corrected.
  answer<std::string> chat_template() const {
    return detail::fill<std::string>(1024, [&](char *buf, std::size_t cap, std::size_t *len, tern_error **) {
      return tern_model_chat_template(handle_.get(), buf, cap, len);
    });
  }

  // Text and tokens: see tokenizer.hpp.
  answer<std::vector<token>> tokenize(std::string_view text, std::uint32_t flags = 0) const;
  answer<std::string> detokenize(slice<const token> tokens, std::uint32_t flags = 0) const;
  answer<std::string> piece(token t, std::uint32_t flags = 0) const;
  answer<bool> is_eog(token t) const;
  answer<bool> is_control(token t) const;
  answer<std::string> apply_template(slice<const message> messages, const chat_options &o) const;
  answer<std::string> apply_template(slice<const message> messages) const;

  tern_model *native() const noexcept { return handle_.get(); }

 private:
  struct reporter {
    progress report;
    detail::barrier *guard;
    static std::int32_t call(void *user_data, float fraction) {
      auto *r = static_cast<reporter *>(user_data);
      return r->guard->run([&] { return r->report(fraction); });
    }
  };

  template <class Call>
  static answer<model> load(const model_options &o, progress report, Call call, detail::barrier *reader = nullptr) {
    detail::barrier guard;
    reporter r{report, &guard};
    tern_model_params p;
    tern_model_params_init(&p, sizeof p);
    p.flags = o.flags;
    p.kernels = detail::text_or_null(o.kernels);
    p.kernels_len = o.kernels.size();
    p.cancel = detail::native(o.cancel);
    if (report) {
      p.progress = &reporter::call;
      p.progress_user_data = &r;
    }
    if (!detail::version_fits()) return detail::fail<model>(detail::version_error());
    tern_model *raw = nullptr;
    detail::error_slot slot;
    const tern_status s = call(&p, &raw, slot.out());
    detail::owned<tern_model> handle(raw);
    guard.rethrow();
    if (reader != nullptr) reader->rethrow();
    return detail::settle(s, slot, [&] { return model(std::move(handle)); });
  }
  explicit model(detail::owned<tern_model> handle) noexcept : handle_(std::move(handle)) {}
  detail::owned<tern_model> handle_;
};

// A grammar compiled for one vocabulary: shared by any number of threads, samplers and sessions.
class grammar {
 public:
  static answer<grammar> json(const model &m) { return compile(m, TERN_GRAMMAR_JSON, {}); }
  static answer<grammar> json_schema(const model &m, std::string_view schema) {
    return compile(m, TERN_GRAMMAR_JSON_SCHEMA, schema);
  }
  static answer<grammar> regex(const model &m, std::string_view pattern) { return compile(m, TERN_GRAMMAR_REGEX, pattern); }
  static answer<grammar> gbnf(const model &m, std::string_view source) { return compile(m, TERN_GRAMMAR_GBNF, source); }
  static answer<grammar> lark(const model &m, std::string_view source) { return compile(m, TERN_GRAMMAR_LARK, source); }
  // `choices` is a JSON array of strings.
  static answer<grammar> choice(const model &m, std::string_view choices) { return compile(m, TERN_GRAMMAR_CHOICE, choices); }

  static answer<grammar> compile(const model &m, std::int32_t kind, std::string_view source) {
    tern_grammar *raw = nullptr;
    detail::error_slot slot;
    const tern_status s =
        tern_grammar_compile(m.native(), kind, detail::text(source), source.size(), &raw, slot.out());
    return detail::settle(s, slot, [&] { return grammar(detail::owned<tern_grammar>(raw)); });
  }
  grammar share() const noexcept { return grammar(detail::owned<tern_grammar>(tern_grammar_retain(handle_.get()))); }
  tern_grammar *native() const noexcept { return handle_.get(); }

 private:
  explicit grammar(detail::owned<tern_grammar> handle) noexcept : handle_(std::move(handle)) {}
  detail::owned<tern_grammar> handle_;
};

}}  // namespace tern

#endif
