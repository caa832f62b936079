/* The plugin: a character that answers within the frame budget, on the game's threads. */
#include "npc.h"

#include <tern.hpp>

#include <algorithm>
#include <cstring>

namespace {

struct host_jobs {
  npc_jobs jobs;
  void parallel_for(std::uint32_t n, tern::job run) noexcept {
    jobs.parallel_for(jobs.user_data, n, [](void *arg, std::uint32_t i) { (*static_cast<tern::job *>(arg))(i); }, &run);
  }
};

void copy(std::string_view from, char *to, std::size_t cap) noexcept {
  if (cap == 0) return;
  const std::size_t n = std::min(from.size(), cap - 1);
  std::memcpy(to, from.data(), n);
  to[n] = '\0';
}

}  // namespace

struct npc {
  npc(const npc_jobs &j, const char *model_path, const char *character)
      : jobs{j}, pool(tern::threadpool::on(jobs, j.width)), model(tern::model::from_file(model_path)),
        chat(model, options(character)) {
    chat.prewarm();
  }
  tern::session_options options(const char *character) const {
    tern::session_options o;
    o.instructions = character;
    o.on_full = tern::on_full::drop_turns;
    o.context.threadpool = &pool;
    return o;
  }

  host_jobs jobs;
  tern::threadpool pool;
  tern::model model;
  tern::session chat;
  std::string waiting;  // said, but not yet fetched
  bool speaking = false;
  std::string failure;
};

namespace {

template <class F>
std::int32_t guarded(npc *n, F f) noexcept {
  try {
    return f();
  } catch (const std::exception &e) {
    n->failure = e.what();
    n->speaking = false;
    return NPC_FAILED;
  }
}

npc *open(const npc_jobs *jobs, const char *model_path, const char *character, char *error, std::size_t cap) {
  try {
    return new npc(*jobs, model_path, character);
  } catch (const std::exception &e) {
    copy(e.what(), error, cap);
    return nullptr;
  }
}

std::int32_t say(npc *n, const char *text) {
  return guarded(n, [&] {
    n->chat.stop();
    tern::generate_options o;
    o.max_tokens = 96;
    n->chat.start(text, o);
    n->speaking = true;
    return NPC_SPEAKING;
  });
}

std::int32_t frame(npc *n, std::uint64_t budget_us, char *text, std::size_t cap) {
  return guarded(n, [&] {
    if (n->speaking) {
      const tern::chunk c = n->chat.next(budget_us);
      n->waiting += c.text;
      n->speaking = c.status != tern::status::done;
    }
    // Whole characters only, whatever room the game has.
    std::size_t size = std::min(n->waiting.size(), cap == 0 ? 0 : cap - 1);
    while (size > 0 && size < n->waiting.size() && (n->waiting[size] & 0xC0) == 0x80) --size;
    copy(std::string_view(n->waiting).substr(0, size), text, cap);
    n->waiting.erase(0, size);
    return n->speaking || !n->waiting.empty() ? NPC_SPEAKING : NPC_QUIET;
  });
}

const char *why(const npc *n) { return n->failure.c_str(); }
void close(npc *n) { delete n; }

}  // namespace

const npc_plugin *npc_entry(void) {
  static const npc_plugin plugin = {sizeof(npc_plugin), open, say, frame, why, close};
  return &plugin;
}
