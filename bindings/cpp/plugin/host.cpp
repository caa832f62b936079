/* The game: npc_host PLUGIN MODEL [rounds]. Loads and unloads the plugin, counts what is left, then plays at 60 frames a second. */
#include "jobs.hpp"
#include "npc.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace {

using std::chrono::microseconds;
using clock_type = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string &why) { throw std::runtime_error(why); }

// The plugin for the length of a scope.
class loaded {
 public:
  explicit loaded(const char *path) : image_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (image_ == nullptr) fail(dlerror());
    const auto entry = reinterpret_cast<const npc_plugin *(*)(void)>(dlsym(image_, "npc_entry"));
    if (entry == nullptr) fail("the plugin has no npc_entry");
    plugin_ = entry();
    if (plugin_->size != sizeof(npc_plugin)) fail("the plugin is of another version");
  }
  loaded(const loaded &) = delete;
  loaded &operator=(const loaded &) = delete;
  ~loaded() { dlclose(image_); }
  const npc_plugin *operator->() const { return plugin_; }

 private:
  void *image_;
  const npc_plugin *plugin_;
};

npc *open(const loaded &plugin, const npc_jobs &jobs, const char *model) {
  char error[512] = "";
  npc *n = plugin->open(&jobs, model, "You are a friendly innkeeper.", error, sizeof error);
  if (n == nullptr) fail(error);
  return n;
}

long threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<long>(std::distance(begin(tasks), end(tasks)));
}

long resident_kib() {
  std::ifstream in("/proc/self/statm");
  long total = 0, resident = 0;
  in >> total >> resident;
  return resident * 4;
}

// How many of the file's mappings this process has.
int mappings(const std::string &name) {
  std::ifstream in("/proc/self/maps");
  int n = 0;
  for (std::string line; std::getline(in, line);) n += line.find(name) != std::string::npos ? 1 : 0;
  return n;
}

// One visit: a question, some frames, and away, in the midst of the answer or after it.
void visit(const char *path, const char *model, const npc_jobs &jobs, int frames) {
  const loaded plugin(path);
  npc *n = open(plugin, jobs, model);
  if (plugin->say(n, "Hello!") == NPC_FAILED) fail(plugin->why(n));
  char text[256];
  for (int i = 0; i < frames; ++i) {
    if (plugin->frame(n, 2000, text, sizeof text) == NPC_FAILED) fail(plugin->why(n));
  }
  plugin->close(n);
}

void nothing_is_left(const char *path, const char *model, const npc_jobs &jobs, int rounds) {
  const long threads_before = threads();
  for (int i = 0; i < std::max(rounds / 5, 5); ++i) visit(path, model, jobs, 3);
  const long before = resident_kib();
  const int image = mappings("libtern") + mappings("npc.so");
  for (int i = 0; i < rounds; ++i) visit(path, model, jobs, 3);
  const long grown = resident_kib() - before;
  std::printf("%d rounds of load and unload: %+ld KiB of %ld, %ld threads before and %ld after\n", rounds, grown, before,
      threads_before, threads());
  if (threads() != threads_before) fail("the plugin left a thread");
  if (mappings(model) != 0) fail("the model is still mapped");
  if (image == 0) fail("the image of tern is unmapped, though Rust code must stay");
  if (mappings("libtern") + mappings("npc.so") != image) fail("the mappings of the image grow");
#if !defined(__SANITIZE_ADDRESS__)
  // The address sanitizer keeps freed memory in quarantine; there its leak checker answers.
  if (grown > 1024) fail("memory grows with the rounds");
#endif
}

void play(const char *path, const char *model, const npc_jobs &jobs) {
  constexpr microseconds frame_time(16667), budget(4000);
  const loaded plugin(path);
  npc *n = open(plugin, jobs, model);
  microseconds worst(0), sum(0);
  int frames = 0, speaking_frames = 0;
  std::string said;
  for (const char *line : {"Hi! How are you?", "Tell me a story about a dog."}) {
    if (plugin->say(n, line) == NPC_FAILED) fail(plugin->why(n));
    std::printf("player: %s\ninnkeeper: ", line);
    std::int32_t state = NPC_SPEAKING;
    for (auto next = clock_type::now(); state == NPC_SPEAKING && frames < 3600; ++frames) {
      char text[256];
      const auto start = clock_type::now();
      state = plugin->frame(n, static_cast<std::uint64_t>(budget.count()), text, sizeof text);
      const auto took = std::chrono::duration_cast<microseconds>(clock_type::now() - start);
      if (state == NPC_FAILED) fail(plugin->why(n));
      said += text;
      std::fputs(text, stdout);
      worst = std::max(worst, took);
      sum += took;
      ++speaking_frames;
      // The rest of the frame is the game's.
      next += frame_time;
      std::this_thread::sleep_until(next);
    }
    std::puts("");
  }
  plugin->close(n);
  if (said.empty()) fail("the character said nothing");
  std::printf("%d frames of %lld us with %lld us for tern: worst %lld us, mean %lld us\n", speaking_frames,
      static_cast<long long>(frame_time.count()), static_cast<long long>(budget.count()),
      static_cast<long long>(worst.count()), static_cast<long long>(sum.count() / std::max(speaking_frames, 1)));
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: npc_host PLUGIN MODEL [rounds]\n");
    return 2;
  }
  job_system system(1);
  const npc_jobs jobs = {2,
      [](void *user_data, std::uint32_t n, void (*job)(void *, std::uint32_t), void *arg) {
        static_cast<job_system *>(user_data)->parallel_for(n, job, arg);
      },
      &system};
  try {
    nothing_is_left(argv[1], argv[2], jobs, argc > 3 ? std::atoi(argv[3]) : 100);
    play(argv[1], argv[2], jobs);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "npc_host: %s\n", e.what());
    return 1;
  }
  return 0;
}
