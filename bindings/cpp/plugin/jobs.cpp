#include "jobs.hpp"

job_system::job_system(unsigned workers) {
  for (unsigned i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
}

job_system::~job_system() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    quit_ = true;
  }
  begin_.notify_all();
  for (std::thread &t : threads_) t.join();
}

void job_system::parallel_for(std::uint32_t n, job run, void *arg) {
  std::unique_lock<std::mutex> lock(mutex_);
  run_ = run;
  arg_ = arg;
  next_ = 0;
  count_ = n;
  begin_.notify_all();
  drain(lock);
  end_.wait(lock, [this] { return running_ == 0; });
}

void job_system::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    begin_.wait(lock, [this] { return quit_ || next_ < count_; });
    if (quit_) return;
    drain(lock);
    if (running_ == 0) end_.notify_one();
  }
}

void job_system::drain(std::unique_lock<std::mutex> &lock) {
  while (next_ < count_) {
    const std::uint32_t i = next_++;
    ++running_;
    lock.unlock();
    run_(arg_, i);
    lock.lock();
    --running_;
  }
}
