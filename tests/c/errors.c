/* Takes every error path of the interface and frees everything: errors MODEL FOLDER.
   Outputs stay untouched where a call fails; handles are as usable as before.
   It is long because every error path of every function is one line of it. */
#include "check.h"

static char text[1 << 15];
static size_t n = 77;
static int releases;
static void on_release(void *user_data) { CHECK(user_data == &releases); releases++; }
static int32_t never(void *user_data, float fraction) { (void)user_data; (void)fraction; return 0; }
static int32_t no_bytes(void *user_data, uint64_t offset, void *dst, size_t len) {
  (void)user_data; (void)offset; (void)dst; (void)len;
  return 0;
}

/* The call fails with a status, an error with that code, and a message that holds a text. */
#define FAILS(status, needle, call) \
  do { \
    tern_error *error = NULL; \
    IS(status, call); \
    CHECK(error && tern_error_code(error) == (status)); \
    if (!strstr(tern_error_message(error), needle)) { \
      fprintf(stderr, "%s:%d: \"%s\" does not say \"%s\"\n", __FILE__, __LINE__, tern_error_message(error), needle); \
      exit(1); \
    } \
    tern_error_free(error); \
  } while (0)
#define INVALID(call) IS(TERN_ERR_INVALID_ARGUMENT, call)

static void library(void) {
  tern_cancel *cancel = (tern_cancel *)&n;
  INVALID(tern_system_info(NULL, 0, NULL));
  INVALID(tern_system_info(NULL, 5, &n));
  n = 77;
  IS(TERN_ERR_BUFFER_TOO_SMALL, tern_system_info(text, 3, &n));
  CHECK(n > 77);
  INVALID(tern_cancel_new(NULL));
  CHECK(cancel == (tern_cancel *)&n);
  tern_cancel_set(NULL);
  tern_cancel_reset(NULL);
  tern_cancel_free(NULL);
  tern_log_set(NULL, NULL, 9);
}

static void threads(void) {
  tern_threadpool_params p;
  tern_threadpool *pool = NULL;
  INVALID(tern_threadpool_new(NULL, NULL));
  memset(&p, 0, sizeof p);
  INVALID(tern_threadpool_new(&p, &pool)); /* size was not set */
  tern_threadpool_params_init(NULL, sizeof p);
  tern_threadpool_params_init(&p, sizeof p);
  p.n_threads = 100000;
  INVALID(tern_threadpool_new(&p, &pool));
  p.n_threads = 1;
  p.qos = 17;
  INVALID(tern_threadpool_new(&p, &pool));
  p.qos = 0;
  p.n_cpus = 3;
  OK(tern_threadpool_new(&p, &pool)); /* no list of CPUs: left to the system */
  tern_threadpool_free(pool);
  tern_threadpool_free(NULL);
}

static void loading(const char *path, const char *folder) {
  tern_model *m = NULL;
  tern_model_params p;
  tern_reader r;
  tern_cancel *cancel = NULL;
  unsigned char *bytes;
  size_t len;
  struct { tern_model_params p; uint64_t later; } newer;
  FILE *file;
  INVALID(tern_model_load_from_file(path, NULL, NULL, NULL));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "path_utf8", tern_model_load_from_file(NULL, NULL, &m, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "empty", tern_model_load_from_file("", NULL, &m, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "byte 1", tern_model_load_from_file("a\xff", NULL, &m, &error));
  FAILS(TERN_ERR_IO, "/no/such", tern_model_load_from_file("/no/such/file", NULL, &m, &error));
  FAILS(TERN_ERR_IO, folder, tern_model_load_from_file(folder, NULL, &m, &error));
  tern_model_params_init(&p, sizeof p);
  p.flags = 1u << 30;
  FAILS(TERN_ERR_UNSUPPORTED, "flags", tern_model_load_from_file(path, &p, &m, &error));
  p.flags = 0;
  p.kernels = "abacus";
  p.kernels_len = TERN_NUL_TERMINATED;
  FAILS(TERN_ERR_UNSUPPORTED, "scalar", tern_model_load_from_file(path, &p, &m, &error));
  p.kernels = NULL;
  p.progress = never;
  FAILS(TERN_ERR_CANCELLED, "cancelled", tern_model_load_from_file(path, &p, &m, &error));
  p.progress = NULL;
  OK(tern_cancel_new(&cancel));
  tern_cancel_set(cancel);
  p.cancel = cancel;
  FAILS(TERN_ERR_CANCELLED, "cancelled", tern_model_load_from_file(path, &p, &m, &error));
  tern_cancel_free(cancel);
  p.size = 3;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "tern_model_params_init", tern_model_load_from_file(path, &p, &m, &error));
  memset(&newer, 0, sizeof newer);
  newer.p.size = sizeof newer;
  newer.p.flags = TERN_MODEL_VOCAB_ONLY;
  OK_E(tern_model_load_from_file(path, &newer.p, &m, &error));
  tern_model_free(m);
  m = NULL;
  newer.later = 1;
  FAILS(TERN_ERR_UNSUPPORTED, "tern_model_params", tern_model_load_from_file(path, &newer.p, &m, &error));

#ifdef _WIN32
  INVALID(tern_model_load_from_handle(NULL, 0, 0, NULL, &m, NULL));
  FAILS(TERN_ERR_IO, "handle", tern_model_load_from_handle((void *)(intptr_t)0x7ffffff0, 0, 0, NULL, &m, &error));
  IS(TERN_ERR_UNSUPPORTED, tern_model_load_from_fd(0, 0, 0, NULL, &m, NULL));
#else
  FAILS(TERN_ERR_INVALID_ARGUMENT, "-1", tern_model_load_from_fd(-1, 0, 0, NULL, &m, &error));
  FAILS(TERN_ERR_IO, "file descriptor", tern_model_load_from_fd(9999, 0, 0, NULL, &m, &error));
  IS(TERN_ERR_UNSUPPORTED, tern_model_load_from_handle(NULL, 0, 0, NULL, &m, NULL));
#endif
  file = fopen(path, "rb");
  CHECK(file);
  FAILS(TERN_ERR_INVALID_ARGUMENT, "offset", LOAD_FROM_FD(fileno(file), (uint64_t)1 << 60, 0, NULL, &m, &error));
  FAILS(TERN_ERR_BAD_MODEL, "GGUF", LOAD_FROM_FD(fileno(file), 1, 0, NULL, &m, &error));
  fclose(file);

  bytes = read_all(path, &len);
  INVALID(tern_model_load_from_memory(NULL, 0, NULL, NULL, NULL, &m, NULL));
  IS(TERN_ERR_BAD_MODEL, tern_model_load_from_memory(bytes, 0, NULL, NULL, NULL, &m, NULL));
  FAILS(TERN_ERR_BAD_MODEL, "model in memory", tern_model_load_from_memory(bytes, len / 2, NULL, NULL, NULL, &m, &error));
  /* release and close are called once whatever the failure is */
  INVALID(tern_model_load_from_memory(NULL, 5, on_release, &releases, NULL, &m, NULL));
  CHECK(releases == 1);
  INVALID(tern_model_load_from_memory(bytes, len, on_release, &releases, NULL, NULL, NULL));
  CHECK(releases == 2);
  IS(TERN_ERR_BAD_MODEL, tern_model_load_from_memory(bytes, len / 2, on_release, &releases, NULL, &m, NULL));
  CHECK(releases == 3);
  p.size = sizeof p;
  p.cancel = NULL;
  p.flags = 1u << 30;
  IS(TERN_ERR_UNSUPPORTED, tern_model_load_from_memory(bytes, len, on_release, &releases, &p, &m, NULL));
  CHECK(releases == 4);
  free(bytes);

  INVALID(tern_model_load_from_reader(NULL, NULL, &m, NULL));
  tern_reader_init(&r, sizeof r);
  r.user_data = &releases;
  r.close = on_release;
  r.length = len;
  INVALID(tern_model_load_from_reader(&r, NULL, &m, NULL)); /* no read_at */
  CHECK(releases == 5);
  r.read_at = no_bytes;
  FAILS(TERN_ERR_IO, "read_at returned 0", tern_model_load_from_reader(&r, NULL, &m, &error));
  CHECK(releases == 6);
  INVALID(tern_model_load_from_reader(&r, NULL, NULL, NULL));
  CHECK(releases == 7 && m == NULL);
  tern_model_free(NULL);
}

static void convert(const tern_model *m, const char *path, const char *folder) {
  tern_convert_params p;
  tern_memory_plan plan;
  tern_model_params mp;
  char file[1024];
  FAILS(TERN_ERR_INVALID_ARGUMENT, "model", tern_model_convert(NULL, path, NULL, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "dst_path_utf8", tern_model_convert(m, NULL, NULL, &error));
  FAILS(TERN_ERR_IO, "/no/such", tern_model_convert(m, "/no/such/folder/x.gguf", NULL, &error));
  tern_convert_params_init(&p, sizeof p);
  p.flags = 1;
  snprintf(file, sizeof file, "%s/never.gguf", folder);
  FAILS(TERN_ERR_UNSUPPORTED, "flags", tern_model_convert(m, file, &p, &error));
  p.flags = 0;
  p.progress = never;
  FAILS(TERN_ERR_CANCELLED, "", tern_model_convert(m, file, &p, &error));
  CHECK(fopen(file, "rb") == NULL);
  memset(&plan, 0, sizeof plan);
  FAILS(TERN_ERR_INVALID_ARGUMENT, "tern_memory_plan_init", tern_memory_plan_for_file(path, NULL, NULL, &plan, &error));
  tern_memory_plan_init(&plan, sizeof plan);
  FAILS(TERN_ERR_IO, "none", tern_memory_plan_for_file("/none", NULL, NULL, &plan, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "out_plan", tern_memory_plan_for_file(path, NULL, NULL, NULL, &error));
  tern_model_params_init(&mp, sizeof mp);
  mp.kernels = "abacus";
  mp.kernels_len = 6;
  FAILS(TERN_ERR_UNSUPPORTED, "abacus", tern_memory_plan_for_file(path, &mp, NULL, &plan, &error));
  CHECK(plan.kv == 0);
}

static void info(const tern_model *m) {
  tern_model_info i;
  const char *key = NULL;
  size_t key_len = 0;
  int32_t yes = 5;
  tern_token token = 0;
  tern_detok *d = NULL;
  memset(&i, 0, sizeof i);
  INVALID(tern_model_get_info(m, NULL));
  INVALID(tern_model_get_info(m, &i));
  tern_model_info_init(&i, sizeof i.size + 8);
  i.n_embd = 99;
  i.size = offsetof(tern_model_info, n_embd);
  OK(tern_model_get_info(m, &i));
  CHECK(i.n_embd == 99 && i.n_ctx_train > 0); /* an older struct: no more is written */
  tern_model_info_init(&i, sizeof i);
  INVALID(tern_model_get_info(NULL, &i));
  INVALID(tern_model_meta_count(NULL, &n));
  INVALID(tern_model_meta_count(m, NULL));
  INVALID(tern_model_meta_at(NULL, 0, &key, &key_len, text, sizeof text, &n));
  INVALID(tern_model_meta_at(m, 0, &key, &key_len, text, sizeof text, NULL));
  IS(TERN_ERR_NOT_FOUND, tern_model_meta_at(m, SIZE_MAX, &key, &key_len, text, sizeof text, &n));
  INVALID(tern_model_meta_get(m, NULL, 3, text, sizeof text, &n));
  INVALID(tern_model_meta_get(m, "\xc3", 1, text, sizeof text, &n));
  IS(TERN_ERR_NOT_FOUND, tern_model_meta_get(m, "no.such.key", TERN_NUL_TERMINATED, text, sizeof text, &n));
  INVALID(tern_model_chat_template(NULL, text, sizeof text, &n));
  CHECK(key == NULL);

  INVALID(tern_tokenize(NULL, "a", 1, 0, &token, 1, &n));
  INVALID(tern_tokenize(m, NULL, 1, 0, &token, 1, &n));
  INVALID(tern_tokenize(m, "a", 1, 0, &token, 1, NULL));
  INVALID(tern_tokenize(m, "a", 1, 0, NULL, 1, &n));
  INVALID(tern_tokenize(m, "a\xff", 2, 0, &token, 1, &n));
  IS(TERN_ERR_UNSUPPORTED, tern_tokenize(m, "a", 1, 128, &token, 1, &n));
  IS(TERN_ERR_BUFFER_TOO_SMALL, tern_tokenize(m, "once upon a time", 16, 0, &token, 1, &n));
  CHECK(n > 1 && token == 0);
  token = -5;
  INVALID(tern_detokenize(m, &token, 1, 0, text, sizeof text, &n));
  INVALID(tern_detokenize(m, NULL, 1, 0, text, sizeof text, &n));
  OK(tern_detokenize(m, NULL, 0, 0, text, sizeof text, &n));
  CHECK(n == 0 && text[0] == 0);
  INVALID(tern_token_to_piece(m, 1 << 30, 0, text, sizeof text, &n));
  INVALID(tern_token_is_eog(m, -1, &yes));
  INVALID(tern_token_is_eog(m, 0, NULL));
  INVALID(tern_token_is_control(NULL, 0, &yes));
  CHECK(yes == 5);
  INVALID(tern_detok_new(m, 0, NULL));
  IS(TERN_ERR_UNSUPPORTED, tern_detok_new(m, 64, &d));
  CHECK(d == NULL);
  OK(tern_detok_new(m, 0, &d));
  INVALID(tern_detok_push(d, -7, &key, &n));
  INVALID(tern_detok_push(d, 0, NULL, &n));
  INVALID(tern_detok_finish(NULL, &key, &n));
  OK(tern_detok_finish(d, &key, &n));
  CHECK(n == 0 && key[0] == 0);
  tern_detok_free(d);
  tern_detok_free(NULL);
}

static void chat(const tern_model *m) {
  tern_message turn;
  tern_chat_options o;
  memset(&turn, 0, sizeof turn);
  FAILS(TERN_ERR_INVALID_ARGUMENT, "messages is NULL",
        tern_chat_apply_template(m, NULL, sizeof turn, 2, NULL, text, sizeof text, &n, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "item_size",
        tern_chat_apply_template(m, &turn, 0, 1, NULL, text, sizeof text, &n, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "message 0",
        tern_chat_apply_template(m, &turn, sizeof turn, 1, NULL, text, sizeof text, &n, &error));
  turn.role = "user";
  turn.content = "x\xfe";
  turn.role_len = turn.content_len = TERN_NUL_TERMINATED;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "UTF-8 at byte 1",
        tern_chat_apply_template(m, &turn, sizeof turn, 1, NULL, text, sizeof text, &n, &error));
  turn.content = "x";
  tern_chat_options_init(&o, sizeof o);
  o.chat_template_len = TERN_NUL_TERMINATED;
  o.chat_template = "{{ raise_exception('not like this') }}";
  FAILS(TERN_ERR_INVALID_ARGUMENT, "not like this",
        tern_chat_apply_template(m, &turn, sizeof turn, 1, &o, text, sizeof text, &n, &error));
  o.chat_template = "a\n{% if %}";
  FAILS(TERN_ERR_INVALID_ARGUMENT, "line 2",
        tern_chat_apply_template(m, &turn, sizeof turn, 1, &o, text, sizeof text, &n, &error));
  o.chat_template = NULL;
  o.flags = 4;
  FAILS(TERN_ERR_UNSUPPORTED, "flags",
        tern_chat_apply_template(m, &turn, sizeof turn, 1, &o, text, sizeof text, &n, &error));
}

static void context(const tern_model *m, const char *path, const char *folder) {
  tern_context_params p;
  tern_eval_options o;
  tern_context *c = NULL, *tiny = NULL;
  tern_model *words = NULL;
  tern_model_params mp;
  tern_cancel *cancel = NULL;
  tern_perf perf;
  tern_batch_item item = {0, 9, 1};
  tern_token t[4] = {1, 2, 3, 4}, bad = 1 << 30, token = -9;
  const float *values = NULL;
  const char *choices[2] = {"a", ""};
  float scores[4];
  size_t done = 55;
  uint32_t length = 0;
  char *blob;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "model", tern_context_new(NULL, NULL, &c, &error));
  INVALID(tern_context_new(m, NULL, NULL, NULL));
  tern_context_params_init(&p, sizeof p);
  p.kv_type = 9;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "kv_type 9", tern_context_new(m, &p, &c, &error));
  p.kv_type = 0;
  p.pooling = -1;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "pooling", tern_context_new(m, &p, &c, &error));
  p.pooling = 0;
  p.flags = 1u << 20;
  FAILS(TERN_ERR_UNSUPPORTED, "flags", tern_context_new(m, &p, &c, &error));
  p.flags = 0;
  p.n_seq_max = UINT32_MAX;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "n_seq_max", tern_context_new(m, &p, &c, &error));
  tern_model_params_init(&mp, sizeof mp);
  mp.flags = TERN_MODEL_VOCAB_ONLY;
  OK(tern_model_load_from_file(path, &mp, &words, NULL));
  FAILS(TERN_ERR_INVALID_STATE, "vocabulary", tern_context_new(words, NULL, &c, &error));
  tern_model_free(words);
  CHECK(c == NULL);
  tern_context_params_init(&p, sizeof p);
  p.n_ctx = 8;
  p.n_seq_max = 2;
  OK(tern_context_new(m, &p, &c, NULL));

  IS(TERN_ERR_INVALID_STATE, tern_logits(c, 0, &values, &n));
  IS(TERN_ERR_INVALID_STATE, tern_logprobs_top(c, 0, 1, &token, scores, &n));
  IS(TERN_ERR_INVALID_STATE, tern_embedding(c, 0, &values, &n));
  INVALID(tern_eval(NULL, t, 4, NULL, NULL));
  INVALID(tern_eval(c, NULL, 4, NULL, NULL));
  INVALID(tern_eval(c, &bad, 1, NULL, NULL));
  tern_eval_options_init(&o, sizeof o);
  o.seq = 2;
  INVALID(tern_eval(c, t, 4, &o, NULL));
  o.seq = -1;
  INVALID(tern_eval(c, t, 4, &o, NULL));
  o.seq = 0;
  o.flags = TERN_EVAL_LOGITS_ALL | TERN_EVAL_LOGITS_NONE;
  INVALID(tern_eval(c, t, 4, &o, NULL));
  o.flags = 0;
  o.budget_us = 1;
  INVALID(tern_eval(c, t, 4, &o, NULL)); /* a budget needs out_done */
  o.budget_us = 0;
  OK(tern_cancel_new(&cancel));
  tern_cancel_set(cancel);
  o.cancel = cancel;
  INVALID(tern_eval(c, t, 4, &o, NULL));
  IS(TERN_ERR_CANCELLED, tern_eval(c, t, 4, &o, &done));
  CHECK(done == 0);
  IS(TERN_ERR_INVALID_STATE, tern_choose(c, choices, NULL, 1, NULL, &n, NULL)); /* an empty sequence */
  OK(tern_eval(c, t, 4, NULL, NULL));
  IS(TERN_ERR_CANCELLED, tern_score(c, t, 4, &o, scores, 4, &n));
  IS(TERN_ERR_CANCELLED, tern_choose(c, choices, NULL, 1, &o, &n, NULL));
  tern_cancel_free(cancel);
  o.cancel = NULL;
  IS(TERN_ERR_CONTEXT_FULL, tern_eval(c, t, 4, NULL, NULL) == TERN_OK ? tern_eval(c, t, 1, NULL, NULL) : TERN_OK);
  OK(tern_seq_length(c, 0, &length));
  CHECK(length == 8);
  INVALID(tern_eval_batch(c, &item, sizeof item, 1, NULL, NULL));
  item.seq = -3;
  INVALID(tern_eval_batch(c, &item, sizeof item, 1, NULL, NULL));
  INVALID(tern_eval_batch(c, NULL, sizeof item, 1, NULL, NULL));
  o.seq = 1;
  item.seq = 1;
  INVALID(tern_eval_batch(c, &item, sizeof item, 1, &o, NULL));
  IS(TERN_ERR_NOT_FOUND, tern_logits(c, 7, &values, &n));
  INVALID(tern_logits(c, 0, NULL, &n));
  INVALID(tern_logprobs_top(c, 0, 2, NULL, scores, &n));
  IS(TERN_ERR_INVALID_STATE, tern_embedding(c, 0, &values, &n)); /* made without TERN_CTX_EMBEDDINGS */
  CHECK(values == NULL && token == -9);

  OK(tern_seq_truncate(c, 0, 3));
  o.seq = 0;
  o.budget_us = 9;
  INVALID(tern_score(c, t, 4, &o, scores, 4, &n));
  INVALID(tern_choose(c, choices, NULL, 2, &o, &n, NULL));
  o.budget_us = 0;
  IS(TERN_ERR_BUFFER_TOO_SMALL, tern_score(c, t, 4, &o, scores, 3, &n));
  CHECK(n == 4);
  INVALID(tern_score(c, t, 4, &o, scores, 4, NULL));
  INVALID(tern_choose(c, choices, NULL, 2, &o, &n, NULL)); /* the second text is empty */
  INVALID(tern_choose(c, NULL, NULL, 0, &o, &n, NULL));
  INVALID(tern_choose(c, choices, NULL, 1, &o, NULL, NULL));

  INVALID(tern_seq_length(c, 2, &length));
  INVALID(tern_seq_length(c, 0, NULL));
  INVALID(tern_seq_length(NULL, 0, &length));
  INVALID(tern_seq_truncate(c, -1, 0));
  INVALID(tern_seq_clear(c, 5));
  INVALID(tern_seq_fork(c, 0, 2));
  OK(tern_seq_fork(c, 0, 1));
  IS(TERN_ERR_INVALID_STATE, tern_seq_fork(c, 0, 1));
  INVALID(tern_seq_shift(c, 0, 2, 2));
  INVALID(tern_seq_common_prefix(c, 0, NULL, 2, &n));
  INVALID(tern_seq_common_prefix(c, 7, t, 2, &n));
  INVALID(tern_seq_state_save(c, 3, NULL, 0, &n));
  OK(tern_seq_state_save(c, 0, NULL, 0, &n));
  blob = (char *)malloc(n);
  CHECK(blob);
  IS(TERN_ERR_BUFFER_TOO_SMALL, tern_seq_state_save(c, 0, blob, n - 1, &n));
  OK(tern_seq_state_save(c, 0, blob, n, &n));
  IS(TERN_ERR_STATE_MISMATCH, tern_seq_state_load(c, 1, blob, n - 1));
  IS(TERN_ERR_STATE_MISMATCH, tern_seq_state_load(c, 1, NULL, 0));
  INVALID(tern_seq_state_load(c, 1, NULL, 9));
  blob[0] ^= 1;
  IS(TERN_ERR_STATE_MISMATCH, tern_seq_state_load(c, 1, blob, n));
  free(blob);
  OK(tern_seq_length(c, 1, &length));
  CHECK(length == 3);
  FAILS(TERN_ERR_IO, "no/such", tern_seq_prefix_save(c, 0, "/no/such/folder/x", &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "path_utf8", tern_seq_prefix_save(c, 0, NULL, &error));
  FAILS(TERN_ERR_INVALID_STATE, "empty", tern_seq_prefix_map(c, 1, path, &error));
  OK(tern_seq_clear(c, 1));
  FAILS(TERN_ERR_STATE_MISMATCH, "", tern_seq_prefix_map(c, 1, path, &error));
  snprintf(text, sizeof text, "%s/none", folder);
  FAILS(TERN_ERR_IO, "none", tern_seq_prefix_map(c, 1, text, &error));
  INVALID(tern_context_trim(c, 5, NULL));
  OK(tern_context_trim(c, TERN_TRIM_KV, NULL));
  IS(TERN_ERR_INVALID_STATE, tern_seq_state_save(c, 0, NULL, 0, &n));
  memset(&perf, 0, sizeof perf);
  INVALID(tern_context_perf(c, &perf));
  INVALID(tern_context_perf(c, NULL));
  INVALID(tern_context_perf_reset(NULL));
  p.n_ctx = 0;
  p.kv_bytes_max = 1;
  OK(tern_context_new(m, &p, &tiny, NULL));
  IS(TERN_ERR_CONTEXT_FULL, tern_eval(tiny, t, 4, NULL, NULL));
  tern_context_free(tiny);
  tern_context_free(c);
  tern_context_free(NULL);
}

static void sampling(const tern_model *m) {
  tern_sampler *s = NULL, *other = NULL;
  tern_grammar *g = NULL;
  tern_logit_bias bias = {-1, 0};
  tern_token token = -9;
  float row[3] = {0, 1, 2}, none[2];
  const float zero = 0;
  none[0] = none[1] = zero / zero;
  INVALID(tern_sampler_new(1, NULL));
  OK(tern_sampler_new(1, &s));
  INVALID(tern_sampler_clone(NULL, &other));
  INVALID(tern_sampler_clone(s, NULL));
  INVALID(tern_sampler_add_logit_bias(s, &bias, sizeof bias, 1));
  INVALID(tern_sampler_add_logit_bias(s, NULL, sizeof bias, 1));
  INVALID(tern_sampler_add_penalties(s, -2, 1, 0, 0));
  INVALID(tern_sampler_add_penalties(s, 1, 0, 0, 0));
  INVALID(tern_sampler_add_dry(s, -1, 1, 1, 1));
  INVALID(tern_sampler_add_top_k(NULL, 1));
  INVALID(tern_sampler_add_top_p(s, none[0], 1));
  INVALID(tern_sampler_add_min_p(s, -1, 1));
  INVALID(tern_sampler_add_typical(s, -1, 1));
  INVALID(tern_sampler_add_top_n_sigma(s, none[0]));
  INVALID(tern_sampler_add_xtc(s, 2, 0, 1));
  INVALID(tern_sampler_add_temp(s, none[0]));
  INVALID(tern_sampler_add_temp_dynamic(s, 1, -1, 1));
  INVALID(tern_sampler_add_mirostat_v2(s, -1, 0));
  INVALID(tern_sampler_add_grammar(s, NULL));
  releases = 0;
  INVALID(tern_sampler_add_custom(s, NULL, on_release, &releases));
  INVALID(tern_sampler_add_custom(NULL, NULL, on_release, &releases));
  CHECK(releases == 2);
  INVALID(tern_sampler_sample(s, NULL, 0, &token));
  INVALID(tern_sampler_sample_logits(s, row, 0, &token));
  INVALID(tern_sampler_sample_logits(s, NULL, 3, &token));
  INVALID(tern_sampler_sample_logits(s, row, 3, NULL));
  IS(TERN_ERR_BAD_MODEL, tern_sampler_sample_logits(s, none, 2, &token));
  INVALID(tern_sampler_accept(s, -1));
  INVALID(tern_sampler_reset(NULL));
  CHECK(token == -9);
  FAILS(TERN_ERR_INVALID_ARGUMENT, "kind 42", tern_grammar_compile(m, 42, "", 0, &g, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "src", tern_grammar_compile(m, TERN_GRAMMAR_REGEX, NULL, 0, &g, &error));
  FAILS(TERN_ERR_GRAMMAR, "line", tern_grammar_compile(m, TERN_GRAMMAR_JSON_SCHEMA, "{", 1, &g, &error));
  FAILS(TERN_ERR_GRAMMAR, "", tern_grammar_compile(m, TERN_GRAMMAR_REGEX, "(", 1, &g, &error));
  INVALID(tern_grammar_compile(m, TERN_GRAMMAR_JSON, NULL, 0, NULL, NULL));
  CHECK(g == NULL);
  tern_grammar_free(NULL);
  OK_E(tern_grammar_compile(m, TERN_GRAMMAR_REGEX, "b+", TERN_NUL_TERMINATED, &g, &error));
  OK(tern_sampler_add_grammar(s, g));
  tern_grammar_free(g);
  INVALID(tern_sampler_sample_logits(s, row, 3, &token)); /* the row is of another vocabulary */
  OK(tern_tokenize(m, "x", 1, 0, &token, 1, &n));
  IS(TERN_ERR_GRAMMAR, tern_sampler_accept(s, token));
  tern_sampler_free(s);
  tern_sampler_free(NULL);
}

static int32_t stop_now(void *user_data, const tern_chunk *chunk) {
  (void)user_data; (void)chunk;
  return 0;
}

static void session(const tern_model *m) {
  tern_session *s = NULL, *other = NULL;
  tern_session_params p;
  tern_generate_options o;
  tern_chunk chunk;
  tern_context *c = NULL;
  tern_cancel *cancel = NULL;
  const char *empty[1] = {""};
  char *blob;
  INVALID(tern_session_new(NULL, NULL, &s, NULL));
  INVALID(tern_session_new(m, NULL, NULL, NULL));
  tern_session_params_init(&p, sizeof p);
  p.on_full = 8;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "on_full 8", tern_session_new(m, &p, &s, &error));
  p.on_full = 0;
  p.flags = 1;
  FAILS(TERN_ERR_UNSUPPORTED, "flags", tern_session_new(m, &p, &s, &error));
  p.flags = 0;
  p.chat_template = "{% endif %}";
  p.chat_template_len = TERN_NUL_TERMINATED;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "line 1", tern_session_new(m, &p, &s, &error));
  OK(tern_session_new(m, NULL, &s, NULL));
  tern_chunk_init(&chunk, sizeof chunk);
  IS(TERN_ERR_INVALID_STATE, tern_session_next(s, 0, &chunk));
  FAILS(TERN_ERR_INVALID_STATE, "empty", tern_session_start(s, NULL, 0, NULL, &error));
  FAILS(TERN_ERR_INVALID_ARGUMENT, "UTF-8", tern_session_start(s, "\xff", 1, NULL, &error));
  tern_generate_options_init(&o, sizeof o);
  o.draft = 3;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "draft 3", tern_session_start(s, "a", 1, &o, &error));
  o.draft = 0;
  o.n_stop = 1;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "stop", tern_session_start(s, "a", 1, &o, &error));
  o.stop = empty;
  FAILS(TERN_ERR_INVALID_ARGUMENT, "stop", tern_session_start(s, "a", 1, &o, &error));
  o.n_stop = 0;
  OK(tern_session_start(s, "a", 1, &o, NULL));
  IS(TERN_ERR_INVALID_STATE, tern_session_start(s, "a", 1, &o, NULL));
  IS(TERN_ERR_INVALID_STATE, tern_session_fork(s, &other));
  IS(TERN_ERR_INVALID_STATE, tern_session_save(s, NULL, 0, &n));
  IS(TERN_ERR_INVALID_STATE, tern_session_prewarm(s, NULL));
  IS(TERN_ERR_INVALID_STATE, tern_session_set_messages(s, NULL, sizeof(tern_message), 0, NULL));
  IS(TERN_ERR_INVALID_STATE, tern_session_transcript_from_json(s, "[]", 2, NULL));
  INVALID(tern_session_next(s, 0, NULL));
  chunk.size = 0;
  INVALID(tern_session_next(s, 0, &chunk));
  OK(tern_session_stop(s));
  OK(tern_session_stop(s));
  INVALID(tern_session_stop(NULL));
  FAILS(TERN_ERR_CANCELLED, "", tern_session_respond(s, "a", 1, NULL, stop_now, NULL, &error));
  OK(tern_cancel_new(&cancel));
  tern_cancel_set(cancel);
  o.cancel = cancel;
  IS(TERN_ERR_CANCELLED, tern_session_respond(s, "b", 1, &o, NULL, NULL, NULL));
  OK(tern_session_set_messages(s, NULL, 0, 0, NULL));
  IS(TERN_OK, tern_session_prewarm(s, cancel)); /* nothing to do */
  tern_cancel_free(cancel);
  FAILS(TERN_ERR_INVALID_ARGUMENT, "line 1", tern_session_transcript_from_json(s, "[{]", 3, &error));
  INVALID(tern_session_transcript_to_json(s, NULL, 0, NULL));
  INVALID(tern_session_context(s, NULL));
  INVALID(tern_session_fork(NULL, &other));
  OK(tern_session_save(s, NULL, 0, &n));
  blob = (char *)malloc(n);
  CHECK(blob);
  OK(tern_session_save(s, blob, n, &n));
  FAILS(TERN_ERR_STATE_MISMATCH, "", tern_session_restore(m, blob, n - 1, NULL, &other, &error));
  FAILS(TERN_ERR_STATE_MISMATCH, "", tern_session_restore(m, blob, 5, NULL, &other, &error));
  p.chat_template = "x";
  FAILS(TERN_ERR_INVALID_ARGUMENT, "saved", tern_session_restore(m, blob, n, &p, &other, &error));
  free(blob);
  CHECK(other == NULL);
  /* the context outlives neither the session nor a second free */
  OK(tern_session_context(s, &c));
  tern_context_free(c);
  tern_context_free(c);
  OK(tern_context_perf_reset(c));
  tern_session_free(s);
  tern_session_free(NULL);
}

int main(int argc, char **argv) {
  tern_model *m = NULL;
  CHECK(argc == 3);
  library();
  threads();
  loading(argv[1], argv[2]);
  OK(tern_model_load_from_file(argv[1], NULL, &m, NULL));
  convert(m, argv[1], argv[2]);
  info(m);
  chat(m);
  context(m, argv[1], argv[2]);
  sampling(m);
  session(m);
  tern_model_free(m);
  return 0;
}
