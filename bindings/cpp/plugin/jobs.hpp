/* The game's own job system: a few workers that take numbers until there are none. */
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

class job_system {
 public:
  using job = void (*)(void *arg, std::uint32_t i);

  explicit job_system(unsigned workers);
  ~job_system();

  // Runs run(arg, i) once for each i < n, on the workers and the caller.
  void parallel_for(std::uint32_t n, job run, void *arg);

 private:
  void work();
  // Takes numbers until none is left; the lock is held at both ends.
  void drain(std::unique_lock<std::mutex> &lock);

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  job run_ = nullptr;
  void *arg_ = nullptr;
  std::uint32_t next_ = 0, count_ = 0, running_ = 0;
  bool quit_ = false;
  std::vector<std::thread> threads_;
};
