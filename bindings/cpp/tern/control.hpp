/* What stands around the model: cancelling, threads, the log. */
#ifndef TERN_CONTROL_HPP
#define TERN_CONTROL_HPP

#include <tern/handle.hpp>

namespace tern { inline namespace TERN_HPP_KIND {

// A flag that stops calls: set from any thread, also from a signal handler. May be destroyed while a call polls it.
class cancel {
 public:
  static answer<cancel> create() {
    tern_cancel *raw = nullptr;
    const tern_status s = tern_cancel_new(&raw);
    return detail::settle(s, [&] { return cancel(detail::owned<tern_cancel>(raw)); });
  }
#ifndef TERN_NO_EXCEPTIONS
  cancel() : cancel(create()) {}
#endif
  void set() const noexcept { tern_cancel_set(handle_.get()); }
  void reset() const noexcept { tern_cancel_reset(handle_.get()); }
  tern_cancel *native() const noexcept { return handle_.get(); }

 private:
  explicit cancel(detail::owned<tern_cancel> handle) noexcept : handle_(std::move(handle)) {}
  detail::owned<tern_cancel> handle_;
};

namespace detail {
inline const tern_cancel *native(const cancel *c) noexcept { return c != nullptr ? c->native() : nullptr; }
}

// One loop of a host's job system: call it once with each i < n, in any order, on any threads. Copies are cheap.
class job {
 public:
  job(tern_job_fn run, void *arg) noexcept : run_(run), arg_(arg) {}
  void operator()(std::uint32_t i) const noexcept { run_(arg_, i); }

 private:
  tern_job_fn run_;
  void *arg_;
};

enum class qos : std::int32_t {
  standard = TERN_QOS_DEFAULT,
  background = TERN_QOS_BACKGROUND,
  utility = TERN_QOS_UTILITY,
  interactive = TERN_QOS_INTERACTIVE,
};

struct threadpool_options {
  std::uint32_t threads = 0;         // 0 = the performance cores
  tern::qos qos = tern::qos::standard;
  std::int32_t spin_us = 0;          // at a join, before parking; 0 = tern's choice, -1 = never
  slice<const std::uint32_t> cpus;   // worker i is pinned to cpus[i % size]; copied; empty = left to the system
};

// Threads, shared by any number of contexts. Those that tern started are joined with the last context on the pool.
class threadpool {
 public:
  static answer<threadpool> create(const threadpool_options &o = {}) {
    tern_threadpool_params p;
    tern_threadpool_params_init(&p, sizeof p);
    p.n_threads = o.threads;
    p.qos = static_cast<std::int32_t>(o.qos);
    p.spin_us = o.spin_us;
    p.cpus = o.cpus.data();
    p.n_cpus = o.cpus.size();
    return make(p);
  }

  // The host's own job system: tern starts no thread. `jobs.parallel_for(n, f)` runs f(i) once for each i < n, on any
  // threads, the caller's included, and returns after all; it is noexcept, because work that did not run cannot be
  // made up for. `jobs` must outlive the pool and what stands on it. `width` is the number of jobs to cut work into.
  template <class Jobs>
  static answer<threadpool> on(Jobs &jobs, std::uint32_t width) {
    static_assert(noexcept(jobs.parallel_for(std::uint32_t{}, std::declval<job>())),
        "parallel_for must be noexcept: a loop that stops half-way cannot be finished");
    tern_threadpool_params p;
    tern_threadpool_params_init(&p, sizeof p);
    p.n_threads = width;
    p.parallel_for = [](void *user_data, std::uint32_t n, tern_job_fn run, void *arg) noexcept {
      static_cast<Jobs *>(user_data)->parallel_for(n, job(run, arg));
    };
    p.parallel_for_user_data = std::addressof(jobs);
    return make(p);
  }
#ifndef TERN_NO_EXCEPTIONS
  explicit threadpool(const threadpool_options &o) : threadpool(create(o)) {}
#endif
  tern_threadpool *native() const noexcept { return handle_.get(); }

 private:
  static answer<threadpool> make(const tern_threadpool_params &p) {
    tern_threadpool *raw = nullptr;
    const tern_status s = tern_threadpool_new(&p, &raw);
    return detail::settle(s, [&] { return threadpool(detail::owned<tern_threadpool>(raw)); });
  }
  explicit threadpool(detail::owned<tern_threadpool> handle) noexcept : handle_(std::move(handle)) {}
  detail::owned<tern_threadpool> handle_;
};

enum class log_level : std::int32_t {
  debug = TERN_LOG_DEBUG,
  info = TERN_LOG_INFO,
  warn = TERN_LOG_WARN,
  error = TERN_LOG_ERROR,
};

// Sends the process's log to `f(log_level, std::string_view)` while it lives. The log is one for the whole process, so is
// this. f may run on any thread; what it throws ends there. The destructor waits for calls of f that are running.
template <class F>
class log_to {
 public:
  explicit log_to(F f, log_level least = log_level::info) : f_(std::move(f)) {
    tern_log_set(&call, this, static_cast<std::int32_t>(least));
  }
  log_to(const log_to &) = delete;
  log_to &operator=(const log_to &) = delete;
  ~log_to() { tern_log_set(nullptr, nullptr, 0); }

 private:
  static void call(void *user_data, std::int32_t level, const char *utf8, std::size_t len) noexcept {
    detail::barrier ends_here;
    ends_here.run([&] {
      static_cast<log_to *>(user_data)->f_(static_cast<log_level>(level), std::string_view(utf8, len));
      return true;
    });
  }
  F f_;
};

// CPU, kernel tables and build, as JSON.
inline answer<std::string> system_info() {
  return detail::fill<std::string>(1024, [](char *buf, std::size_t cap, std::size_t *len, tern_error **) {
    return tern_system_info(buf, cap, len);
  });
}

// Every kernel table this CPU can run against the plain one, in under 50 ms; the failure names the table that differs.
inline answer<void> self_test() {
  detail::error_slot slot;
  const tern_status s = tern_self_test(slot.out());
  return detail::settle(s, slot, [] {});
}

}}  // namespace tern

#endif
