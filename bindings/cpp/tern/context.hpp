/* The low level: sequences of tokens, their keys and values, logits. */
#ifndef TERN_CONTEXT_HPP
#define TERN_CONTEXT_HPP

#include <tern/tokenizer.hpp>

namespace tern { inline namespace TERN_HPP_KIND {

enum class kv : std::int32_t { f16 = TERN_KV_F16, i8 = TERN_KV_I8 };
enum class pooling : std::int32_t { last = TERN_POOL_LAST, mean = TERN_POOL_MEAN };

struct context_options {
  std::uint32_t n_ctx = 0;           // tokens per sequence; 0 = what the model was trained with
  std::uint32_t n_seq_max = 0;       // 0 = 1
  std::uint32_t n_batch = 0;         // prefill slice in tokens, bounds scratch memory; 0 = tern's choice
  tern::kv kv = tern::kv::f16;
  tern::pooling pooling = tern::pooling::last;
  std::uint32_t flags = 0;           // TERN_CTX_*
  std::uint64_t kv_bytes_max = 0;    // cap on the pages held by all sequences; 0 = none
  const tern::threadpool *threadpool = nullptr;  // retained; NULL = a pool owned by the model

  tern_context_params native() const noexcept {
    tern_context_params p;
    tern_context_params_init(&p, sizeof p);
    p.n_ctx = n_ctx;
    p.n_seq_max = n_seq_max;
    p.n_batch = n_batch;
    p.kv_type = static_cast<std::int32_t>(kv);
    p.pooling = static_cast<std::int32_t>(pooling);
    p.flags = flags;
    p.kv_bytes_max = kv_bytes_max;
    p.threadpool = threadpool != nullptr ? threadpool->native() : nullptr;
    return p;
  }
};

struct eval_options {
  tern::seq seq = 0;
  std::uint32_t flags = 0;           // TERN_EVAL_*; 0: logits of the last token
  std::uint64_t budget_us = 0;       // 0 = none; else the call may return status::pending
  const tern::cancel *cancel = nullptr;

  tern_eval_options native() const noexcept {
    tern_eval_options o;
    tern_eval_options_init(&o, sizeof o);
    o.seq = seq;
    o.flags = flags;
    o.budget_us = budget_us;
    o.cancel = detail::native(cancel);
    return o;
  }
};

using batch_item = tern_batch_item;

// What is likeliest, and how likely each of the choices is; the probabilities sum to 1.
struct choice {
  std::size_t index;
  std::vector<float> probabilities;
};

// What load and a context will take with every sequence full. Reads the header of the file only.
inline answer<tern_memory_plan> memory_plan(const char *path_utf8, const context_options &c = {}, std::uint32_t model_flags = 0) {
  tern_model_params mp;
  tern_model_params_init(&mp, sizeof mp);
  mp.flags = model_flags;
  const tern_context_params cp = c.native();
  tern_memory_plan plan;
  tern_memory_plan_init(&plan, sizeof plan);
  detail::error_slot slot;
  const tern_status s = tern_memory_plan_for_file(path_utf8, &mp, &cp, &plan, slot.out());
  return detail::settle(s, slot, [&] { return plan; });
}

// A context that somebody else owns, such as a session's. Cheap to copy; not valid longer than its owner.
class context_ref {
 public:
  explicit context_ref(tern_context *c = nullptr) noexcept : context_(c) {}

  // Appends tokens. Returns ok, or pending when the budget is spent: call again with the tokens from *done on. On
  // status::cancelled too, *done tokens have been appended; on other failures none.
  answer<status> eval(slice<const token> tokens, const eval_options &o = {}, std::size_t *done = nullptr) {
    const tern_eval_options options = o.native();
    std::size_t appended = 0;
    const tern_status s = tern_eval(context_, tokens.data(), tokens.size(), &options, &appended);
    if (done != nullptr) *done = appended;
    return detail::settle(s, [&] { return static_cast<status>(s); });
  }
  // Many sequences in one pass over the weights; o.seq and o.flags must be 0.
  answer<status> eval_batch(slice<const batch_item> items, const eval_options &o = {}, std::size_t *done = nullptr) {
    const tern_eval_options options = o.native();
    std::size_t appended = 0;
    const tern_status s =
        tern_eval_batch(context_, items.data(), sizeof(batch_item), items.size(), &options, &appended);
    if (done != nullptr) *done = appended;
    return detail::settle(s, [&] { return static_cast<status>(s); });
  }

  // Row i of the last eval, one value per token of the vocabulary; borrowed until the next logits or eval.
  answer<slice<const float>> logits(std::size_t i = 0) {
    const float *values = nullptr;
    std::size_t n = 0;
    const tern_status s = tern_logits(context_, i, &values, &n);
    return detail::settle(s, [&] { return slice<const float>(values, n); });
  }
  // The likeliest tokens of row i with their log-probabilities, best first, into the caller's arrays of one size; how many.
  answer<std::size_t> logprobs_top(std::size_t i, slice<token> tokens, slice<float> logprobs) {
    std::size_t n = 0;
    const std::size_t k = tokens.size() < logprobs.size() ? tokens.size() : logprobs.size();
    const tern_status s = tern_logprobs_top(context_, i, k, tokens.data(), logprobs.data(), &n);
    return detail::settle(s, [&] { return n; });
  }
  // The sequence pooled to n_embd values of norm 1; borrowed until the next embedding or eval. Wants TERN_CTX_EMBEDDINGS.
  answer<slice<const float>> embedding(tern::seq s = 0) {
    const float *values = nullptr;
    std::size_t n = 0;
    const tern_status st = tern_embedding(context_, s, &values, &n);
    return detail::settle(st, [&] { return slice<const float>(values, n); });
  }
  // Log-probabilities of the tokens as the continuation of o.seq, which stays as it was; one less if it is empty.
  answer<std::vector<float>> score(slice<const token> tokens, const eval_options &o = {}) {
    const tern_eval_options options = o.native();
    return detail::fill<std::vector<float>>(tokens.size(), [&](float *buf, std::size_t cap, std::size_t *n, tern_error **) {
      return tern_score(context_, tokens.data(), tokens.size(), &options, buf, cap, n);
    });
  }
  // Which of the texts continues o.seq, which stays as it was.
  template <class Texts>
  answer<choice> choose(const Texts &texts, const eval_options &o = {}) {
    const tern_eval_options options = o.native();
    const detail::text_list list(texts);
    choice c{0, std::vector<float>(list.size())};
    const tern_status s = tern_choose(
        context_, list.pointers(), list.lens(), list.size(), &options, &c.index, c.probabilities.data());
    return detail::settle(s, [&] { return std::move(c); });
  }
  answer<choice> choose(std::initializer_list<std::string_view> texts, const eval_options &o = {}) {
    return choose<std::initializer_list<std::string_view>>(texts, o);
  }

  answer<std::uint32_t> length(tern::seq s = 0) const {
    std::uint32_t n = 0;
    const tern_status st = tern_seq_length(context_, s, &n);
    return detail::settle(st, [&] { return n; });
  }
  answer<void> truncate(tern::seq s, std::uint32_t length) { return detail::settle(tern_seq_truncate(context_, s, length)); }
  // dst becomes a copy of src at no cost; dst must be empty.
  answer<void> fork(tern::seq src, tern::seq dst) { return detail::settle(tern_seq_fork(context_, src, dst)); }
  answer<void> shift(tern::seq s, std::uint32_t n_keep, std::uint32_t n_discard) {
    return detail::settle(tern_seq_shift(context_, s, n_keep, n_discard));
  }
  answer<void> clear(tern::seq s = 0) { return detail::settle(tern_seq_clear(context_, s)); }
  answer<std::size_t> common_prefix(tern::seq s, slice<const token> tokens) const {
    std::size_t n = 0;
    const tern_status st = tern_seq_common_prefix(context_, s, tokens.data(), tokens.size(), &n);
    return detail::settle(st, [&] { return n; });
  }

  // A sequence as bytes: tokens, keys and values, and whose they are.
  answer<std::vector<std::uint8_t>> save(tern::seq s = 0) const {
    return detail::fill<std::vector<std::uint8_t>>(0, [&](std::uint8_t *buf, std::size_t cap, std::size_t *len, tern_error **) {
      return tern_seq_state_save(context_, s, cap != 0 ? buf : nullptr, cap, len);
    });
  }
  // Replaces s; status::state_mismatch leaves it.
  answer<void> load(tern::seq s, slice<const std::uint8_t> state) {
    return detail::settle(tern_seq_state_load(context_, s, state.data(), state.size()));
  }
  // Prompt files: one prefill for any number of processes.
  answer<void> save_prefix(tern::seq s, const char *path_utf8) const {
    detail::error_slot slot;
    const tern_status st = tern_seq_prefix_save(context_, s, path_utf8, slot.out());
    return detail::settle(st, slot, [] {});
  }
  answer<void> map_prefix(tern::seq s, const char *path_utf8) {
    detail::error_slot slot;
    const tern_status st = tern_seq_prefix_map(context_, s, path_utf8, slot.out());
    return detail::settle(st, slot, [] {});
  }

  // Gives memory back under pressure: TERN_TRIM_SCRATCH or TERN_TRIM_KV. The bytes freed.
  answer<std::uint64_t> trim(std::int32_t level) {
    std::uint64_t freed = 0;
    const tern_status s = tern_context_trim(context_, level, &freed);
    return detail::settle(s, [&] { return freed; });
  }
  answer<tern_perf> perf() const {
    tern_perf p;
    tern_perf_init(&p, sizeof p);
    const tern_status s = tern_context_perf(context_, &p);
    return detail::settle(s, [&] { return p; });
  }
  answer<void> reset_perf() { return detail::settle(tern_context_perf_reset(context_)); }

  tern_context *native() const noexcept { return context_; }

 protected:
  tern_context *context_;
};

// A context of one's own: keys, values and scratch memory of some sequences. Holds a reference to the model.
class context : public context_ref {
 public:
  static answer<context> create(const model &m, const context_options &o = {}) {
    const tern_context_params p = o.native();
    tern_context *raw = nullptr;
    detail::error_slot slot;
    const tern_status s = tern_context_new(m.native(), &p, &raw, slot.out());
    return detail::settle(s, slot, [&] { return context(raw); });
  }
#ifndef TERN_NO_EXCEPTIONS
  explicit context(const model &m, const context_options &o = {}) : context(create(m, o)) {}
#endif
  context(context &&other) noexcept : context_ref(std::exchange(other.context_, nullptr)) {}
  context &operator=(context &&other) noexcept {
    tern_context_free(std::exchange(context_, std::exchange(other.context_, nullptr)));
    return *this;
  }
  ~context() { tern_context_free(context_); }

 private:
  explicit context(tern_context *raw) noexcept : context_ref(raw) {}
};

}}  // namespace tern

#endif
