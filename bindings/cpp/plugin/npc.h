/* The door between the game and the plugin: plain C, one symbol. */
#ifndef NPC_H
#define NPC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#  define NPC_EXPORT __declspec(dllexport)
#else
#  define NPC_EXPORT __attribute__((visibility("default")))
#endif

/* The game's job system: run job(arg, i) once for each i < n on any threads, return after all. Outlives every npc. */
typedef struct npc_jobs {
  uint32_t width;
  void (*parallel_for)(void *user_data, uint32_t n, void (*job)(void *arg, uint32_t i), void *arg);
  void *user_data;
} npc_jobs;

enum { NPC_QUIET = 0, NPC_SPEAKING = 1, NPC_FAILED = -1 };

typedef struct npc npc;
typedef struct npc_plugin {
  size_t size;
  /* NULL when it fails; `error` then holds why. */
  npc *(*open)(const npc_jobs *jobs, const char *model_path, const char *character, char *error, size_t error_cap);
  /* What the player said; the answer comes with the frames. */
  int32_t (*say)(npc *n, const char *text);
  /* Works for about budget_us and writes what was said to text, NUL-terminated. NPC_*. */
  int32_t (*frame)(npc *n, uint64_t budget_us, char *text, size_t text_cap);
  /* Why the last call answered NPC_FAILED. */
  const char *(*why)(const npc *n);
  void (*close)(npc *n);
} npc_plugin;

NPC_EXPORT const npc_plugin *npc_entry(void);

#ifdef __cplusplus
}
#endif
#endif
