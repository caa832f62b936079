/* Loads and unloads the library itself a hundred times, with a model, threads, a grammar and a session each time:
   leave MODEL LIBRARY. Nothing is left behind: no thread, no file, no callback, no growth. */
#include "tern.h"
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(what) \
  do { if (!(what)) { fprintf(stderr, "%s:%d: round %d: not so: %s\n", __FILE__, __LINE__, round_number, #what); exit(1); } } while (0)
#define ROUNDS 100

static int round_number, in_log;
static void on_log(void *user_data, int32_t level, const char *utf8, size_t len) {
  (void)user_data; (void)level; (void)utf8; (void)len;
  in_log++;
}

/* Entries of a folder of /proc: threads, or open files. */
static int entries(const char *folder) {
  DIR *dir = opendir(folder);
  int n = 0;
  CHECK(dir);
  while (readdir(dir)) n++;
  closedir(dir);
  return n;
}

/* Resident kilobytes that are not of files. */
static long resident(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  long kb = 0;
  CHECK(file);
  while (fgets(line, sizeof line, file))
    if (strncmp(line, "RssAnon:", 8) == 0) kb = strtol(line + 8, NULL, 10);
  fclose(file);
  return kb;
}

/* A function of the library by its name, with its type from the header. */
#define GET(name) __typeof__(&name) p_##name = (__typeof__(&name))(size_t)dlsym(library, #name); CHECK(p_##name)

static void play(const char *model_path, const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  tern_threadpool_params tp;
  tern_context_params cp;
  tern_session_params sp;
  tern_generate_options o;
  tern_threadpool *pool = NULL;
  tern_model *m = NULL;
  tern_session *s = NULL;
  tern_context *c = NULL;
  tern_grammar *g = NULL;
  const tern_token tokens[3] = {5, 6, 7};
  if (!library) fprintf(stderr, "%s\n", dlerror());
  CHECK(library);
  GET(tern_log_set);
  GET(tern_threadpool_params_init); GET(tern_threadpool_new); GET(tern_threadpool_free);
  GET(tern_model_load_from_file); GET(tern_model_free);
  GET(tern_context_params_init); GET(tern_context_new); GET(tern_context_free); GET(tern_eval);
  GET(tern_grammar_compile); GET(tern_grammar_free);
  GET(tern_session_params_init); GET(tern_session_new); GET(tern_session_free);
  GET(tern_generate_options_init); GET(tern_session_respond);
  p_tern_log_set(on_log, NULL, TERN_LOG_DEBUG);
  p_tern_threadpool_params_init(&tp, sizeof tp);
  tp.n_threads = 3;
  CHECK(p_tern_threadpool_new(&tp, &pool) == TERN_OK);
  CHECK(p_tern_model_load_from_file(model_path, NULL, &m, NULL) == TERN_OK);
  p_tern_context_params_init(&cp, sizeof cp);
  cp.threadpool = pool;
  cp.n_ctx = 128;
  CHECK(p_tern_context_new(m, &cp, &c, NULL) == TERN_OK);
  CHECK(p_tern_eval(c, tokens, 3, NULL, NULL) == TERN_OK);
  CHECK(p_tern_grammar_compile(m, TERN_GRAMMAR_REGEX, "[a-z]{1,3}", TERN_NUL_TERMINATED, &g, NULL) == TERN_OK);
  p_tern_session_params_init(&sp, sizeof sp);
  sp.context = &cp;
  CHECK(p_tern_session_new(m, &sp, &s, NULL) == TERN_OK);
  p_tern_generate_options_init(&o, sizeof o);
  o.max_tokens = 3;
  o.grammar = g;
  CHECK(p_tern_session_respond(s, "Hi", 2, &o, NULL, NULL, NULL) == TERN_OK);
  p_tern_threadpool_free(pool);
  p_tern_model_free(m);
  p_tern_grammar_free(g);
  p_tern_session_free(s);
  p_tern_context_free(c);
  p_tern_log_set(NULL, NULL, 0);
  CHECK(dlclose(library) == 0);
}

int main(int argc, char **argv) {
  int threads, files, logged;
  long early = 0, late;
  CHECK(argc == 3);
  threads = entries("/proc/self/task");
  files = entries("/proc/self/fd");
  for (round_number = 0; round_number < ROUNDS; round_number++) {
    play(argv[1], argv[2]);
    logged = in_log;
    CHECK(logged > 0);
    CHECK(entries("/proc/self/task") == threads);
    CHECK(entries("/proc/self/fd") == files);
    CHECK(in_log == logged);
    if (round_number == ROUNDS / 2) early = resident();
  }
  late = resident();
  if (late > early + 2048) fprintf(stderr, "%ld kB after half, %ld kB at the end\n", early, late);
  CHECK(late <= early + 2048);
  return 0;
}
