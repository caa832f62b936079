/* What tern says of itself and of a model: counters, log, self-test, system info, metadata, templates: report MODEL FOLDER. */
#include "check.h"
#include <pthread.h>

static tern_model *m;
static char text[1 << 16];
static size_t n;

static void library(void) {
  char small[8];
  size_t need = 0;
  int i;
  CHECK(tern_version_number() == TERN_VERSION_NUMBER);
  snprintf(small, sizeof small, "%d.%d.%d", TERN_VERSION_MAJOR, TERN_VERSION_MINOR, TERN_VERSION_PATCH);
  CHECK(strcmp(tern_version_string(), small) == 0);
  for (i = TERN_ERR_NOT_FOUND; i <= TERN_PENDING; i++) CHECK(strncmp(tern_status_name(i), "TERN_", 5) == 0 && strcmp(tern_status_name(i), "TERN_?") != 0);
  CHECK(strcmp(tern_status_name(INT32_MIN), "TERN_?") == 0);
  OK(tern_system_info(NULL, 0, &need));
  memset(small, 'x', sizeof small);
  IS(TERN_ERR_BUFFER_TOO_SMALL, tern_system_info(small, sizeof small, &n));
  CHECK(n == need);
  memset(text, 'x', sizeof text);
  OK(tern_system_info(text, need, &n)); /* exactly: no room for a NUL, none is written */
  CHECK(n == need && text[0] == '{' && text[n - 1] == '}' && text[n] == 'x');
  OK(tern_system_info(text, need + 1, &n));
  CHECK(text[n] == 0 && strstr(text, "\"features\"") && strstr(text, "\"scalar\"") && strstr(text, tern_version_string()));
  for (i = 0; i < 3; i++) OK_E(tern_self_test(&error));
}

/* The log is silent unless set, and silent again when it is taken back. */
struct heard { int total, levels[4]; char last[512]; };
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static void on_log(void *user_data, int32_t level, const char *utf8, size_t len) {
  struct heard *h = (struct heard *)user_data;
  CHECK(level >= TERN_LOG_DEBUG && level <= TERN_LOG_ERROR && len > 0);
  CHECK(pthread_mutex_lock(&guard) == 0);
  h->total++;
  h->levels[level]++;
  snprintf(h->last, sizeof h->last, "%.*s", (int)len, utf8);
  CHECK(pthread_mutex_unlock(&guard) == 0);
  /* tern may be called from here; what it logs meanwhile is dropped */
  CHECK(tern_version_number() > 0);
  IS(TERN_ERR_INVALID_ARGUMENT, tern_system_info(NULL, 5, &n));
}

static void logged(const char *path) {
  static struct heard all, loud;
  tern_model *other = NULL;
  int before;
  tern_log_set(on_log, &all, TERN_LOG_DEBUG);
  OK_E(tern_model_load_from_file(path, NULL, &other, &error));
  tern_model_free(other);
  CHECK(all.levels[TERN_LOG_INFO] > 0 && strstr(all.last, "kernels"));
  before = all.levels[TERN_LOG_DEBUG];
  IS(TERN_ERR_INVALID_ARGUMENT, tern_tokenize(m, "\xff", 1, 0, NULL, 0, &n));
  CHECK(all.levels[TERN_LOG_DEBUG] > before && strstr(all.last, "UTF-8"));
  /* only what matters, with another listener */
  tern_log_set(on_log, &loud, TERN_LOG_WARN);
  before = all.total;
  OK_E(tern_model_load_from_file(path, NULL, &other, &error));
  tern_model_free(other);
  CHECK(all.total == before && loud.total == 0);
  tern_log_set(NULL, NULL, 0);
  IS(TERN_ERR_INVALID_ARGUMENT, tern_tokenize(m, "\xff", 1, 0, NULL, 0, &n));
  CHECK(all.total == before && loud.total == 0);
}

static void errors(void) {
  tern_error *error = NULL;
  tern_model *none = NULL;
  IS(TERN_ERR_IO, tern_model_load_from_file("/no/such/model.gguf", NULL, &none, &error));
  CHECK(tern_error_code(error) == TERN_ERR_IO && strstr(tern_error_message(error), "/no/such/model.gguf"));
  CHECK(!strchr(tern_error_message(error), '\n'));
  tern_error_free(error);
  /* an error may live on, and be read on another thread; and nobody has to take one */
  IS(TERN_ERR_IO, tern_model_load_from_file("/no/such/model.gguf", NULL, &none, NULL));
  CHECK(none == NULL && tern_error_code(NULL) == TERN_OK && tern_error_message(NULL)[0] == 0);
}

static void metadata(void) {
  tern_model_info info;
  size_t count = 0, i, found = 0;
  tern_model_info_init(&info, sizeof info);
  OK(tern_model_get_info(m, &info));
  CHECK(info.n_embd == 256 && info.n_head == 4 && info.n_head_kv == 2 && info.n_ctx_train == 512 && info.n_layer == 4);
  CHECK(info.bos >= 0 && info.eos >= 0 && info.eot >= 0 && info.eot < (tern_token)info.n_vocab);
  CHECK(info.n_params > 3000000 && info.weight_bytes < info.file_bytes && info.file_bytes == 1924736);
  OK(tern_model_meta_count(m, &count));
  for (i = 0; i < count; i++) {
    const char *key = NULL;
    char value[4096], again[4096];
    size_t key_len = 0, len = 0, len_again = 0;
    OK(tern_model_meta_at(m, i, &key, &key_len, NULL, 0, &len));
    if (len >= sizeof value) continue;
    OK(tern_model_meta_at(m, i, NULL, NULL, value, sizeof value, &len));
    OK(tern_model_meta_get(m, key, key_len, again, sizeof again, &len_again));
    CHECK(len == len_again && memcmp(value, again, len) == 0 && value[len] == 0);
    if (key_len == 20 && memcmp(key, "general.architecture", 20) == 0) {
      found++;
      CHECK(strcmp(value, "bitnet-b1.58") == 0);
    }
  }
  CHECK(found == 1);
  IS(TERN_ERR_NOT_FOUND, tern_model_meta_at(m, count, NULL, NULL, text, sizeof text, &n));
}

static void vocabulary(void) {
  static const char *texts[4] = {"", "Once upon a time, 2 dogs!", "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x99\x82", "\n\n\t  "};
  tern_model_info info;
  tern_token ids[128];
  int32_t yes = -1;
  size_t i, k;
  tern_model_info_init(&info, sizeof info);
  OK(tern_model_get_info(m, &info));
  for (i = 0; i < 4; i++) {
    tern_detok *d = NULL;
    const char *piece = NULL;
    size_t len = 0, total = 0;
    OK(tern_tokenize(m, texts[i], TERN_NUL_TERMINATED, 0, ids, 128, &k));
    OK(tern_detokenize(m, ids, k, 0, text, sizeof text, &len));
    CHECK(len == strlen(texts[i]) && strcmp(text, texts[i]) == 0);
    /* token by token: the same, in whole characters */
    OK(tern_detok_new(m, 0, &d));
    text[0] = 0;
    for (n = 0; n < k; n++) {
      OK(tern_detok_push(d, ids[n], &piece, &len));
      CHECK(len == 0 || ((unsigned char)piece[0] & 0xc0) != 0x80);
      memcpy(text + total, piece, len);
      total += len;
    }
    OK(tern_detok_finish(d, &piece, &len));
    CHECK(len == 0 && total == strlen(texts[i]) && memcmp(text, texts[i], total) == 0);
    tern_detok_free(d);
  }
  /* names of control tokens are text unless they are asked for */
  OK(tern_token_to_piece(m, info.eot, TERN_DETOK_RENDER_SPECIAL, text, sizeof text, &n));
  CHECK(n > 4);
  OK(tern_tokenize(m, text, n, TERN_TOK_PARSE_SPECIAL, ids, 128, &k));
  CHECK(k == 1 && ids[0] == info.eot);
  OK(tern_tokenize(m, text, n, 0, ids, 128, &k));
  CHECK(k > 1);
  OK(tern_tokenize(m, "a", 1, TERN_TOK_ADD_SPECIAL, ids, 128, &k));
  CHECK(k == 2 && ids[0] == info.bos);
  OK(tern_token_is_control(m, info.bos, &yes));
  CHECK(yes == 1);
  OK(tern_token_is_eog(m, info.eot, &yes));
  CHECK(yes == 1);
  OK(tern_token_to_piece(m, info.bos, 0, text, sizeof text, &n));
  CHECK(n == 0);
}

static void templates(void) {
  tern_message turns[3];
  tern_chat_options o;
  size_t i;
  memset(turns, 0, sizeof turns);
  for (i = 0; i < 3; i++) {
    turns[i].role = i == 1 ? "assistant" : "user";
    turns[i].content = i == 0 ? "One?" : i == 1 ? "Two." : "Three!";
    turns[i].role_len = turns[i].content_len = TERN_NUL_TERMINATED;
  }
  tern_chat_options_init(&o, sizeof o);
  OK_E(tern_chat_apply_template(m, turns, sizeof turns[0], 3, &o, text, sizeof text, &n, &error));
  CHECK(strcmp(text, "User: One?<|eot_id|>Assistant: Two.<|eot_id|>User: Three!<|eot_id|>") == 0 ||
        strcmp(text, "<|begin_of_text|>User: One?<|eot_id|>Assistant: Two.<|eot_id|>User: Three!<|eot_id|>") == 0);
  o.flags = TERN_CHAT_ADD_GENERATION_PROMPT;
  OK_E(tern_chat_apply_template(m, turns, sizeof turns[0], 3, &o, text, sizeof text, &n, &error));
  CHECK(n > 11 && strcmp(text + n - 11, "Assistant: ") == 0);
  o.chat_template = "{% for m in messages if m.role == 'user' %}[{{ m.content | upper }}]{% endfor %}";
  o.chat_template_len = TERN_NUL_TERMINATED;
  OK_E(tern_chat_apply_template(m, turns, sizeof turns[0], 3, &o, text, sizeof text, &n, &error));
  CHECK(strcmp(text, "[ONE?][THREE!]") == 0);
}

static void counters(void) {
  tern_context *c = NULL;
  tern_sampler *s = NULL;
  tern_perf perf;
  tern_token ids[64], t;
  size_t i, k = 0;
  OK_E(tern_context_new(m, NULL, &c, &error));
  OK(tern_sampler_new(0, &s));
  OK(tern_tokenize(m, "The cat sat on the big mat and", TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, ids, 64, &k));
  OK(tern_eval(c, ids, k, NULL, NULL));
  for (i = 0; i < 5; i++) {
    OK(tern_sampler_sample(s, c, 0, &t));
    OK(tern_eval(c, &t, 1, NULL, NULL));
  }
  tern_perf_init(&perf, sizeof perf);
  OK(tern_context_perf(c, &perf));
  CHECK(perf.n_prefill == k && perf.n_decode == 5 && perf.prefill_us > 0 && perf.decode_us > 0);
  CHECK(perf.first_token_us >= perf.prefill_us && perf.load_us > 0 && perf.n_drafted == 0 && perf.peak_heap_bytes > 10000);
  OK(tern_context_perf_reset(c));
  OK(tern_context_perf(c, &perf));
  CHECK(perf.n_prefill == 0 && perf.n_decode == 0 && perf.decode_us == 0 && perf.first_token_us == 0 && perf.load_us > 0);
  /* an older host's struct: no more is written than it has */
  memset(&perf, 0x77, sizeof perf);
  perf.size = offsetof(tern_perf, n_prefill);
  OK(tern_context_perf(c, &perf));
  CHECK(perf.prefill_us == 0 && perf.n_prefill == UINT64_C(0x7777777777777777));
  tern_sampler_free(s);
  tern_context_free(c);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  library();
  errors();
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  logged(argv[1]);
  metadata();
  vocabulary();
  templates();
  counters();
  tern_model_free(m);
  return 0;
}
