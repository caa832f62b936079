/* Calls every exported function once, in the order of the header: smoke MODEL FOLDER.
   tests/c_api.rs checks that no function is left out. Long because the interface is. */
#include "check.h"
#include <math.h>
#ifdef __SSE__
#  include <xmmintrin.h>
#endif

static char text[1 << 16];
static tern_token ids[512];
static size_t n;

static void library(void) {
  CHECK(tern_version_number() == TERN_VERSION_NUMBER);
  CHECK(strlen(tern_version_string()) >= 5);
  CHECK(strcmp(tern_status_name(TERN_ERR_IO), "TERN_ERR_IO") == 0);
  CHECK(strcmp(tern_status_name(-99), "TERN_?") == 0);
  OK(tern_system_info(NULL, 0, &n));
  CHECK(n > 100 && n < sizeof text);
  OK(tern_system_info(text, sizeof text, &n));
  CHECK(text[0] == '{' && text[n] == 0 && strstr(text, "\"scalar\""));
  OK_E(tern_self_test(&error));
  CHECK(tern_error_code(NULL) == TERN_OK && tern_error_message(NULL)[0] == 0);
  tern_error_free(NULL);
}

static int messages_logged;
static void on_log(void *user_data, int32_t level, const char *utf8, size_t len) {
  CHECK(user_data == &messages_logged && level >= TERN_LOG_DEBUG && utf8 && len);
  messages_logged++;
}

static int32_t on_progress(void *user_data, float fraction) {
  float *last = (float *)user_data;
  CHECK(fraction >= *last && fraction <= 1.0f);
  *last = fraction;
  return 1;
}

/* A model inside a larger file, at an odd offset. */
static unsigned char *bytes;
static size_t n_bytes;
static int releases;
static void on_release(void *user_data) { CHECK(user_data == &releases); releases++; }
static int32_t read_at(void *user_data, uint64_t offset, void *dst, size_t len) {
  CHECK(user_data == &releases && offset + len <= n_bytes);
  memcpy(dst, bytes + offset, len);
  return 1;
}

static tern_model *load(const char *path, const char *folder, const tern_cancel *cancel) {
  tern_model *m = NULL, *other = NULL;
  float last = 0;
  char odd[1024];
  FILE *file;
  tern_model_params p;
  tern_reader r;
  tern_model_params_init(&p, sizeof p);
  p.progress = on_progress;
  p.progress_user_data = &last;
  p.cancel = cancel;
  p.kernels = "scalar, avx2";
  p.kernels_len = 6;
  OK_E(tern_model_load_from_file(path, &p, &m, &error));
  CHECK(m && last == 1.0f);
  tern_model_free(m);
  OK_E(tern_model_load_from_file(path, NULL, &m, &error));

  bytes = read_all(path, &n_bytes);
  snprintf(odd, sizeof odd, "%s/odd.pak", folder);
  file = fopen(odd, "wb+");
  CHECK(file && fwrite("odd.pak", 1, 7, file) == 7 && fwrite(bytes, 1, n_bytes, file) == n_bytes);
  CHECK(fwrite("end", 1, 3, file) == 3 && fflush(file) == 0);
#ifdef _WIN32
  CHECK(tern_model_load_from_fd(3, 7, n_bytes, NULL, &other, NULL) == TERN_ERR_UNSUPPORTED);
  OK_E(tern_model_load_from_handle((void *)_get_osfhandle(_fileno(file)), 7, n_bytes, NULL, &other, &error));
#else
  CHECK(tern_model_load_from_handle(file, 7, n_bytes, NULL, &other, NULL) == TERN_ERR_UNSUPPORTED);
  OK_E(tern_model_load_from_fd(fileno(file), 7, n_bytes, NULL, &other, &error));
#endif
  fclose(file);
  same_model(m, other);
  tern_model_free(other);

  OK_E(tern_model_load_from_memory(bytes, n_bytes, NULL, NULL, NULL, &other, &error));
  same_model(m, other);
  tern_model_free(other);
  {
    unsigned char *unaligned = (unsigned char *)malloc(n_bytes + 1);
    CHECK(unaligned);
    memcpy(unaligned + 1, bytes, n_bytes);
    OK_E(tern_model_load_from_memory(unaligned + 1, n_bytes, on_release, &releases, NULL, &other, &error));
    same_model(m, other);
    CHECK(releases == 0);
    tern_model_free(other);
    CHECK(releases == 1);
    free(unaligned);
  }
  tern_reader_init(&r, sizeof r);
  r.user_data = &releases;
  r.length = n_bytes;
  r.read_at = read_at;
  r.close = on_release;
  OK_E(tern_model_load_from_reader(&r, NULL, &other, &error));
  memset(&r, 0xaa, sizeof r);
  same_model(m, other);
  tern_model_free(other);
  CHECK(releases == 2);
  free(bytes);

  CHECK(tern_model_retain(NULL) == NULL && tern_model_retain(m) == m);
  tern_model_free(m);
  return m;
}

static void convert(const tern_model *m, const char *folder) {
  tern_convert_params p;
  tern_memory_plan plan;
  tern_context_params cp;
  tern_model *packed = NULL;
  float last = 0;
  tern_convert_params_init(&p, sizeof p);
  p.progress = on_progress;
  p.progress_user_data = &last;
  snprintf(text, sizeof text, "%s/packed.gguf", folder);
  OK_E(tern_model_convert(m, text, &p, &error));
  CHECK(last == 1.0f);
  OK_E(tern_model_load_from_file(text, NULL, &packed, &error));
  same_model(m, packed);
  tern_model_free(packed);
  tern_memory_plan_init(&plan, sizeof plan);
  tern_context_params_init(&cp, sizeof cp);
  cp.n_ctx = 64;
  OK_E(tern_memory_plan_for_file(text, NULL, &cp, &plan, &error));
  CHECK(plan.weights_mapped + plan.weights_heap > 1000 && plan.kv > 0 && plan.scratch > 0);
}

static void info(const tern_model *m) {
  tern_model_info i;
  const char *key = NULL;
  size_t key_len = 0, count = 0;
  tern_model_info_init(&i, sizeof i);
  OK(tern_model_get_info(m, &i));
  CHECK(i.size == sizeof i && i.n_vocab > 100 && i.n_layer > 0 && i.n_params > 1000 && i.file_bytes > i.weight_bytes);
  OK(tern_model_meta_count(m, &count));
  CHECK(count > 5);
  OK(tern_model_meta_at(m, 0, &key, &key_len, text, sizeof text, &n));
  CHECK(key && key_len > 0);
  CHECK(tern_model_meta_at(m, count, &key, &key_len, text, sizeof text, &n) == TERN_ERR_NOT_FOUND);
  OK(tern_model_meta_get(m, "general.architecture", TERN_NUL_TERMINATED, text, sizeof text, &n));
  CHECK(strncmp(text, "bitnet", 6) == 0);
  OK(tern_model_chat_template(m, text, sizeof text, &n));
  CHECK(strstr(text, "messages"));
}

static void vocabulary(const tern_model *m) {
  const char *said = "Hello w\xc3\xb6rld \xf0\x9f\x99\x82 ok";
  tern_detok *d = NULL;
  const char *piece = NULL;
  size_t i, len = 0, count = 0;
  int32_t yes = -1;
  OK(tern_tokenize(m, said, TERN_NUL_TERMINATED, 0, NULL, 0, &count));
  OK(tern_tokenize(m, said, strlen(said), 0, ids, 512, &n));
  CHECK(n == count && n > 0);
  OK(tern_detokenize(m, ids, n, 0, text, sizeof text, &len));
  CHECK(len == strlen(said) && strcmp(text, said) == 0);
  OK(tern_detok_new(m, TERN_DETOK_RENDER_SPECIAL, &d));
  text[0] = 0;
  for (i = 0; i < n; i++) {
    OK(tern_detok_push(d, ids[i], &piece, &len));
    strncat(text, piece, len);
  }
  OK(tern_detok_finish(d, &piece, &len));
  CHECK(len == 0 && strcmp(text, said) == 0);
  tern_detok_free(d);
  OK(tern_token_to_piece(m, ids[0], 0, text, sizeof text, &len));
  CHECK(len > 0);
  OK(tern_token_is_eog(m, ids[0], &yes));
  CHECK(yes == 0);
  OK(tern_token_is_control(m, ids[0], &yes));
  CHECK(yes == 0);
}

static void chat(const tern_model *m) {
  tern_chat_options o;
  tern_message turns[2];
  memset(turns, 0, sizeof turns);
  turns[0].role = "system";
  turns[0].content = "Be brief.";
  turns[1].role = "user";
  turns[1].content = "Hi!!";
  turns[0].role_len = turns[0].content_len = turns[1].role_len = TERN_NUL_TERMINATED;
  turns[1].content_len = 3;
  tern_chat_options_init(&o, sizeof o);
  o.flags = TERN_CHAT_ADD_GENERATION_PROMPT;
  OK_E(tern_chat_apply_template(m, turns, sizeof turns[0], 2, &o, text, sizeof text, &n, &error));
  CHECK(strstr(text, "Be brief.") && strstr(text, "Hi!") && !strstr(text, "Hi!!"));
  o.chat_template = "{% for m in messages %}<{{ m.role }}>{% endfor %}";
  o.chat_template_len = TERN_NUL_TERMINATED;
  OK_E(tern_chat_apply_template(m, turns, sizeof turns[0], 2, &o, text, sizeof text, &n, &error));
  CHECK(strcmp(text, "<system><user>") == 0);
}

static int jobs_run, rows_edited, samplers_released;
static void parallel_for(void *user_data, uint32_t count, tern_job_fn job, void *arg) {
  CHECK(user_data == &jobs_run);
  while (count-- > 0) { job(arg, count); jobs_run++; }
}
static void on_row(void *user_data, float *logits, size_t count) {
  CHECK(user_data == &rows_edited && count > 100 && logits[0] == logits[0]);
  rows_edited++;
}
static void on_sampler(void *user_data) { CHECK(user_data == &rows_edited); samplers_released++; }

static tern_context *context(const tern_model *m) {
  static const uint32_t cpus[1] = {0};
  tern_context *c = NULL, *d = NULL;
  tern_threadpool *pool = NULL;
  tern_threadpool_params tp;
  tern_context_params p;
  tern_threadpool_params_init(&tp, sizeof tp);
  tp.n_threads = 2;
  tp.spin_us = -1;
  tp.qos = TERN_QOS_UTILITY;
  tp.cpus = cpus;
  tp.n_cpus = 1;
  OK(tern_threadpool_new(&tp, &pool));
  tern_context_params_init(&p, sizeof p);
  p.n_ctx = 200;
  p.n_seq_max = 3;
  p.flags = TERN_CTX_EMBEDDINGS;
  p.threadpool = pool;
  OK_E(tern_context_new(m, &p, &c, &error));
  tern_threadpool_free(pool);

  tern_threadpool_params_init(&tp, sizeof tp);
  tp.n_threads = 3;
  tp.parallel_for = parallel_for;
  tp.parallel_for_user_data = &jobs_run;
  OK(tern_threadpool_new(&tp, &pool));
  p.threadpool = pool;
  OK_E(tern_context_new(m, &p, &d, &error));
  tern_threadpool_free(pool);
  OK(tern_tokenize(m, "Once upon a time", TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, ids, 512, &n));
  OK(tern_eval(d, ids, n, NULL, NULL));
#ifdef __SSE__
  {
    /* A host that flushes subnormals and rounds up, as audio code may: the same bits, and its mode comes back. */
    const unsigned mode = _mm_getcsr() & ~0x3fu, odd = mode | 0x8040 | _MM_ROUND_UP;
    _mm_setcsr(odd);
    OK(tern_eval(c, ids, n, NULL, NULL));
    same_rows(c, 0, d, 0);
    CHECK((_mm_getcsr() & ~0x3fu) == odd);
    _mm_setcsr(mode);
  }
#else
  OK(tern_eval(c, ids, n, NULL, NULL));
#endif
  CHECK(jobs_run > 0);
  same_rows(c, 0, d, 0);
  tern_context_free(d);
  return c;
}

static void eval(tern_context *c, const tern_cancel *cancel, const char *folder) {
  tern_eval_options o;
  tern_batch_item items[2] = {{5, 1, 1}, {6, 2, 1}};
  tern_token top[3];
  float logprobs[3], scores[4], probs[2], sum = 0;
  const float *values = NULL;
  const char *choices[2] = {" the", " dragon"};
  size_t i, done = 0, count = 0, index = 9, len = 0;
  uint32_t length = 0, before = 0;
  uint64_t freed = 0;
  void *blob;
  tern_eval_options_init(&o, sizeof o);
  o.cancel = cancel;
  o.budget_us = 1;
  OK(tern_seq_length(c, 0, &before));
  done = 0;
  while (done < n) {
    size_t now = 0;
    tern_status s = tern_eval(c, ids + done, n - done, &o, &now);
    if (s != TERN_PENDING) OK(s);
    done += now;
  }
  OK(tern_seq_length(c, 0, &length));
  CHECK(length == before + n);
  OK(tern_seq_common_prefix(c, 0, ids, n, &count));
  CHECK(count == n);
  OK(tern_eval_batch(c, items, sizeof items[0], 2, NULL, &done));
  CHECK(done == 2);
  OK(tern_logits(c, 1, &values, &count));
  CHECK(count > 100 && values[0] == values[0]);
  CHECK(tern_logits(c, 2, &values, &count) == TERN_ERR_NOT_FOUND);
  OK(tern_logprobs_top(c, 0, 3, top, logprobs, &count));
  CHECK(count == 3 && logprobs[0] >= logprobs[1] && logprobs[0] <= 0);
  OK(tern_embedding(c, 0, &values, &count));
  for (i = 0; i < count; i++) sum += values[i] * values[i];
  CHECK(fabsf(sum - 1.0f) < 1e-4f);
  tern_eval_options_init(&o, sizeof o);
  OK(tern_score(c, ids, 3, &o, NULL, 0, &count));
  CHECK(count == 3);
  OK(tern_score(c, ids, 3, &o, scores, 4, &count));
  CHECK(count == 3 && scores[0] <= 0 && scores[2] <= 0);
  OK(tern_choose(c, choices, NULL, 2, &o, &index, probs));
  CHECK(index < 2 && fabsf(probs[0] + probs[1] - 1.0f) < 1e-5f && probs[index] >= 0.5f);
  OK(tern_seq_length(c, 0, &length));
  CHECK(length == before + n);

  OK(tern_seq_clear(c, 1));
  OK(tern_seq_fork(c, 0, 1));
  OK(tern_seq_truncate(c, 1, 3));
  OK(tern_seq_shift(c, 1, 1, 1));
  OK(tern_seq_length(c, 1, &length));
  CHECK(length == 2);
  OK(tern_seq_state_save(c, 0, NULL, 0, &len));
  blob = malloc(len);
  CHECK(blob);
  OK(tern_seq_state_save(c, 0, blob, len, &len));
  OK(tern_seq_state_load(c, 2, blob, len));
  free(blob);
  OK(tern_seq_length(c, 2, &length));
  CHECK(length == before + n);
  snprintf(text, sizeof text, "%s/prompt.tern", folder);
  OK_E(tern_seq_prefix_save(c, 0, text, &error));
  OK(tern_seq_clear(c, 1));
  OK_E(tern_seq_prefix_map(c, 1, text, &error));
  OK(tern_seq_common_prefix(c, 1, ids, n, &count));
  CHECK(count == n);
  OK(tern_seq_clear(c, 2));
  OK(tern_context_trim(c, TERN_TRIM_SCRATCH, NULL));
  OK(tern_context_trim(c, TERN_TRIM_KV, &freed));
  CHECK(freed > 0);
  OK(tern_seq_truncate(c, 0, before));
  OK(tern_eval(c, ids, n, NULL, NULL));
}

static tern_grammar *grammar(const tern_model *m) {
  tern_grammar *g = NULL;
  OK_E(tern_grammar_compile(m, TERN_GRAMMAR_JSON, NULL, 0, &g, &error));
  tern_grammar_free(g);
  OK_E(tern_grammar_compile(m, TERN_GRAMMAR_CHOICE, "[\"red\", \"green\"]", TERN_NUL_TERMINATED, &g, &error));
  CHECK(tern_grammar_retain(g) == g && tern_grammar_retain(NULL) == NULL);
  tern_grammar_free(g);
  return g;
}

static void sampling(tern_context *c, const tern_grammar *g) {
  const tern_logit_bias bias[2] = {{3, 0.5f}, {4, -INFINITY}};
  tern_sampler *s = NULL, *clone = NULL;
  const float *values = NULL;
  size_t count = 0;
  tern_token a = -1, b = -1;
  float logprob = 1;
  OK(tern_sampler_new(7, &s));
  OK(tern_sampler_sample(s, c, 0, &a));
  OK(tern_logprobs_top(c, 0, 1, &b, &logprob, &count));
  CHECK(a == b);
  OK(tern_sampler_add_logit_bias(s, bias, sizeof bias[0], 2));
  OK(tern_sampler_add_penalties(s, 64, 1.1f, 0.1f, 0.1f));
  OK(tern_sampler_add_dry(s, 0.8f, 1.75f, 2, -1));
  OK(tern_sampler_add_top_k(s, 40));
  OK(tern_sampler_add_typical(s, 0.99f, 1));
  OK(tern_sampler_add_top_p(s, 0.95f, 1));
  OK(tern_sampler_add_min_p(s, 0.01f, 1));
  OK(tern_sampler_add_top_n_sigma(s, 8));
  OK(tern_sampler_add_xtc(s, 0.1f, 0.2f, 1));
  OK(tern_sampler_add_temp(s, 0.9f));
  OK(tern_sampler_add_temp_dynamic(s, 1, 0.2f, 1));
  OK(tern_sampler_add_mirostat_v2(s, 5, 0.1f));
  OK(tern_sampler_add_custom(s, on_row, on_sampler, &rows_edited));
  OK(tern_sampler_accept(s, 5));
  OK(tern_sampler_clone(s, &clone));
  OK(tern_sampler_sample(s, c, 0, &a));
  OK(tern_logits(c, 0, &values, &count));
  OK(tern_sampler_sample_logits(clone, values, count, &b));
  CHECK(a == b && a >= 0 && rows_edited == 2);
  OK(tern_sampler_reset(s));
  OK(tern_sampler_add_grammar(s, g));
  OK(tern_sampler_sample(s, c, 0, &a));
  tern_sampler_free(s);
  CHECK(samplers_released == 0);
  tern_sampler_free(clone);
  CHECK(samplers_released == 1);
}

static void session(const tern_model *m, const tern_grammar *g, const tern_cancel *cancel) {
  static struct said first, again;
  static const char *stop[1] = {"\n"};
  tern_session *s = NULL, *fork = NULL, *back = NULL;
  tern_session_params p;
  tern_generate_options o;
  tern_chunk chunk;
  tern_message turn;
  tern_context *c = NULL;
  tern_status status;
  uint32_t length = 0;
  size_t len = 0;
  void *blob;
  tern_session_params_init(&p, sizeof p);
  p.instructions = "You tell short stories.";
  p.instructions_len = TERN_NUL_TERMINATED;
  p.on_full = TERN_ON_FULL_DROP_TURNS;
  OK_E(tern_session_new(m, &p, &s, &error));
  OK(tern_session_prewarm(s, cancel));
  OK(tern_session_context(s, &c));
  OK(tern_seq_length(c, 0, &length));
  CHECK(length > 0);
  tern_context_free(c); /* it is the session's: nothing happens */
  tern_generate_options_init(&o, sizeof o);
  o.max_tokens = 24;
  o.stop = stop;
  o.n_stop = 1;
  o.draft = TERN_DRAFT_PROMPT_LOOKUP;
  o.cancel = cancel;
  OK(tern_session_fork(s, &fork));
  OK_E(tern_session_respond(s, "A story!", 7, &o, hear, &first, &error));
  CHECK(first.len > 0 && first.finish != TERN_FINISH_NONE);
  o.draft = TERN_DRAFT_NONE;
  OK_E(tern_session_start(fork, "A story", TERN_NUL_TERMINATED, &o, &error));
  tern_chunk_init(&chunk, sizeof chunk);
  do {
    status = tern_session_next(fork, 1, &chunk);
    CHECK(status == TERN_OK || status == TERN_PENDING || status == TERN_DONE);
    hear(&again, &chunk);
  } while (status != TERN_DONE);
  CHECK(strcmp(first.text, again.text) == 0);
  OK(tern_session_stop(fork));
  tern_session_free(fork);

  OK(tern_session_transcript_to_json(s, text, sizeof text, &n));
  CHECK(strncmp(text, "[{\"role\":\"system\"", 17) == 0);
  OK_E(tern_session_transcript_from_json(s, text, n, &error));
  OK(tern_session_save(s, NULL, 0, &len));
  blob = malloc(len);
  CHECK(blob);
  OK(tern_session_save(s, blob, len, &len));
  OK_E(tern_session_restore(m, blob, len, NULL, &back, &error));
  free(blob);
  memset(&turn, 0, sizeof turn);
  turn.role = "user";
  turn.role_len = 4;
  turn.content = "Red or green?";
  turn.content_len = TERN_NUL_TERMINATED;
  OK_E(tern_session_set_messages(back, &turn, sizeof turn, 1, &error));
  o.grammar = g;
  memset(&first, 0, sizeof first);
  OK_E(tern_session_respond(back, NULL, 0, &o, hear, &first, &error));
  CHECK(strcmp(first.text, "red") == 0 || strcmp(first.text, "green") == 0);
  tern_session_free(back);
  tern_session_free(s);
}

int main(int argc, char **argv) {
  tern_cancel *cancel = NULL;
  tern_model *m;
  tern_context *c;
  tern_grammar *g;
  tern_perf perf;
  CHECK(argc == 3);
  tern_log_set(on_log, &messages_logged, TERN_LOG_DEBUG);
  library();
  OK(tern_cancel_new(&cancel));
  tern_cancel_set(cancel);
  CHECK(tern_model_load_from_file(argv[1], NULL, NULL, NULL) == TERN_ERR_INVALID_ARGUMENT);
  tern_cancel_reset(cancel);
  m = load(argv[1], argv[2], cancel);
  convert(m, argv[2]);
  info(m);
  vocabulary(m);
  chat(m);
  g = grammar(m);
  session(m, g, cancel);
  c = context(m);
  tern_model_free(m);
  eval(c, cancel, argv[2]);
  tern_cancel_free(cancel);
  sampling(c, g);
  tern_grammar_free(g);
  tern_perf_init(&perf, sizeof perf);
  OK(tern_context_perf(c, &perf));
  CHECK(perf.load_us > 0 && perf.n_prefill > 0 && perf.peak_heap_bytes > 0);
  OK(tern_context_perf_reset(c));
  OK(tern_context_perf(c, &perf));
  CHECK(perf.n_prefill == 0 && perf.load_us > 0);
  tern_context_free(c);
  CHECK(messages_logged > 0);
  tern_log_set(NULL, NULL, 0);
  return 0;
}
