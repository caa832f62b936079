/* The small types every other header stands on: owned handles, borrowed arrays, callables that are not kept. */
#ifndef TERN_HANDLE_HPP
#define TERN_HANDLE_HPP

#include <tern/error.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tern { inline namespace TERN_HPP_KIND {

using token = tern_token;
using seq = tern_seq;

// `size` values that somebody else owns. Made from anything with data() and size(); std::span can be made from it.
template <class T>
class slice {
 public:
  constexpr slice() noexcept = default;
  constexpr slice(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  template <std::size_t N>
  constexpr slice(T (&array)[N]) noexcept : data_(array), size_(N) {}
  template <class C, class = std::enable_if_t<
      !std::is_same_v<std::decay_t<C>, slice> && std::is_convertible_v<decltype(std::declval<C &>().data()), T *>>>
  constexpr slice(C &&container) noexcept : data_(container.data()), size_(container.size()) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T *begin() const noexcept { return data_; }
  constexpr T *end() const noexcept { return data_ + size_; }
  constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

// A callable for the length of one call: no copy, no allocation.
template <class Signature> class function_ref;
template <class R, class... A>
class function_ref<R(A...)> {
 public:
  constexpr function_ref() noexcept = default;
  constexpr function_ref(std::nullptr_t) noexcept {}
  template <class F, class = std::enable_if_t<
      !std::is_same_v<std::decay_t<F>, function_ref> && std::is_invocable_r_v<R, F &, A...>>>
  function_ref(F &&f) noexcept
      : object_(const_cast<void *>(static_cast<const void *>(std::addressof(f)))),
        call_([](void *object, A... args) -> R {
          return (*static_cast<std::remove_reference_t<F> *>(object))(std::forward<A>(args)...);
        }) {}

  explicit operator bool() const noexcept { return call_ != nullptr; }
  R operator()(A... args) const { return call_(object_, std::forward<A>(args)...); }

 private:
  void *object_ = nullptr;
  R (*call_)(void *, A...) = nullptr;
};

namespace detail {

struct deleter {
  void operator()(tern_cancel *p) const noexcept { tern_cancel_free(p); }
  void operator()(tern_threadpool *p) const noexcept { tern_threadpool_free(p); }
  void operator()(tern_model *p) const noexcept { tern_model_free(p); }
  void operator()(tern_context *p) const noexcept { tern_context_free(p); }
  void operator()(tern_sampler *p) const noexcept { tern_sampler_free(p); }
  void operator()(tern_grammar *p) const noexcept { tern_grammar_free(p); }
  void operator()(tern_detok *p) const noexcept { tern_detok_free(p); }
  void operator()(tern_session *p) const noexcept { tern_session_free(p); }
};
template <class T> using owned = std::unique_ptr<T, deleter>;

// The pointer of a text: an empty view may hold NULL, which C reads as "none given".
inline const char *text(std::string_view s) noexcept { return s.data() != nullptr ? s.data() : ""; }
// The pointer of an optional text: NULL for an empty one.
inline const char *text_or_null(std::string_view s) noexcept { return s.empty() ? nullptr : s.data(); }

// Runs a C++ callback inside a C one. What it throws is kept until the C call is over, and the C call told to stop.
class barrier {
 public:
  template <class F>
  std::int32_t run(F &&f) noexcept {
#ifdef TERN_NO_EXCEPTIONS
    return f() ? 1 : 0;
#else
    try {
      return f() ? 1 : 0;
    } catch (...) {
      thrown_ = std::current_exception();
      return 0;
    }
#endif
  }
  void rethrow() {
#ifndef TERN_NO_EXCEPTIONS
    if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
#endif
  }

 private:
#ifndef TERN_NO_EXCEPTIONS
  std::exception_ptr thrown_;
#endif
};

// Fills a string or vector by a C call that answers BUFFER_TOO_SMALL with the size it needs. `guess` saves the second call.
template <class C, class Call>
answer<C> fill(std::size_t guess, Call call) {
  C out;
  for (;;) {
    out.resize(guess);
    std::size_t needed = 0;
    error_slot slot;
    const tern_status s = call(out.data(), out.size(), &needed, slot.out());
    if (s == TERN_ERR_BUFFER_TOO_SMALL && needed > guess) {
      guess = needed;
      continue;
    }
    if (s == TERN_OK && needed <= guess) {
      out.resize(needed);
      return out;
    }
    // With a guess of 0 the call was a size query, which is OK.
    if (s == TERN_OK) {
      guess = needed;
      continue;
    }
    return fail<C>(slot.take(s));
  }
}

// Pointers and lengths of texts as C takes them; the first eight need no allocation.
class text_list {
 public:
  template <class Texts>
  explicit text_list(const Texts &texts) : size_(texts.size()) {
    const char **at = few_;
    std::size_t *len = few_lens_;
    if (size_ > 8) {
      many_.resize(size_);
      many_lens_.resize(size_);
      at = many_.data();
      len = many_lens_.data();
    }
    pointers_ = at;
    lens_ = len;
    for (std::string_view s : texts) {
      *at++ = text(s);
      *len++ = s.size();
    }
  }
  text_list(const text_list &) = delete;
  text_list &operator=(const text_list &) = delete;
  const char *const *pointers() const noexcept { return size_ != 0 ? pointers_ : nullptr; }
  const std::size_t *lens() const noexcept { return size_ != 0 ? lens_ : nullptr; }
  std::size_t size() const noexcept { return size_; }

 private:
  std::size_t size_;
  const char *const *pointers_;
  const std::size_t *lens_;
  const char *few_[8] = {};
  std::size_t few_lens_[8] = {};
  std::vector<const char *> many_;
  std::vector<std::size_t> many_lens_;
};

}  // namespace detail
}}  // namespace tern

#endif
