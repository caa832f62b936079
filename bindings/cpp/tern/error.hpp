/* What can go wrong, and how a call says so. */
#ifndef TERN_ERROR_HPP
#define TERN_ERROR_HPP

#include <tern.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <variant>

#if !defined(TERN_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#  define TERN_NO_EXCEPTIONS 1
#endif

// The two kinds of error handling are two inline namespaces, so that files compiled either way link into one program.
#ifdef TERN_NO_EXCEPTIONS
#  define TERN_HPP_KIND values
#else
#  define TERN_HPP_KIND throwing
#endif

namespace tern { inline namespace TERN_HPP_KIND {

// The answer of a C call; the names are those of <tern.h>.
enum class status : std::int32_t {
  ok = TERN_OK,
  done = TERN_DONE,
  pending = TERN_PENDING,
  invalid_argument = TERN_ERR_INVALID_ARGUMENT,
  out_of_memory = TERN_ERR_OUT_OF_MEMORY,
  io = TERN_ERR_IO,
  bad_model = TERN_ERR_BAD_MODEL,
  unsupported_model = TERN_ERR_UNSUPPORTED_MODEL,
  unsupported = TERN_ERR_UNSUPPORTED,
  buffer_too_small = TERN_ERR_BUFFER_TOO_SMALL,
  context_full = TERN_ERR_CONTEXT_FULL,
  cancelled = TERN_ERR_CANCELLED,
  busy = TERN_ERR_BUSY,
  grammar = TERN_ERR_GRAMMAR,
  state_mismatch = TERN_ERR_STATE_MISMATCH,
  panic = TERN_ERR_PANIC,
  poisoned = TERN_ERR_POISONED,
  invalid_state = TERN_ERR_INVALID_STATE,
  not_found = TERN_ERR_NOT_FOUND,
};

// What a status means, in a few words. No default: the compiler points at a status that is not covered.
constexpr const char *describe(status s) noexcept {
  switch (s) {
    case status::ok: return "no error";
    case status::done: return "the generation has ended";
    case status::pending: return "the time budget is spent";
    case status::invalid_argument: return "an argument is outside the contract of the call, or its object is empty";
    case status::out_of_memory: return "no memory";
    case status::io: return "the system, or the host's reader, refused";
    case status::bad_model: return "the model is truncated or corrupt";
    case status::unsupported_model: return "a well-formed model of a kind tern does not run";
    case status::unsupported: return "this build, system or version lacks the option";
    case status::buffer_too_small: return "the buffer is too small";
    case status::context_full: return "the context is full";
    case status::cancelled: return "cancelled";
    case status::busy: return "the object is in use on another thread, or re-entered from its callback";
    case status::grammar: return "the grammar does not compile, or leaves no token";
    case status::state_mismatch: return "a saved state of another model, version or shape";
    case status::panic: return "a bug in tern; the object can only be destroyed";
    case status::poisoned: return "unusable after a panic; the object can only be destroyed";
    case status::invalid_state: return "the right call at the wrong moment";
    case status::not_found: return "no such key or index";
  }
  return "a status this header does not know";
}

// One failure: a status and a text. Copies share the text.
class error : public std::exception {
 public:
  explicit error(status code) noexcept : code_(code), text_(describe(code)) {}
  // Takes the error object of a C call; NULL leaves the description of the status.
  error(status code, tern_error *taken) : error(code) {
    if (taken == nullptr) return;
    owner_ = std::shared_ptr<void>(taken, [](void *e) { tern_error_free(static_cast<tern_error *>(e)); });
    text_ = tern_error_message(taken);
  }
  error(status code, std::string text) : error(code) {
    auto kept = std::make_shared<std::string>(std::move(text));
    text_ = kept->c_str();
    owner_ = std::move(kept);
  }
  status code() const noexcept { return code_; }
  const char *what() const noexcept override { return text_; }

 private:
  status code_;
  std::shared_ptr<void> owner_;
  const char *text_;
};

// A value or an error, for programs without exceptions. Asking an error for its value ends the program, as ignoring an
// exception would: test first.
template <class T>
class [[nodiscard]] result {
 public:
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(tern::error failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  T &value() & noexcept { return *held(); }
  T &&value() && noexcept { return std::move(*held()); }
  const T &value() const & noexcept { return *const_cast<result *>(this)->held(); }
  T &operator*() & noexcept { return value(); }
  T &&operator*() && noexcept { return std::move(*this).value(); }
  T *operator->() noexcept { return held(); }
  // NULL when there is a value.
  const tern::error *failure() const noexcept { return std::get_if<1>(&state_); }
  status code() const noexcept { return has_value() ? status::ok : failure()->code(); }

 private:
  T *held() noexcept {
    T *value = std::get_if<0>(&state_);
    if (value == nullptr) std::terminate();
    return value;
  }
  std::variant<T, tern::error> state_;
};

template <>
class [[nodiscard]] result<void> {
 public:
  result() noexcept : failure_(status::ok) {}
  result(tern::error failure) noexcept : failure_(std::move(failure)) {}

  bool has_value() const noexcept { return failure_.code() == status::ok; }
  explicit operator bool() const noexcept { return has_value(); }
  const tern::error *failure() const noexcept { return has_value() ? nullptr : &failure_; }
  status code() const noexcept { return failure_.code(); }

 private:
  tern::error failure_;
};

#ifdef TERN_NO_EXCEPTIONS
template <class T> using answer = result<T>;
#else
template <class T> using answer = T;
#endif

namespace detail {

// Receives the error object of a C call and frees what nobody took.
class error_slot {
 public:
  error_slot() = default;
  error_slot(const error_slot &) = delete;
  error_slot &operator=(const error_slot &) = delete;
  ~error_slot() { tern_error_free(object_); }
  tern_error **out() noexcept { return &object_; }
  error take(tern_status s) { return error(static_cast<status>(s), std::exchange(object_, nullptr)); }

 private:
  tern_error *object_ = nullptr;
};

template <class T>
answer<T> fail(error e) {
#ifdef TERN_NO_EXCEPTIONS
  return answer<T>(std::move(e));
#else
  throw e;
#endif
}

// The end of a call: the failure that `s` says, or what `make` returns.
template <class Make>
auto settle(tern_status s, error_slot &slot, Make make) -> answer<decltype(make())> {
  using value = decltype(make());
  if (s < 0) return fail<value>(slot.take(s));
  if constexpr (std::is_void_v<value>) {
    make();
    return answer<void>();
  } else {
    return make();
  }
}

template <class Make>
auto settle(tern_status s, Make make) -> answer<decltype(make())> {
  error_slot none;
  return settle(s, none, std::move(make));
}

inline answer<void> settle(tern_status s) {
  return settle(s, [] {});
}

}  // namespace detail

namespace detail {

// The same minor while the major is 0, the same major after that.
inline bool version_fits() noexcept {
  constexpr std::uint32_t wanted = TERN_VERSION_NUMBER / 1000;
  const std::uint32_t found = tern_version_number() / 1000;
  return TERN_VERSION_MAJOR == 0 ? found == wanted : found / 1000 == wanted / 1000 && found >= wanted;
}

inline error version_error() {
  return error(status::unsupported,
      "tern.hpp of " + std::to_string(TERN_VERSION_MAJOR) + "." + std::to_string(TERN_VERSION_MINOR) + " over libtern " +
          tern_version_string() + ": install the library and the headers of one release");
}

}  // namespace detail

// Whether the library that is loaded keeps what this header was written for. Every way to a model asks first.
inline answer<void> check_version() {
  if (!detail::version_fits()) return detail::fail<void>(detail::version_error());
  return answer<void>();
}

}}  // namespace tern

#endif
