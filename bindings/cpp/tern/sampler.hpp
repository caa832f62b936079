/* Choosing a token: a seeded chain of steps. */
#ifndef TERN_SAMPLER_HPP
#define TERN_SAMPLER_HPP

#include <tern/context.hpp>

#include <limits>
#include <mutex>
#include <thread>

namespace tern { inline namespace TERN_HPP_KIND {

using logit_bias = tern_logit_bias;

namespace detail {

// What custom steps threw, by the thread they ran on: clones of one sampler may run on several.
class thrown_by_thread {
 public:
#ifndef TERN_NO_EXCEPTIONS
  void keep(std::exception_ptr thrown) {
    const std::lock_guard<std::mutex> lock(mutex_);
    thrown_.emplace_back(std::this_thread::get_id(), std::move(thrown));
  }
#endif
  // Throws what a step on this thread has thrown, once.
  void rethrow() {
#ifndef TERN_NO_EXCEPTIONS
    std::exception_ptr found;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (std::size_t i = 0; i < thrown_.size();) {
        if (thrown_[i].first != std::this_thread::get_id()) {
          ++i;
          continue;
        }
        if (!found) found = std::move(thrown_[i].second);
        thrown_.erase(thrown_.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    if (found) std::rethrow_exception(found);
#endif
  }

 private:
#ifndef TERN_NO_EXCEPTIONS
  std::mutex mutex_;
  std::vector<std::pair<std::thread::id, std::exception_ptr>> thrown_;
#endif
};

using thrown_box = std::shared_ptr<thrown_by_thread>;  // NULL until a custom step is added

inline void rethrow(const thrown_box &box) {
  if (box) box->rethrow();
}

}  // namespace detail

// An empty chain takes the likeliest token. Steps run in the order of the calls that added them, save bias and grammar, which
// run first. A temperature of 0 takes the likeliest too. With exceptions, adds return the sampler, so that they can be chained.
class sampler {
 public:
  static answer<sampler> create(std::uint64_t seed = 0) {
    tern_sampler *raw = nullptr;
    const tern_status s = tern_sampler_new(seed, &raw);
    return detail::settle(s, [&] { return sampler(detail::owned<tern_sampler>(raw), nullptr); });
  }
#ifdef TERN_NO_EXCEPTIONS
  using chained = result<void>;
#else
  using chained = sampler &;
  explicit sampler(std::uint64_t seed) : sampler(create(seed)) {}
#endif
  // The same chain with its random state and history: it goes on exactly as this one would.
  answer<sampler> clone() const {
    tern_sampler *raw = nullptr;
    const tern_status s = tern_sampler_clone(handle_.get(), &raw);
    return detail::settle(s, [&] { return sampler(detail::owned<tern_sampler>(raw), thrown_); });
  }

  chained bias(slice<const logit_bias> b) {
    return add(tern_sampler_add_logit_bias(handle_.get(), b.data(), sizeof(logit_bias), b.size()));
  }
  chained penalties(std::int32_t last_n, float repeat, float frequency = 0, float presence = 0) {
    return add(tern_sampler_add_penalties(handle_.get(), last_n, repeat, frequency, presence));
  }
  chained dry(float multiplier, float base, std::int32_t allowed_length, std::int32_t last_n) {
    return add(tern_sampler_add_dry(handle_.get(), multiplier, base, allowed_length, last_n));
  }
  chained top_k(std::int32_t k) { return add(tern_sampler_add_top_k(handle_.get(), k)); }
  chained top_p(float p, std::size_t min_keep = 1) { return add(tern_sampler_add_top_p(handle_.get(), p, min_keep)); }
  chained min_p(float p, std::size_t min_keep = 1) { return add(tern_sampler_add_min_p(handle_.get(), p, min_keep)); }
  chained typical(float p, std::size_t min_keep = 1) { return add(tern_sampler_add_typical(handle_.get(), p, min_keep)); }
  chained top_n_sigma(float n) { return add(tern_sampler_add_top_n_sigma(handle_.get(), n)); }
  chained xtc(float probability, float threshold, std::size_t min_keep = 1) {
    return add(tern_sampler_add_xtc(handle_.get(), probability, threshold, min_keep));
  }
  chained temp(float t) { return add(tern_sampler_add_temp(handle_.get(), t)); }
  chained temp_dynamic(float t, float range, float exponent) {
    return add(tern_sampler_add_temp_dynamic(handle_.get(), t, range, exponent));
  }
  chained mirostat_v2(float tau, float eta) { return add(tern_sampler_add_mirostat_v2(handle_.get(), tau, eta)); }
  chained grammar(const tern::grammar &g) { return add(tern_sampler_add_grammar(handle_.get(), g.native())); }

  // A step of one's own, `apply(slice<float> logits)`, kept with this sampler and its clones, which share it. What it throws
  // stops the sampling call it ran in and comes out of that.
  template <class Apply>
  chained custom(Apply apply) {
    struct kept_step {
      Apply apply;
      detail::thrown_box thrown;
    };
    if (!thrown_) thrown_ = std::make_shared<detail::thrown_by_thread>();
    const tern_logits_fn run = [](void *user_data, float *logits, std::size_t n) {
      auto *kept = static_cast<kept_step *>(user_data);
#ifdef TERN_NO_EXCEPTIONS
      kept->apply(slice<float>(logits, n));
#else
      try {
        kept->apply(slice<float>(logits, n));
      } catch (...) {
        kept->thrown->keep(std::current_exception());
        // Nothing left to choose: tern ends the call.
        for (std::size_t i = 0; i < n; ++i) logits[i] = -std::numeric_limits<float>::infinity();
      }
#endif
    };
    const tern_release_fn release = [](void *user_data) { delete static_cast<kept_step *>(user_data); };
    return add(tern_sampler_add_custom(handle_.get(), run, release, new kept_step{std::move(apply), thrown_}));
  }

  // Picks from row i of the context's last eval, and accepts.
  answer<token> sample(context_ref c, std::size_t i = 0) {
    token t = -1;
    const tern_status s = tern_sampler_sample(handle_.get(), c.native(), i, &t);
    detail::rethrow(thrown_);
    return detail::settle(s, [&] { return t; });
  }
  // The same from a row of one's own.
  answer<token> sample(slice<const float> logits) {
    token t = -1;
    const tern_status s = tern_sampler_sample_logits(handle_.get(), logits.data(), logits.size(), &t);
    detail::rethrow(thrown_);
    return detail::settle(s, [&] { return t; });
  }
  // A token that was chosen elsewhere.
  answer<void> accept(token t) { return detail::settle(tern_sampler_accept(handle_.get(), t)); }
  // History, grammar and seed as new.
  answer<void> reset() { return detail::settle(tern_sampler_reset(handle_.get())); }

  tern_sampler *native() const noexcept { return handle_.get(); }
  const detail::thrown_box &thrown() const noexcept { return thrown_; }

 private:
  sampler(detail::owned<tern_sampler> handle, detail::thrown_box thrown) noexcept
      : handle_(std::move(handle)), thrown_(std::move(thrown)) {}
  chained add(tern_status s) {
#ifdef TERN_NO_EXCEPTIONS
    return detail::settle(s);
#else
    detail::settle(s);
    return *this;
#endif
  }
  detail::owned<tern_sampler> handle_;
  detail::thrown_box thrown_;
};

}}  // namespace tern

#endif
